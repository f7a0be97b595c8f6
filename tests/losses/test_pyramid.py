import ast
import importlib.util
import re
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from topographic.losses import pyramid
from topographic.losses.blurs import BLURS
from topographic.losses.pyramid import laplacian_pyramid_loss, sheet_shape

GOLDEN = {
    "linear_144x32_f3": "output",
    "linear_384x16_f3": "output",
    "linear_30x25_f2": "output",
    "conv_64x16x3x3_f4": "output",
    "input_20x144_f3": "input",
    "bias_144_f3": "bias",
}


@pytest.fixture
def unchecked(monkeypatch):
    """The module without the type checks of the test run, which stop compiled graphs and forbid unknown names."""
    spec = importlib.util.spec_from_file_location("unchecked_pyramid", pyramid.__file__)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where the compiler looks up its globals
    spec.loader.exec_module(module)
    return module


def random_weight(generator, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()


def loss_and_gradient(weight, *arguments, **options):
    loss = laplacian_pyramid_loss(weight, *arguments, **options)
    (gradient,) = torch.autograd.grad(loss, weight)
    return loss, gradient


def transcribed_loss(sheet, factor):
    """1 - mean cosine of a sheet (rows, columns, depth) by the framework's own interpolation."""
    image = sheet.permute(2, 0, 1)[None]
    small = F.interpolate(image, scale_factor=(1 / factor[0], 1 / factor[1]), mode="bilinear")
    blurred = F.interpolate(small, size=sheet.shape[:2], mode="bilinear")[0].permute(1, 2, 0)
    return 1 - F.cosine_similarity(sheet, blurred, dim=-1).mean()


def interpolation_matrix(length, factor):
    """Blur of one axis (length, length), by blurring every unit vector."""
    small = F.interpolate(torch.eye(length).double()[None], scale_factor=1 / factor, mode="linear")
    return F.interpolate(small, size=length, mode="linear")[0].T


@pytest.mark.parametrize("name", GOLDEN)
def test_loss_and_gradient_equal_golden_values(shared, name):
    golden, kind = np.load(shared / "golden" / "topoloss.npz"), GOLDEN[name]
    weight = torch.tensor(golden[f"{name}_{'bias' if kind == 'bias' else 'weight'}"]).requires_grad_()
    loss, gradient = loss_and_gradient(weight, tuple(golden[f"{name}_factor"]), kind)
    assert loss.item() == pytest.approx(float(golden[f"{name}_loss"]), abs=1e-9)
    np.testing.assert_allclose(gradient.numpy(), golden[f"{name}_grad"], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("shape", "factor", "published"),
    [
        ((48, 64), 2.0, 0.5482),
        ((48, 64), 3.0, 0.8938),
        ((48, 64), 4.0, 0.8773),
        ((48, 64), 8.0, 0.9689),
        ((16, 16), 3.0, 0.9073),
        ((16, 16), 4.0, 0.8769),
        ((16, 32), 3.0, 0.9185),
        ((25, 40), 3.0, 0.9017),
        ((8, 8), 3.0, 0.9461),
    ],
)
def test_initial_loss_is_what_theory_predicts(generator, shape, factor, published):
    own_share = [(a.diagonal() / a.norm(dim=1)).mean() for a in (interpolation_matrix(n, factor) for n in shape)]
    predicted = 1 - float(own_share[0] * own_share[1])
    assert predicted == pytest.approx(published, abs=5e-5)
    weight = torch.randn(shape[0] * shape[1], 768, generator=generator)
    # one standard deviation of the mean of that many cosines, four times
    tolerance = 4 / (768 * shape[0] * shape[1]) ** 0.5 * factor
    assert laplacian_pyramid_loss(weight, factor).item() == pytest.approx(predicted, abs=tolerance)


@pytest.mark.parametrize("shape", [(8, 8), (15, 16), (25, 32), (9, 40), (7, 11)])
@pytest.mark.parametrize("factor", [(2.0, 2.0), (3.0, 3.0), (4.0, 2.5), (1.0, 7.0), (5.0, 3.0)])
def test_equals_interpolation_of_the_framework(generator, shape, factor):
    weight = random_weight(generator, shape[0] * shape[1], 5)
    expected = transcribed_loss(weight.reshape(*shape, 5), factor)
    loss, gradient = loss_and_gradient(weight, factor, shape=shape)
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, weight)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("blur", BLURS)
def test_blur_keeps_what_is_smooth(generator, blur):
    one_direction = torch.randn(1, 6, generator=generator, dtype=torch.float64).expand(150, 6)
    assert laplacian_pyramid_loss(one_direction, (3.0, 4.0), blur=blur).item() == pytest.approx(0, abs=1e-12)
    assert laplacian_pyramid_loss(random_weight(generator, 150, 400), (3.0, 4.0), blur=blur).item() > 0.3


