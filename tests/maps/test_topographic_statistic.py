import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr

from topographic.maps import TOPOGRAPHIC_STATISTICS, topographic_statistic
from topographic.sheets import Sheet, grid, permuted_grid


def transcribed(values, side, statistic):
    """The definition, pair by pair in both directions, without a limit on pairs."""
    n_units = side * side
    place = [(unit // side / side, unit % side / side) for unit in range(n_units)]
    r = np.nan_to_num(np.corrcoef(values.T))
    pairs = []
    for i in range(n_units):
        for j in range(n_units):
            gaps = [abs(a - b) for a, b in zip(place[i], place[j], strict=True)]
            pairs.append((round(np.hypot(*(min(gap, 1 - gap) for gap in gaps)), 9), r[i, j]))
    found = []
    for cutoff in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
        near = np.array([(gap, corr) for gap, corr in pairs if 0 < gap <= cutoff + 1e-9])
        found.append(statistic((near[:, 1] - near[:, 1].mean()) / near[:, 1].std(), near[:, 0]))
    return float(np.mean(found))


DEFINITIONS = {
    "spearman": lambda r, d: np.nan_to_num(-spearmanr(r, d).statistic),
    "pearson": lambda r, d: np.nan_to_num(-pearsonr(r, d).statistic),
    "ratio": lambda r, d: (r / d).mean(),
}


@pytest.mark.parametrize("kind", TOPOGRAPHIC_STATISTICS)
@pytest.mark.filterwarnings("ignore:An input array is")
def test_it_is_the_definition(respond, smooth_noise, kind):
    sheet = grid(144, wrap=True)
    values = smooth_noise(np.random.default_rng(0), 20, sheet)
    found = topographic_statistic(respond(values, sheet=sheet), kind=kind, n_draws=0)
    assert found.value == pytest.approx(transcribed(values, 12, DEFINITIONS[kind]), abs=1e-6)
    assert found.nulls == {}


@pytest.mark.filterwarnings("ignore:An input array is")
def test_units_that_never_vary_correlate_with_none(respond, smooth_noise):
    sheet = grid(100, wrap=True)
    values = smooth_noise(np.random.default_rng(0), 20, sheet)
    values[:, 7] = 3.0
    with np.errstate(invalid="ignore"):
        expected = transcribed(values, 10, DEFINITIONS["pearson"])
    found = topographic_statistic(respond(values, sheet=sheet), kind="pearson", n_draws=0)
    assert found.value == pytest.approx(expected, abs=1e-6)


def test_planted_topography_is_found_and_its_absence_is_not(respond, smooth_noise):
    """Power on smooth sheets, and false alarms where the same units are laid out at random."""
    regular, found, alarms = grid(64, wrap=True), 0, 0
    for seed in range(30):
        values = smooth_noise(np.random.default_rng(seed), 12, regular)
        options = {"n_draws": 19, "seed": seed, "cutoffs": (0.2, 0.4, 0.8)}
        smooth = topographic_statistic(respond(values, sheet=regular), **options)
        scattered = topographic_statistic(respond(values, sheet=permuted_grid(64, seed=seed, wrap=True)), **options)
        found += smooth.unit_null.p <= 0.05
        alarms += scattered.unit_null.p <= 0.05
        assert smooth.value > scattered.value
    assert found == 30
    assert alarms <= 5, "of 30 at .05: 1.5 are expected, 5 or fewer in 99.7 of 100 runs"


def test_the_torus_is_asked_for_and_spacing_and_order_do_not_matter(respond, smooth_noise):
    sheet = grid(100, wrap=True)
    values = smooth_noise(np.random.default_rng(0), 20, sheet)
    torus = topographic_statistic(respond(values, sheet=sheet), n_draws=0).value
    flat = grid(100, spacing_mm=0.25)
    assert topographic_statistic(respond(values, sheet=flat), n_draws=0).value == pytest.approx(torus)
    assert topographic_statistic(respond(values, sheet=flat), torus=False, n_draws=0).value != pytest.approx(
        torus, abs=1e-3
    )
    order = np.random.default_rng(1).permutation(100)
    moved = Sheet(
        name="site", positions_mm=sheet.positions_mm[torch.from_numpy(order)], extent_mm=(10.0, 10.0), wrap=True
    )
    assert topographic_statistic(respond(values[:, order], sheet=moved), n_draws=0).value == pytest.approx(torus)


def test_few_of_many_pairs_say_nearly_the_same_and_the_seed_decides_them(respond, smooth_noise):
    sheet = grid(400, wrap=True)
    responses = respond(smooth_noise(np.random.default_rng(0), 20, sheet, 6.0), sheet=sheet)
    every = topographic_statistic(responses, n_draws=0).value
    one, again, other = (
        topographic_statistic(responses, n_draws=0, max_pairs=5000, seed=seed).value for seed in (0, 0, 1)
    )
    assert one == again != other
    assert one == pytest.approx(every, abs=0.03)


def test_what_has_no_pairs_is_refused(respond):
    values = np.random.default_rng(0).standard_normal((6, 16))
    with pytest.raises(ValueError, match=r"0 pairs of units of 'site' lie within 0\.1 .* leave out cut-offs"):
        topographic_statistic(respond(values))
    with pytest.raises(ValueError, match="kind='kendall'; expected one of"):
        topographic_statistic(respond(values), kind="kendall")
    line = Sheet(name="site", positions_mm=np.stack([np.zeros(16), np.arange(16.0)], 1))
    with pytest.raises(ValueError, match="no plane with an area"):
        topographic_statistic(respond(values, sheet=line))
