import importlib.util
import sys
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode

import topographic.losses.spatial as spatial
from topographic.losses import spatial_correlation_loss
from topographic.sheets import (
    from_positions,
    global_neighborhoods,
    grid,
    local_neighborhoods,
    permuted_grid,
    sample_neighborhoods,
)
from topographic.sheets.geometry import NORMS

GOLDEN = [("spatial_loss_14x14_r5", 5), ("spatial_loss_12x12_r3", 3)]


def transcribed(activations, positions, neighborhood, norm="l2", period=None):
    """The equation of one neighbourhood, pair by pair, in numpy and scipy."""
    r, d = [], []
    for a, i in enumerate(neighborhood):
        for j in neighborhood[:a]:
            r.append(pearsonr(activations[:, i], activations[:, j]).statistic)
            step = np.abs(positions[i] - positions[j])
            if period is not None:
                step = np.minimum(step % period, period - step % period)
            d.append(1 / (1 + np.linalg.norm(step, {"l1": 1, "l2": 2, "linf": np.inf}[norm])))
    return (1 - pearsonr(r, d).statistic) / 2


def scattered(n_units=20, n_samples=30, seed=0):
    """Activations, positions that differ between axes, and overlapping neighbourhoods."""
    generator = torch.Generator().manual_seed(seed)
    activations = torch.randn(n_samples, n_units, generator=generator, dtype=torch.float64)
    positions_mm = torch.rand(n_units, 2, generator=generator, dtype=torch.float64) * torch.tensor([2.0, 9.0])
    rows = [torch.randperm(n_units, generator=generator)[:7] for _ in range(4)]
    return activations + 0.3 * activations[:, :1], positions_mm, torch.stack(rows)


def value_and_gradient(activations, *args, **kwargs):
    activations = activations.clone().requires_grad_()
    loss = spatial_correlation_loss(activations, *args, **kwargs)
    (gradient,) = torch.autograd.grad(loss.sum(), activations)
    return loss.detach(), gradient


@pytest.fixture(params=["one sheet at once", "all at once"])
def either_device(request, monkeypatch):
    """Take the path of a CPU, and that of a GPU."""
    if request.param == "all at once":
        monkeypatch.setattr(spatial, "_sheets_at_once", len)