@pytest.mark.parametrize("blur", BLURS)
@pytest.mark.parametrize("kind", ["output", "input", "bias"])
@pytest.mark.parametrize("layout", [{}, {"shape": (3, 5)}, {"shape": (3, 5), "order": tuple(range(13, 1, -1))}])
def test_gradient_by_finite_differences(generator, blur, kind, layout):
    shape = {"output": (12, 3), "input": (3, 12), "bias": (12,)}[kind]
    weight = random_weight(generator, *shape)
    assert torch.autograd.gradcheck(
        lambda weight: laplacian_pyramid_loss(weight, (3.0, 2.0), kind, blur=blur, **layout), (weight,)
    )


def test_input_sheet_is_the_output_sheet_of_the_transposed_weight(generator):
    weight = random_weight(generator, 20, 48)
    loss, gradient = loss_and_gradient(weight, 2.0, "input")
    expected, expected_gradient = loss_and_gradient(weight.detach().T.clone().requires_grad_(), 2.0, "output")
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, expected_gradient.T)
    assert loss != laplacian_pyramid_loss(weight, 2.0, "output")


def test_kernels_are_depth(generator):
    weight = random_weight(generator, 24, 6, 2, 3)
    output = transcribed_loss(weight.reshape(4, 6, 36), (2.0, 2.0))
    torch.testing.assert_close(laplacian_pyramid_loss(weight, 2.0), output)
    inputs = transcribed_loss(weight.transpose(0, 1).reshape(2, 3, 24 * 6), (2.0, 3.0))
    torch.testing.assert_close(laplacian_pyramid_loss(weight, (2.0, 3.0), "input"), inputs)


def padded_reference(weight, shape, cell_of_unit, factor):
    """Normalised convolution with full matrices, one unit at a time."""
    a = torch.kron(interpolation_matrix(shape[0], factor), interpolation_matrix(shape[1], factor))
    a = a[cell_of_unit][:, cell_of_unit]
    reached = a.sum(1) > 1e-12
    return (a / torch.where(reached, a.sum(1), 1.0)[:, None]) @ weight, reached


@pytest.mark.parametrize("shape", [(5, 7), (6, 8), (4, 20)])
def test_padding_is_left_out_of_blur_and_mean(generator, shape):
    weight, bias = random_weight(generator, 31, 4), random_weight(generator, 31)
    blurred, reached = padded_reference(weight, shape, torch.arange(31), 3.0)
    expected = 1 - F.cosine_similarity(weight, blurred)[reached].mean()
    torch.testing.assert_close(laplacian_pyramid_loss(weight, shape=shape), expected)
    blurred, reached = padded_reference(bias, shape, torch.arange(31), 3.0)
    expected = 1 - F.cosine_similarity(bias[reached], blurred[reached], dim=0)
    torch.testing.assert_close(laplacian_pyramid_loss(bias, kind="bias", shape=shape), expected)


def test_units_that_only_padding_would_blur_do_not_count(generator):
    # at factor 3 rows 1 and 4 of six are read: those of rows 0 and 1 stand for row 1, which is empty here
    order = (*range(9), *range(36, 45))
    weight = random_weight(generator, 18, 4)
    blurred, reached = padded_reference(weight, (6, 9), torch.tensor(order), 3.0)
    assert 0 < reached.sum() < 18
    loss = laplacian_pyramid_loss(weight, shape=(6, 9), order=order)
    torch.testing.assert_close(loss, 1 - F.cosine_similarity(weight, blurred)[reached].mean())
    with pytest.raises(ValueError, match="no unit has a blurred self: 9 units on 6 x 9 cells"):
        laplacian_pyramid_loss(weight[:9], shape=(6, 9))


