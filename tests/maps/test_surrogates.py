import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from topographic.maps import (
    UnitMap,
    map_correlation,
    morans_i,
    region_overlap,
    shifted_maps,
    spectral_surrogates,
    t_map,
)
from topographic.recording import Responses
from topographic.sheets import adjacency, grid, permuted_grid, to_grid
from topographic.stimuli import StimulusSet

SIDE = 14
FLAT, TORUS = grid((SIDE, SIDE)), grid((SIDE, SIDE), wrap=True)


def smooth(rng, sheet, sigma=1.5):
    """Smooth noise on a sheet, whatever order its units have."""
    field = gaussian_filter(rng.normal(size=(SIDE, SIDE)), sigma, mode="wrap" if sheet.wrap else "reflect")
    rows, columns = sheet.positions_mm.round().long().T.numpy()
    return UnitMap("a", field[rows - rows.min(), columns - columns.min()], sheet, "noise")


def morans_of(values, sheet):
    """Moran's I with binary weights, from its definition."""
    weights, centred = adjacency(sheet).toarray(), values - values.mean()
    return len(values) / weights.sum() * (centred @ weights @ centred) / (centred @ centred)


@pytest.mark.parametrize(
    "sheet", [FLAT, TORUS, permuted_grid(SIDE * SIDE, "p", seed=3)], ids=["flat", "torus", "permuted"]
)
def test_spectral_surrogates_keep_morans_i_mean_and_variance(sheet):
    unit_map = smooth(np.random.default_rng(0), sheet)
    drawn = spectral_surrogates(unit_map, 20).astype(np.float64)
    wanted = morans_of(unit_map.values.astype(np.float64), sheet)
    np.testing.assert_allclose([morans_of(one, sheet) for one in drawn], wanted, atol=1e-5)
    np.testing.assert_allclose(drawn.mean(1), unit_map.values.mean(), atol=1e-5)
    np.testing.assert_allclose(drawn.std(1), unit_map.values.std(), rtol=1e-5)
    correlations = np.corrcoef(np.vstack([unit_map.values, drawn]))[0, 1:]
    assert np.abs(correlations).max() < 0.9, "they are other maps"


def test_units_without_a_value_stay_without():
    unit_map = smooth(np.random.default_rng(0), FLAT)
    values = unit_map.values.copy()
    values[:20] = np.nan
    drawn = spectral_surrogates(UnitMap("a", values, FLAT, "noise"), 3)
    assert np.isnan(drawn[:, :20]).all()
    assert np.isfinite(drawn[:, 20:]).all()


def test_a_shift_is_the_picture_rolled():
    unit_map = smooth(np.random.default_rng(1), TORUS)
    picture = np.asarray(to_grid(TORUS, unit_map.values))
    rolled = {np.roll(picture, (down, right), (0, 1)).tobytes() for down in range(SIDE) for right in range(SIDE)}
    drawn = shifted_maps(unit_map, 50)
    for one in drawn:
        assert np.asarray(to_grid(TORUS, one)).tobytes() in rolled
        assert not np.array_equal(one, unit_map.values)
    assert morans_i(UnitMap("a", drawn[0], TORUS, "noise")).value == pytest.approx(morans_i(unit_map).value, abs=1e-6)


@pytest.mark.parametrize(("null", "sheet"), [("spectral", FLAT), ("spectral", TORUS), ("shift", TORUS)])
def test_level_and_power_for_smooth_maps_of_any_origin(null, sheet):
    rng, n = np.random.default_rng(2), 200
    maps = [(smooth(rng, sheet), smooth(rng, sheet)) for _ in range(n)]
    options = {"null": null, "n_draws": 99}
    rejected = np.mean([
        map_correlation(one, two, seed=k, **options).nulls[null].p <= 0.05 for k, (one, two) in enumerate(maps)
    ])
    assert rejected <= 0.1, "200 simulations: .05 + 3 standard errors"
    plain = []
    for one, two in maps[:100]:
        drawn = np.array([np.corrcoef(rng.permutation(one.values), two.values)[0, 1] for _ in range(99)])
        plain.append((1 + (np.abs(drawn) >= abs(np.corrcoef(one.values, two.values)[0, 1])).sum()) / 100 <= 0.05)
    assert np.mean(plain) > 0.3, "what a permutation of units makes of the same maps"
    both = [UnitMap("a", one.values + two.values, sheet, "noise") for one, two in maps[:50]]
    found = np.mean([
        map_correlation(one, two, **options).nulls[null].p <= 0.05
        for (one, _), two in zip(maps[:50], both, strict=True)
    ])
    assert found >= 0.8


def population(rng, n_items, n_directions=6):
    """Responses that vary along few smooth directions, as those of a small topographic model do."""
    directions = np.stack([smooth(rng, FLAT, 2.0).values for _ in range(n_directions)])
    return rng.normal(size=(n_items, n_directions)) @ (directions / directions.std()) + 0.05 * rng.normal(
        size=(n_items, SIDE**2)
    )


def random_label_maps(rng, values, n_draws):
    """Two maps of t between labels that mean nothing, of items of their own."""
    maps = []
    for part in np.array_split(rng.permutation(len(values)), 2):
        stimuli = StimulusSet("s", [f"item {index}" for index in part], ["x", "y"] * (len(part) // 2))
        maps.append(t_map(Responses("a", values[part].astype(np.float32), FLAT, stimuli), "x", "y", n_draws=n_draws))
    return maps


def test_only_the_label_null_holds_for_a_population_of_few_dimensions():
    rng, n = np.random.default_rng(3), 150
    rejected = {"label": 0, "spectral": 0}
    for seed in range(n):
        one, two = random_label_maps(rng, population(rng, 80), 99)
        for null in rejected:
            rejected[null] += map_correlation(one, two, null=null, n_draws=99, seed=seed).nulls[null].p <= 0.05
    assert rejected["label"] / n <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / n)
    assert rejected["spectral"] > rejected["label"], "what the notes warn of"


def test_the_label_null_is_taken_where_it_is_carried():
    rng = np.random.default_rng(4)
    one, two = random_label_maps(rng, population(rng, 40), 19)
    assert list(map_correlation(one, two).nulls) == ["label"]
    assert list(region_overlap(one, two, 20).nulls) == ["label"]


def test_overlap_of_the_same_region_is_whole_and_rare():
    unit_map = smooth(np.random.default_rng(5), FLAT)
    found = region_overlap(unit_map, unit_map, 20, n_draws=199)
    assert found.value == 1.0
    assert found.nulls["spectral"].p <= 0.01


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: shifted_maps(m, 5), "has edges; a shift needs a torus"),
        (lambda m: spectral_surrogates(m, 1), "n_draws=1; expected at least 2 draws"),
        (lambda m: map_correlation(m, m, null="label"), "has no label null"),
        (
            lambda m: map_correlation(m, m, null="spin"),
            r"null='spin'; expected one of \['label', 'spectral', 'shift'\]",
        ),
        (lambda m: region_overlap(m, m, 196), "n_units=196; expected 1 to 195"),
        (lambda m: map_correlation(m, smooth(np.random.default_rng(0), TORUS)), "lie on different sheets"),
        (lambda m: map_correlation(m, UnitMap("a", np.ones(196), FLAT, "x")), "a map is constant"),
    ],
)
def test_what_cannot_be_compared_is_one_line(call, message):
    with pytest.raises(ValueError, match=message):
        call(smooth(np.random.default_rng(0), FLAT))
