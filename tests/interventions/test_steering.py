import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from topographic.interventions import direction_controls, micro_stimulation, steering_curve
from topographic.layouts import Adaptor, rebased
from topographic.maps import Selection
from topographic.recording import tap
from topographic.sheets import grid

SHEET = grid((9, 9), "0.sheet")
CONTEXTS = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def laid_out():
    """A layer of 81 units behind a rotation, and a reader that hears one place of its sheet, and likes it quiet."""
    draw = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(81, 81, generator=draw))[0]
    adaptor = Adaptor("0", torch.zeros(81), 0.5 + torch.rand(81, generator=draw), rotation, SHEET, "rotation")
    place = torch.from_numpy(micro_stimulation("0.sheet", SHEET, 30, sigma_mm=1.0).values)
    network = nn.Sequential(nn.Linear(5, 81), nn.Linear(81, 2, bias=False)).requires_grad_(False)
    # reads z of that place from the stream
    network[1].weight[0] = (adaptor.matrix @ place) / adaptor.scale
    network[1].weight[1] = torch.randn(81, generator=draw) / 9
    return network, adaptor


def measure(model):
    preferred, other = model(CONTEXTS).T
    return {"preference": preferred.numpy(), "price": float(other.square().mean())}


def test_the_place_that_is_read_steers_and_others_do_not(laid_out):
    network, adaptor = laid_out
    target = micro_stimulation("0.sheet", SHEET, 30, sigma_mm=1.0)
    controls = direction_controls(target, 39, adaptor=adaptor)
    plain = measure(network)
    with rebased(network, adaptor) as model:
        rows = steering_curve(model, target, [-1.0, 0.0, 2.0], measure, controls=controls, progress=False)
    of = {(row.measure, row.kind, row.strength): row for row in rows}
    assert len(of) == len(rows) == 2 * 3 * 3
    # the closed form: the reader hears place . (strength * place)
    heard = float(np.square(target.values).sum())
    for strength in (-1.0, 2.0):
        row = of["preference", "target", strength]
        assert row.change == pytest.approx(strength * heard, rel=1e-3)
        assert row.value == pytest.approx(plain["preference"].mean() + row.change, rel=1e-3)
        for kind in ("elsewhere", "random"):
            assert abs(of["preference", kind, strength].change) < 0.5 * abs(row.change)
        assert of["preference", "random", strength].p == pytest.approx(1 / 40)
        assert of["preference", "elsewhere", strength].p <= 0.1
        assert of["preference", "random", strength].low < 0 < of["preference", "random", strength].high
    nothing = of["preference", "target", 0.0]
    assert (nothing.change, nothing.low, nothing.high) == (0, 0, 0)
    assert np.isnan(of["preference", "random", 0.0].p)
    assert (of["price", "target", 2.0].n, of["preference", "target", 2.0].n, of["price", "random", 2.0].n) == (
        1,
        12,
        39,
    )
    assert np.isnan(of["price", "target", 2.0].low)
    assert of["price", "target", 0.0].value == pytest.approx(plain["price"])
    assert hasattr(network, "sheets") is False


def test_limits_are_those_of_a_paired_t_test(laid_out):
    """A measure that is not linear, so that contexts change differently."""
    network, adaptor = laid_out
    target = Selection("0.sheet", np.arange(81) < 9, SHEET, "row")

    def squared(model):
        return {"squared": model(CONTEXTS)[:, 0].square().numpy()}

    with rebased(network, adaptor) as model:
        before = squared(model)["squared"]
        [row] = steering_curve(model, target, [0.7], squared, progress=False)
        with tap(model, "0.sheet") as heard:
            model(CONTEXTS)
    z = heard["0.sheet"] + 0.7 * torch.from_numpy(target.mask)
    after = (adaptor.to_stream(z) @ network[1].weight[0]).square().numpy()
    expected = stats.ttest_rel(after.astype(float), before.astype(float)).confidence_interval(0.95)
    np.testing.assert_allclose((row.low, row.high), expected, rtol=1e-3)


def test_a_random_target_is_no_better_than_random_directions(laid_out):
    """False positives: the target is one more random direction."""
    network, adaptor = laid_out
    target = micro_stimulation("0.sheet", SHEET, 30, sigma_mm=1.0)
    directions = direction_controls(target, 40 * 20, adaptor=adaptor)["random"]
    with rebased(network, adaptor) as model:
        rows = [
            steering_curve(model, first, [1.0], measure, controls={"random": others}, progress=False)[1].p
            for first, *others in np.array(directions, dtype=object).reshape(40, 20)
        ]
    assert stats.binomtest(int((np.array(rows) <= 0.05).sum()), 40, 0.05, alternative="greater").pvalue > 0.01
    assert 0.3 < np.mean(rows) < 0.7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strengths": []}, r"strengths=\[\]; expected different numbers, at least one"),
        ({"strengths": [1.0, 1.0]}, r"strengths=\[1\.0, 1\.0\]; expected different numbers"),
        ({"strengths": [np.inf]}, "strength=inf; expected a finite factor"),
        ({"controls": {"random": []}}, "controls: 'random' has no draws"),
        ({"measure": lambda model: {"a": np.nan}}, "measure 'a' has shape .* 1 entries that are not finite undriven"),
    ],
)
def test_what_is_refused(laid_out, change, message):
    network, adaptor = laid_out
    given = {"strengths": [1.0], "measure": measure} | change
    target = Selection("0.sheet", np.arange(81) < 9, SHEET, "row")
    with rebased(network, adaptor) as model, pytest.raises(ValueError, match=message):
        steering_curve(model, target, progress=False, **given)


def test_a_measure_without_numbers_and_two_directions_of_one_site(laid_out):
    network, adaptor = laid_out
    target = Selection("0.sheet", np.arange(81) < 9, SHEET, "row")
    with rebased(network, adaptor) as model:
        with pytest.raises(TypeError, match="the measure returned a float without numbers"):
            steering_curve(model, target, [1.0], lambda model: 1.0, progress=False)
        with pytest.raises(ValueError, match="2 directions for 1 sites; expected one per site"):
            steering_curve(model, [target, target], [1.0], measure, progress=False)