@pytest.mark.parametrize("kind", ["output", "bias"])
def test_padding_does_not_make_a_constant_sheet_rough(kind):
    weight = torch.ones(31, 4) if kind == "output" else torch.ones(31)
    assert laplacian_pyramid_loss(weight, kind=kind, shape=(5, 7)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["output", "bias"])
def test_order_puts_units_in_cells(generator, kind):
    cell_of_unit = torch.randperm(48, generator=generator)
    weight = random_weight(generator, 48, 5) if kind == "output" else random_weight(generator, 48)
    laid_out = torch.empty_like(weight)
    laid_out[cell_of_unit] = weight.detach()
    expected, expected_gradient = loss_and_gradient(laid_out.requires_grad_(), 2.0, kind)
    for order in (cell_of_unit, cell_of_unit.tolist(), tuple(cell_of_unit.tolist())):
        loss, gradient = loss_and_gradient(weight, 2.0, kind, order=order)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(gradient, expected_gradient[cell_of_unit])
    assert abs(loss - laplacian_pyramid_loss(weight, 2.0, kind)) > 1e-4


@pytest.mark.parametrize("kind", ["output", "input", "bias"])
def test_all_zero_weights_have_loss_one_and_gradient_zero(kind):
    weight = torch.zeros(*((36,) if kind == "bias" else (36, 36)), requires_grad=True)
    loss, gradient = loss_and_gradient(weight, 2.0, kind)
    assert loss.item() == 1
    assert (gradient == 0).all()


def test_dead_unit_does_not_make_the_gradient_explode(generator):
    weight = random_weight(generator, 36, 8)
    weight.data[[0, 14]] = 0  # 14 is read by the blur at factor 3, 0 is not
    loss, gradient = loss_and_gradient(weight, 3.0)
    expected = transcribed_loss(weight.reshape(6, 6, 8), (3.0, 3.0))
    torch.testing.assert_close(loss, expected)
    (exploded,) = torch.autograd.grad(expected, weight)
    assert exploded.abs().max() > 1e3
    assert gradient.abs().max() < 1
    others = [unit for unit in range(36) if unit not in (0, 14)]
    torch.testing.assert_close(gradient[others], exploded[others])


def test_bias_without_blurred_self_has_loss_one_and_gradient_zero():
    bias = torch.zeros(36, requires_grad=True)
    bias.data[0] = 1.0  # factor 3 reads rows and columns 1 and 4 only
    loss, gradient = loss_and_gradient(bias, 3.0, "bias")
    assert loss.item() == 1
    assert (gradient == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["output", "bias"])
def test_half_precision_is_compared_in_float32(generator, dtype, kind):
    weight = random_weight(generator, *((384, 40) if kind == "output" else (384,)), dtype=torch.float32).detach()
    half = weight.to(dtype).requires_grad_()
    loss, gradient = loss_and_gradient(half, 3.0, kind)
    exact, exact_gradient = loss_and_gradient(half.detach().double().requires_grad_(), 3.0, kind)
    assert loss.dtype == torch.float32
    assert gradient.dtype == dtype
    assert loss.item() == pytest.approx(exact.item(), abs=2e-6)
    torch.testing.assert_close(gradient.double(), exact_gradient, rtol=1e-2, atol=1e-6)


def test_autocast_changes_nothing(generator):
    weight = random_weight(generator, 384, 40, dtype=torch.float32)
    expected, expected_gradient = loss_and_gradient(weight, 3.0)
    with torch.autocast("cpu", torch.bfloat16):
        loss, gradient = loss_and_gradient(weight, 3.0)  # backward inside autocast as well
    assert torch.equal(loss, expected)
    assert torch.equal(gradient, expected_gradient)


@pytest.mark.parametrize(
    ("kind", "layout"), [("output", {}), ("bias", {}), ("input", {"shape": (7, 5), "order": tuple(range(34, 2, -1))})]
)
def test_survives_compilation_in_one_graph(generator, unchecked, kind, layout):
    shape = {"output": (32, 3), "input": (3, 32), "bias": (32,)}[kind]
    weight = nn.Parameter(random_weight(generator, *shape).detach())
    torch.compiler.reset()
    compiled = torch.compile(
        lambda weight: unchecked.laplacian_pyramid_loss(weight, (2.0, 3.0), kind, **layout),
        backend="aot_eager",
        fullgraph=True,
    )
    loss = compiled(weight)  # before any other call: what is cached must not be what the compiler traces with
    (gradient,) = torch.autograd.grad(loss, weight)
    for function in (unchecked.laplacian_pyramid_loss, laplacian_pyramid_loss):
        expected = function(weight, (2.0, 3.0), kind, **layout)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(gradient, torch.autograd.grad(expected, weight)[0])