@pytest.mark.parametrize(("name", "radius"), GOLDEN)
def test_equals_published_values_and_gradients(shared, name, radius):
    golden = np.load(shared / "golden" / f"{name}.npz")
    sheet = from_positions(torch.from_numpy(golden["positions_mm"]))(golden["positions_mm"].shape[0])
    activations = torch.from_numpy(golden["activations"]).double()
    every = local_neighborhoods(sheet, radius)
    losses = spatial_correlation_loss(activations, sheet.positions_mm, every, reduction="none")
    np.testing.assert_allclose(losses, golden["loss_per_centre"], rtol=0, atol=1e-9)
    mean, gradient = value_and_gradient(activations, sheet.positions_mm, every[:5])
    np.testing.assert_allclose(mean, golden["mean_loss_first5"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(gradient, golden["grad_mean_loss_first5"], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(("name", "radius"), GOLDEN)
def test_float32_is_close_to_published_gradients(shared, name, radius):
    golden = np.load(shared / "golden" / f"{name}.npz")
    sheet = from_positions(torch.from_numpy(golden["positions_mm"]))(golden["positions_mm"].shape[0])
    every = local_neighborhoods(sheet, radius)
    mean, gradient = value_and_gradient(torch.from_numpy(golden["activations"]), sheet.positions_mm, every[:5])
    assert mean.dtype == gradient.dtype == torch.float32
    np.testing.assert_allclose(mean, golden["mean_loss_first5"], atol=1e-6)
    expected = golden["grad_mean_loss_first5"]
    assert np.abs(gradient.numpy() - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("period_mm", [None, (2.5, 10.0)])
def test_equals_a_transcription_with_scipy(norm, period_mm):
    activations, positions_mm, neighborhoods = scattered()
    losses = spatial_correlation_loss(
        activations, positions_mm, neighborhoods, norm=norm, period_mm=period_mm, reduction="none"
    )
    expected = [
        transcribed(activations.numpy(), positions_mm.numpy(), row, norm, period_mm) for row in neighborhoods.tolist()
    ]
    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-12)


def test_a_torus_is_not_a_plane():
    activations, positions_mm, neighborhoods = scattered()
    plane = spatial_correlation_loss(activations, positions_mm, neighborhoods)
    torus = spatial_correlation_loss(activations, positions_mm, neighborhoods, period_mm=(2.5, 10.0))
    assert abs(plane - torus) > 1e-3


@pytest.mark.parametrize("masked", [False, True])
def test_gradient_is_the_numerical_one(masked, either_device):
    activations, positions_mm, _ = scattered(n_units=9, n_samples=8)
    neighborhoods = torch.stack([torch.randperm(9, generator=torch.Generator().manual_seed(i))[:5] for i in range(6)])
    mask = torch.tensor([1, 1, 0, 1, 1, 0, 1, 1]).bool() if masked else None
    stack = torch.stack([activations, activations.flip(0).exp()]).requires_grad_()

    def losses(stack):
        return spatial_correlation_loss(
            stack, positions_mm, neighborhoods.view(2, 3, 5), reduction="none", sample_mask=mask
        )

    assert torch.autograd.gradcheck(losses, stack)


def test_only_first_derivatives_are_given():
    activations, positions_mm, neighborhoods = scattered()
    activations.requires_grad_()
    loss = spatial_correlation_loss(activations, positions_mm, neighborhoods)
    (gradient,) = torch.autograd.grad(loss, activations, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradient.sum().backward()


def test_sheets_are_independent(either_device):
    parts = [scattered(seed=seed) for seed in range(6)]
    activations, positions_mm, neighborhoods = (torch.stack(each) for each in zip(*parts, strict=True))
    expected = torch.stack([spatial_correlation_loss(*part, reduction="none") for part in parts])
    stacked, gradient = value_and_gradient(activations, positions_mm, neighborhoods, reduction="none")
    torch.testing.assert_close(stacked, expected)
    torch.testing.assert_close(gradient, torch.stack([value_and_gradient(*part)[1] * 4 for part in parts]))
    listed = spatial_correlation_loss(list(activations), positions_mm, neighborhoods, reduction="none")
    torch.testing.assert_close(listed, expected)
    two_by_three = spatial_correlation_loss(
        *(each.unflatten(0, (2, 3)) for each in (activations, positions_mm, neighborhoods)), reduction="none"
    )
    torch.testing.assert_close(two_by_three, expected.unflatten(0, (2, 3)))
    torch.testing.assert_close(spatial_correlation_loss(activations, positions_mm, neighborhoods), expected.mean())


def test_positions_and_neighborhoods_may_be_shared(either_device):
    activations, positions_mm, neighborhoods = scattered()
    stack = torch.stack([activations, activations.flip(0) ** 3])
    shared = spatial_correlation_loss(stack, positions_mm, neighborhoods, reduction="none")
    repeated = spatial_correlation_loss(
        stack, positions_mm.expand(2, -1, -1), neighborhoods.expand(2, -1, -1), reduction="none"
    )
    assert shared.shape == (2, 4)
    torch.testing.assert_close(shared, repeated)
    assert not torch.isclose(shared[0], shared[1]).any()


def test_a_sequence_gives_each_tensor_its_own_gradient(either_device):
    parts = [scattered(seed=seed) for seed in range(3)]
    activations, positions_mm, neighborhoods = (torch.stack(each) for each in zip(*parts, strict=True))
    _, expected = value_and_gradient(activations, positions_mm, neighborhoods)
    singles = [single.clone().requires_grad_() for single in activations]
    spatial_correlation_loss(singles, positions_mm, neighborhoods).backward()
    torch.testing.assert_close(torch.stack([single.grad for single in singles]), expected)


def test_numbering_of_units_does_not_matter_and_their_places_do(generator):
    activations, positions_mm, neighborhoods = scattered()
    loss = spatial_correlation_loss(activations, positions_mm, neighborhoods)
    order = torch.randperm(20, generator=generator)
    renumbered = spatial_correlation_loss(activations[:, order], positions_mm[order], order.argsort()[neighborhoods])
    torch.testing.assert_close(renumbered, loss)
    assert abs(spatial_correlation_loss(activations, positions_mm[order], neighborhoods) - loss) > 1e-3


@pytest.mark.parametrize(("sign", "expected"), [(1, 0.0), (-1, 1.0)])
def test_planted_maps(generator, sign, expected):
    sheet = grid((5, 6))
    distance = torch.cdist(sheet.positions_mm, sheet.positions_mm)
    identity = torch.eye(30, dtype=torch.float64)
    correlation = identity + sign * 0.05 * (1 / (1 + distance) - identity)
    directions, _ = torch.linalg.qr(
        torch.randn(200, 31, generator=generator, dtype=torch.float64).index_fill_(1, torch.tensor([0]), 1.0)
    )
    activations = directions[:, 1:] @ torch.linalg.cholesky(correlation).T  # exactly this correlation over samples
    loss = spatial_correlation_loss(3 + activations, sheet.positions_mm, global_neighborhoods(sheet))
    assert loss.item() == pytest.approx(expected, abs=1e-10)


def test_noise_has_half(generator):
    sheet = permuted_grid(784)
    chosen = sample_neighborhoods(local_neighborhoods(sheet), 20, generator=generator)
    loss = spatial_correlation_loss(torch.randn(500, 784, generator=generator), sheet.positions_mm, chosen)
    assert loss.item() == pytest.approx(0.5, abs=0.02)


def test_descent_makes_a_map(generator):
    sheet = permuted_grid(36)
    activations = torch.randn(64, 36, generator=generator).requires_grad_()
    optimizer = torch.optim.Adam([activations], lr=0.05)
    every = local_neighborhoods(sheet, 3)
    for _ in range(60):
        loss = spatial_correlation_loss(activations, sheet.positions_mm, every)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1


# ---- precision


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(dtype, either_device):
    activations, positions_mm, neighborhoods = scattered(n_samples=300)
    activations = torch.stack([activations, activations.flip(0) ** 3]).to(dtype)
    loss, gradient = value_and_gradient(activations, positions_mm, neighborhoods)
    assert loss.dtype == torch.float32
    assert gradient.dtype == dtype
    exact, exact_gradient = value_and_gradient(activations.double(), positions_mm, neighborhoods)
    assert loss.item() == pytest.approx(exact.item(), abs=1e-6)
    # a gradient in half precision is a rounded one: one unit's may be the sum of four
    tolerance = 4 * torch.finfo(dtype).eps if dtype != torch.float32 else 1e-4
    assert (gradient - exact_gradient).abs().max() < tolerance * exact_gradient.abs().max()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = value_and_gradient(activations, positions_mm, neighborhoods)
    assert torch.equal(inside[0], loss)
    assert torch.equal(inside[1], gradient)


def test_far_from_zero_mean_nothing_is_lost():
    activations, positions_mm, neighborhoods = scattered(n_samples=300)
    shifted = (1000 + activations).float()
    exact, exact_gradient = value_and_gradient(shifted.double(), positions_mm, neighborhoods)
    loss, gradient = value_and_gradient(shifted, positions_mm, neighborhoods)
    assert loss.item() == pytest.approx(exact.item(), abs=1e-5)
    assert (gradient - exact_gradient).abs().max() < 1e-4 * exact_gradient.abs().max()


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_very_small_and_very_large_activations(scale):
    activations, positions_mm, neighborhoods = scattered()
    expected = spatial_correlation_loss(activations, positions_mm, neighborhoods)
    loss, gradient = value_and_gradient((scale * activations).float(), positions_mm, neighborhoods)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert torch.isfinite(gradient).all()


# ---- documented values


@pytest.mark.parametrize("constant", [0.0, 0.1, -1e4, 1e-3])
@pytest.mark.parametrize("n_samples", [30, 20_000])
def test_a_constant_unit_correlates_with_nothing(constant, n_samples):
    activations, positions_mm, _ = scattered(n_units=7, n_samples=n_samples)
    activations = activations.float().index_fill(1, torch.tensor([2]), constant)
    loss, gradient = value_and_gradient(activations, positions_mm, torch.arange(7)[None])
    r = np.nan_to_num(_corrcoef(activations.double().numpy()))
    rows, columns = np.tril_indices(7, -1)
    d = 1 / (1 + np.linalg.norm(positions_mm[rows] - positions_mm[columns], axis=1))
    assert loss.item() == pytest.approx((1 - pearsonr(r[rows, columns], d).statistic) / 2, abs=1e-5)
    assert (gradient[:, 2] == 0).all()
    assert torch.isfinite(gradient).all()
    assert (gradient[:, 1] != 0).any()


def _corrcoef(activations):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        r = np.corrcoef(activations.T)
    constant = np.ptp(activations, axis=0) == 0
    r[constant], r[:, constant] = 0, 0
    return r


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", ["all constant", "all equal", "all but one constant", "equidistant", "one place"])
def test_nothing_to_correlate_gives_half_and_no_gradient(generator, dtype, case):
    activations = torch.randn(3000, 3, generator=generator, dtype=dtype)
    positions_mm = torch.tensor([[0.0, 0.0], [0.0, 1.0], [3.0, 0.0]]).double()
    match case:
        case "all constant":
            activations = torch.full_like(activations, 0.1)
        case "all equal":
            activations = activations[:, :1].expand(-1, 3) * torch.tensor([1.0, 3.0, 0.7], dtype=dtype)
        case "all but one constant":
            activations = activations * torch.tensor([0, 1, 0], dtype=dtype) + 0.1
        case "equidistant":
            positions_mm = torch.tensor([[0.0, 0.0], [0.0, 1.0], [3**0.5 / 2, 0.5]], dtype=torch.float64)
        case "one place":
            positions_mm = torch.zeros(3, 2).double()
    loss, gradient = value_and_gradient(activations, positions_mm, torch.arange(3)[None])
    assert loss.item() == 0.5
    assert (gradient == 0).all()


def test_nan_is_not_hidden():
    activations, positions_mm, neighborhoods = scattered()
    unit = neighborhoods[1, 3].item()
    activations[5, unit] = torch.nan
    losses = spatial_correlation_loss(activations, positions_mm, neighborhoods, reduction="none")
    assert torch.equal(losses.isnan(), (neighborhoods == unit).any(1))
    assert 0 < losses.isnan().sum() < 4
    activations[5, unit] = torch.inf
    losses = spatial_correlation_loss(activations, positions_mm, neighborhoods, reduction="none")
    assert torch.equal(losses.isnan(), (neighborhoods == unit).any(1))


# ---- masks


@pytest.mark.parametrize("junk", [1e6, torch.nan, torch.inf])
def test_left_out_samples_do_not_count(junk, either_device):
    activations, positions_mm, neighborhoods = scattered()
    activations = torch.stack([activations, activations.flip(0) ** 3])
    mask = torch.arange(30) % 4 != 1
    expected, expected_gradient = value_and_gradient(activations[:, mask], positions_mm, neighborhoods)
    padded = activations.masked_fill(~mask[:, None], junk)
    loss, gradient = value_and_gradient(padded, positions_mm, neighborhoods, sample_mask=mask)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient[:, mask], expected_gradient)
    assert (gradient[:, ~mask] == 0).all()


def test_each_sheet_may_have_its_own_mask(either_device):
    activations, positions_mm, neighborhoods = scattered()
    masks = torch.stack([torch.arange(30) < 20, torch.arange(30) >= 7])
    losses = spatial_correlation_loss(
        [activations, activations], positions_mm, neighborhoods, sample_mask=masks, reduction="none"
    )
    for mask, row in zip(masks, losses, strict=True):
        expected = spatial_correlation_loss(activations[mask], positions_mm, neighborhoods, reduction="none")
        torch.testing.assert_close(row, expected)


@pytest.mark.parametrize("n_left", [0, 1])
def test_a_mask_that_leaves_too_little_gives_half(n_left):
    activations, positions_mm, neighborhoods = scattered()
    mask = torch.arange(30) < n_left
    loss, gradient = value_and_gradient(activations, positions_mm, neighborhoods, sample_mask=mask)
    assert loss.item() == 0.5
    assert (gradient == 0).all()


# ---- where it runs


@pytest.fixture
def unchecked(monkeypatch):
    """The loss without the type checks of the test run, which cannot be compiled."""
    spec = importlib.util.spec_from_file_location("unchecked_spatial", spatial.__file__)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # where the compiler looks up its globals
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "distances", module.distances.__wrapped__)
    return module


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("masked", [False, True])
def test_compiles_into_one_graph(dtype, masked, unchecked):
    activations, positions_mm, neighborhoods = scattered()
    activations = torch.stack([activations, activations.flip(0)]).to(dtype)
    mask = torch.arange(30) % 4 != 1 if masked else None
    expected = value_and_gradient(activations, positions_mm, neighborhoods, sample_mask=mask)
    torch.compiler.reset()
    compiled = torch.compile(unchecked.spatial_correlation_loss, backend="aot_eager", fullgraph=True)
    activations.requires_grad_()
    for _ in range(2):
        loss = compiled(activations, positions_mm, neighborhoods, sample_mask=mask)
        (gradient,) = torch.autograd.grad(loss, activations)
        torch.testing.assert_close((loss.detach(), gradient), expected)


@pytest.mark.parametrize("masked", [False, True])
def test_nothing_waits_for_a_value(masked, either_device):
    # fake tensors have none: whatever asks for one (.item(), nonzero, a mask as index) raises here
    with FakeTensorMode():
        activations = torch.randn(3, 32, 16, requires_grad=True)
        with pytest.raises(DynamicOutputShapeException):
            activations[:, torch.ones(32, dtype=torch.bool)]
        mask = torch.ones(32, dtype=torch.bool) if masked else None
        neighborhoods = torch.zeros(3, 2, 9, dtype=torch.int64)
        loss = spatial_correlation_loss(activations, torch.zeros(16, 2), neighborhoods, sample_mask=mask)
        (gradient,) = torch.autograd.grad(loss, activations)
    assert loss.shape == ()
    assert gradient.shape == (3, 32, 16)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cuda_equals_cpu_without_waiting(dtype):
    activations, positions_mm, neighborhoods = scattered(n_samples=300)
    activations = torch.stack([activations, activations.flip(0) ** 3]).to(dtype)
    expected, expected_gradient = value_and_gradient(activations, positions_mm, neighborhoods)
    there = [each.cuda() for each in (activations, positions_mm, neighborhoods)]
    value_and_gradient(*there)
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss, gradient = value_and_gradient(*there)
        again = value_and_gradient(*there)[1]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(loss.cpu(), expected)
    torch.testing.assert_close(gradient.cpu(), expected_gradient)
    assert torch.equal(gradient, again)


# ---- bad input

POSITIONS, ROWS = torch.zeros(6, 2), torch.arange(6)[None]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"activations": torch.zeros(1, 6)}, ValueError, "1 samples; a correlation needs at least 2"),
        ({"activations": torch.zeros(6)}, ValueError, r"shape \(6,\); expected \(\*sheets, samples, units\)"),
        ({"activations": torch.zeros(4, 6).long()}, TypeError, "torch.int64; expected floating-point"),
        ({"activations": []}, ValueError, "empty sequence"),
        ({"activations": [torch.zeros(4, 6), torch.zeros(5, 6)]}, ValueError, "call the loss once for each kind"),
        ({"activations": [torch.zeros(4, 6), torch.zeros(4, 6).half()]}, ValueError, "2 dtypes and devices"),
        ({"neighborhoods": ROWS[:, :2]}, ValueError, "2 units each; a correlation over pairs needs at least 3"),
        ({"neighborhoods": ROWS.int()}, TypeError, "torch.int32; expected int64"),
        ({"neighborhoods": ROWS[0]}, ValueError, r"neighborhoods has shape \(6,\)"),
        ({"neighborhoods": ROWS[:0]}, ValueError, r"neighborhoods has shape \(0, 6\)"),
        ({"neighborhoods": ROWS.expand(3, 1, 6)}, ValueError, r"neighborhoods has shape \(3, 1, 6\)"),
        ({"positions_mm": torch.zeros(5, 2)}, ValueError, r"shape \(5, 2\); expected \(\*sheets, 6, axes\)"),
        ({"positions_mm": torch.zeros(3, 6, 2)}, ValueError, r"positions_mm has shape \(3, 6, 2\)"),
        ({"positions_mm": torch.zeros(6, 2).requires_grad_()}, ValueError, "asks for a gradient"),
        ({"sample_mask": torch.ones(3).bool()}, ValueError, r"sample_mask has shape \(3,\); expected \(\*sheets, 4\)"),
        ({"norm": "l3"}, ValueError, "norm='l3'"),
        ({"reduction": "sum"}, ValueError, "reduction='sum'; expected 'mean' or 'none'"),
    ],
)
def test_bad_input(changes, error, message):
    given = {"activations": torch.zeros(4, 6), "positions_mm": POSITIONS, "neighborhoods": ROWS, **changes}
    with pytest.raises(error, match=message) as raised:
        # past the run-time checks of annotations, which users do not have
        spatial_correlation_loss.__wrapped__(**given)
    assert "\n" not in str(raised.value)