def test_adds_to_a_task_loss_under_data_parallel_training(generator, process_group):
    model = nn.Linear(5, 36)
    inputs = torch.randn(7, 5, generator=generator)
    (model(inputs).square().mean() + laplacian_pyramid_loss(model.weight, 2.0)).backward()
    expected = model.weight.grad.clone()
    model.zero_grad()
    wrapped = DistributedDataParallel(model)
    (wrapped(inputs).square().mean() + laplacian_pyramid_loss(wrapped.module.weight, 2.0)).backward()
    torch.testing.assert_close(model.weight.grad, expected)


def test_descending_the_loss_makes_weights_smooth(generator):
    weight = random_weight(generator, 144, 20)
    optimizer = torch.optim.Adam([weight], lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        laplacian_pyramid_loss(weight, 3.0).backward()
        optimizer.step()
    assert laplacian_pyramid_loss(weight, 3.0) < 0.05
    sheet = weight.detach().reshape(12, 12, 20)
    assert F.cosine_similarity(sheet[1:], sheet[:-1], dim=-1).mean() > 0.7


@pytest.mark.parametrize("blur", BLURS)
def test_second_derivative_by_finite_differences(generator, blur):
    weight = random_weight(generator, 12, 3)
    assert torch.autograd.gradgradcheck(lambda weight: laplacian_pyramid_loss(weight, 2.0, blur=blur), (weight,))


def test_function_transforms_see_through(generator):
    """Gradients, batches and batches of gradients as torch.func makes them."""
    weights = torch.randn(3, 12, 4, generator=generator, dtype=torch.float64)
    losses, gradients = zip(*(loss_and_gradient(each.clone().requires_grad_(), 2.0) for each in weights), strict=True)

    def loss(weight):
        return laplacian_pyramid_loss(weight, 2.0)

    torch.testing.assert_close(torch.func.grad(loss)(weights[0]), gradients[0])
    torch.testing.assert_close(torch.func.vmap(loss)(weights), torch.stack(losses))
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(weights), torch.stack(gradients))


def test_lists_are_as_good_as_tuples(generator):
    weight = random_weight(generator, 16, 3)
    expected = laplacian_pyramid_loss(weight, (2.0, 3.0), shape=(3, 6))
    assert laplacian_pyramid_loss(weight, [2.0, 3.0], shape=[3, 6]) == expected
    assert laplacian_pyramid_loss(weight, [2.0, 3.0], shape=torch.Size([3, 6])) == expected


@pytest.mark.parametrize("blur", BLURS)
@pytest.mark.parametrize("factor", [(3.0, 3.0), (2.0, 2.0), (2.5, 4.0), (9.0, 1.0), (49.0, 49.0), (1e12, 1e12)])
def test_advice_for_units_that_fill_no_sheet_can_be_followed(generator, unchecked, blur, factor):
    for n_units in (2, 3, 5, 7, 11, 13, 31, 101, 103, 1009):
        weight = torch.randn(n_units, 4, generator=generator)
        with pytest.raises(ValueError, match=f"{n_units} units fill no sheet but 1 x {n_units}; pass shape=") as error:
            unchecked.laplacian_pyramid_loss(weight, factor, blur=blur)
        assert "\n" not in str(error.value)
        advised = dict(re.findall(r"(shape|factor)=(\(.*?\))", str(error.value)))
        options = {"factor": factor} | {name: ast.literal_eval(value) for name, value in advised.items()}
        assert -1e-6 < unchecked.laplacian_pyramid_loss(weight, blur=blur, **options) <= 2
        assert options["factor"] != (1, 1)
        assert "factor" not in advised or options["shape"][0] == 1  # a line only where no padding helps


@pytest.mark.parametrize(
    ("n_units", "advice"), [(7, r"\(3, 3\)"), (13, r"\(3, 5\)"), (2, r"\(1, 2\) and factor=\(1, 2\)")]
)
def test_sheet_shape_gives_the_same_advice(n_units, advice):
    with pytest.raises(ValueError, match=f"{n_units} units fill no sheet but 1 x {n_units}; pass .*shape={advice}"):
        sheet_shape(n_units)
    with pytest.raises(ValueError, match="n_units=1; expected a layer of at least 2 units: one has no neighbours"):
        sheet_shape(1)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_refuses_weights_that_are_no_floating_point_numbers(unchecked, dtype):
    with pytest.raises(TypeError, match=f"weight holds {dtype}; expected real numbers in floating point"):
        unchecked.laplacian_pyramid_loss(torch.ones(36, 4).to(dtype))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_parameters_stand_still_and_their_float32_masters_move(generator, dtype):
    """What the Notes say, with the step that `torch.optim.SGD` takes at 1e-3."""
    start = torch.randn(36, 8, generator=generator).to(dtype)
    half, master = start.clone().requires_grad_(), start.float().requires_grad_()
    before = laplacian_pyramid_loss(half).item()
    assert laplacian_pyramid_loss(master).item() == before  # the computation is that of float32, and no worse
    for weight in (half, master):
        optimizer = torch.optim.SGD([weight], lr=1e-3)
        for _ in range(50):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = laplacian_pyramid_loss(weight)
            loss.backward()
            optimizer.step()
    assert (half != start).float().mean() < 0.05
    assert abs(laplacian_pyramid_loss(half).item() - before) < 0.1 * (before - laplacian_pyramid_loss(master).item())


@pytest.mark.parametrize(
    ("n_units", "expected"),
    [
        (10, (2, 5)),
        (12, (3, 4)),
        (121, (11, 11)),
        (128, (8, 16)),
        (1000, (25, 40)),
        (3072, (48, 64)),
        (50304, (192, 262)),
    ],
)
def test_sheet_shape_is_nearly_square(n_units, expected):
    assert sheet_shape(n_units) == expected


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        ((13, 4), {}, r"13 units fill no sheet but 1 x 13; pass shape=, for example shape=\(3, 5\)"),
        ((10, 4), {}, "factor 3 is too large for the 2 rows of a 2 x 5 sheet"),
        ((10, 4), {"shape": (5, 2)}, "factor 3 is too large for the 2 columns of a 5 x 2 sheet"),
        ((49 * 50, 4), {"factor": 49.0}, "factor 49 is too large for the 49 rows"),
        ((36, 4), {"factor": (2.0, 0.5)}, "factor 0.5 along the columns; expected a finite number of at least 1"),
        ((36, 4), {"factor": 1}, "factor 1 along rows and columns blurs nothing; expected more than 1 along one axis"),
        ((1, 4), {}, "one unit has no neighbours to resemble; expected a layer of several: leave this one out"),
        ((1, 4), {"shape": (3, 3)}, "one unit has no neighbours"),
        ((36, 4), {"factor": float("nan")}, "factor nan along the rows"),
        ((36, 4), {"shape": (5, 7)}, r"shape=\(5, 7\) has 35 cells for 36 units"),
        ((36, 4), {"shape": (-6, -6)}, r"shape=\(-6, -6\)"),
        ((36, 4), {"order": (0, 1, 2)}, "order names 3 cells for 36 units"),
        ((36, 4), {"order": (*range(35), 36)}, "order holds cells 0 to 36, 36 of them different"),
        ((36, 4), {"order": (*range(35), 34)}, "order holds cells 0 to 34, 35 of them different"),
        (
            (36, 4),
            {"factor": (1, 2, 3)},
            r"factor=\(1, 2, 3\) holds 3 numbers; expected one, or two for rows and columns",
        ),
        ((36, 4), {"shape": (36,)}, r"shape=\(36,\) holds 1 numbers; expected two, rows and columns"),
        ((36, 4), {"blur": "box"}, "blur='box'; expected one of"),
        ((36, 4), {"kind": "columns"}, "kind='columns'; expected one of"),
        ((36, 4), {"kind": "bias"}, r"weight has shape \(36, 4\); kind='bias' needs \(units,\)"),
        ((36,), {}, r"weight has shape \(36,\); kind='output' needs \(out, in\)"),
        ((36, 0), {}, r"weight has shape \(36, 0\).* no empty axis"),
    ],
)
def test_refuses_what_does_not_fit(unchecked, size, options, message):
    with pytest.raises(ValueError, match=message):
        unchecked.laplacian_pyramid_loss(torch.ones(size), **options)
