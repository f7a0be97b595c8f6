import builtins
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.ndimage import gaussian_filter
from scipy.spatial import ConvexHull

from topographic.maps import (
    SURROGATES,
    NotMeasurable,
    UnitMap,
    map_correlation,
    morans_i,
    region_overlap,
    shifted_maps,
    spectral_surrogates,
    spun_maps,
    t_map,
    variogram_surrogates,
)
from topographic.recording import Responses
from topographic.sheets import Sheet, adjacency, grid, permuted_grid, to_grid
from topographic.stimuli import StimulusSet

SIDE = 14
FLAT, TORUS = grid((SIDE, SIDE)), grid((SIDE, SIDE), wrap=True)


def smooth(rng, sheet, sigma=1.5):
    """Smooth noise on a sheet, whatever order its units have."""
    field = gaussian_filter(rng.normal(size=(SIDE, SIDE)), sigma, mode="wrap" if sheet.wrap else "reflect")
    rows, columns = sheet.positions_mm.round().long().T.numpy()
    return UnitMap("a", field[rows - rows.min(), columns - columns.min()], sheet, "noise")


def icosphere(n_times=2, radius_mm=100.0):
    """162 vertices about evenly spread over a sphere: the corners of an icosahedron and the middles of its edges."""
    golden = (1 + 5**0.5) / 2
    signs = [(a, b) for a in (-1, 1) for b in (-golden, golden)]
    corners = np.array([point for a, b in signs for point in ((0, a, b), (a, b, 0), (b, 0, a))], float)
    for _ in range(n_times):
        triangles = ConvexHull(corners / np.linalg.norm(corners, axis=1, keepdims=True)).simplices
        edges = np.unique(np.sort(np.concatenate([triangles[:, p] for p in ([0, 1], [1, 2], [2, 0])]), axis=1), axis=0)
        corners = np.vstack([corners, corners[edges].mean(1)])
        corners /= np.linalg.norm(corners, axis=1, keepdims=True)
    triangles = ConvexHull(corners).simplices
    edges = np.unique(np.sort(np.concatenate([triangles[:, p] for p in ([0, 1], [1, 2], [2, 0])]), axis=1), axis=0)
    return Sheet("sphere", torch.from_numpy(radius_mm * corners), edges=torch.from_numpy(edges.astype(np.int64)))


SPHERE = icosphere()
POINTS = SPHERE.positions_mm.numpy() / 100
# Gaussian of the angle between vertices, sd 20 degrees
BLUR = np.exp(-((np.arccos(np.clip(POINTS @ POINTS.T, -1, 1)) / np.deg2rad(20)) ** 2) / 2)
BLUR /= np.linalg.norm(BLUR, axis=1, keepdims=True)
CAP = POINTS[:, 2] < -0.8


def smooth_on_sphere(rng, wall=False):
    """Smooth noise on a sphere, a tenth of it without values where there is a wall."""
    values = BLUR @ rng.normal(size=len(BLUR))
    return UnitMap("a", np.where(CAP, np.nan, values) if wall else values, SPHERE, "noise")


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
@pytest.mark.unchecked
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


TWO_SPHERES = Sheet(
    "two",
    torch.cat([SPHERE.positions_mm, SPHERE.positions_mm + 300]),
    edges=torch.cat([SPHERE.edges, SPHERE.edges + 162]),
)


def test_a_turned_map_keeps_its_values_and_its_symmetry():
    rng = np.random.default_rng(6)
    unit_map = smooth_on_sphere(rng, wall=True)
    drawn = spun_maps(unit_map, 50, seed=1)
    known = set(unit_map.values[~CAP].tolist())
    assert all(set(one[np.isfinite(one)].tolist()) <= known for one in drawn)
    shares = np.isnan(drawn).mean(1)
    assert abs(shares.mean() - CAP.mean()) < 0.02, "the wall keeps its size"
    assert np.isnan(drawn).any(0).mean() > 0.9, "and lies anywhere"
    # the right hemisphere is the left one in a mirror, and stays so when it is turned by mirrored rotations
    right_sheet = replace(SPHERE, name="right", positions_mm=SPHERE.positions_mm * torch.tensor([-1.0, 1.0, 1.0]))
    right = spun_maps(replace(unit_map, sheet=right_sheet), 50, seed=1, mirrored=True)
    np.testing.assert_array_equal(right, drawn)
    assert not np.array_equal(spun_maps(replace(unit_map, sheet=right_sheet), 50, seed=1), drawn, equal_nan=True)


def test_rotations_are_uniform():
    """The place that the north pole comes to: its height is uniform from -1 to 1 (Archimedes)."""
    heights = spun_maps(UnitMap("a", POINTS[:, 2], SPHERE, "height"), 2000, seed=0)[:, POINTS[:, 2].argmax()]
    assert stats.kstest(heights, stats.uniform(-1, 2).cdf).statistic < 0.05, "but for 162 places"


@pytest.mark.unchecked
def test_level_and_power_of_variogram_surrogates():
    """Few simulations, since each takes a fifth of a second; docs/calibration.md has more."""
    rng, n, rejected, found = np.random.default_rng(2), 40, 0, 0
    for seed in range(n):
        one, two = smooth(rng, FLAT), smooth(rng, FLAT)
        options = {"null": "variogram", "n_draws": 19, "seed": seed}
        rejected += map_correlation(one, two, **options).nulls["variogram"].p <= 0.05
        if seed < 10:
            both = replace(two, values=one.values + two.values)
            found += map_correlation(one, both, **options).nulls["variogram"].p <= 0.05
    assert stats.binomtest(int(rejected), n).proportion_ci(0.999).low <= 0.05
    assert found >= 7


def variogram(unit_map, values):
    """Mean half squared difference at distances of one to four units."""
    between = np.linalg.norm(unit_map.sheet.positions_mm[:, None] - unit_map.sheet.positions_mm[None], axis=2)
    halves = 0.5 * (values[:, None] - values[None]) ** 2
    return np.array([halves[(between > d - 0.5) & (between <= d + 0.5)].mean() for d in (1, 2, 3, 4)])


def test_variograms_are_about_matched():
    unit_map = smooth(np.random.default_rng(7), FLAT)
    wanted = variogram(unit_map, unit_map.values)
    drawn = np.mean([variogram(unit_map, one) for one in variogram_surrogates(unit_map, 50)], axis=0)
    shuffled = variogram(unit_map, np.random.default_rng(0).permutation(unit_map.values))
    assert (drawn / wanted)[1:].max() < 2.6
    assert (drawn / wanted)[0] < 6, "next neighbours are matched badly, as the notes say"
    assert (shuffled / wanted)[0] > 1.2 * (drawn / wanted)[0]


def test_variogram_surrogates_say_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name.startswith("brainsmash"):
            raise ModuleNotFoundError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"need brainsmash; run `pip install 'topographic\[nulls\]'`"):
        variogram_surrogates(smooth(np.random.default_rng(0), FLAT), 5)


@pytest.mark.parametrize(("null", "wall"), [("spin", False), ("spin", True), ("spectral", False)])
@pytest.mark.unchecked
def test_level_and_power_on_a_sphere(null, wall):
    rng, n = np.random.default_rng(8), 200
    p, hits = [], []
    for seed in range(n):
        one, two = smooth_on_sphere(rng, wall), smooth_on_sphere(rng)
        options = {"null": null, "n_draws": 39, "seed": seed}
        found = (map_correlation(one, two, **options), region_overlap(one, two, 20, **options))
        p.append([one.nulls[null].p for one in found])
        if seed < 40:
            both = replace(two, values=one.values + two.values)
            hits.append(map_correlation(one, both, **options).nulls[null].p <= 0.05)
    for rejected in (np.array(p) <= 0.05).sum(0).tolist():
        assert stats.binomtest(rejected, n).proportion_ci(0.999).low <= 0.05, rejected / n
    assert np.mean(hits) >= 0.8


def test_two_hemispheres_are_one_comparison():
    rng = np.random.default_rng(9)
    right_sheet = replace(SPHERE, name="right", positions_mm=SPHERE.positions_mm * torch.tensor([-1.0, 1.0, 1.0]))

    def both_sides(values):
        """Symmetric noise, as two maps."""
        return [replace(values, site="left"), replace(values, site="right", sheet=right_sheet)]

    one, two = smooth_on_sphere(rng), smooth_on_sphere(rng)
    alone = map_correlation(one, two, null="spin", n_draws=99)
    together = map_correlation(both_sides(one), both_sides(two), null="spin", n_draws=99)
    assert together.value == pytest.approx(alone.value)
    # mirrored rotations keep the sides alike, so that symmetric maps are no more evidence than one side of them
    np.testing.assert_allclose(together.nulls["spin"].draws, alone.nulls["spin"].draws, atol=1e-6)
    overlap = region_overlap(both_sides(one), both_sides(two), 40, null="spin", n_draws=99)
    assert overlap.value == pytest.approx(region_overlap(one, two, 20, null="spin", n_draws=99).value)


def test_a_map_with_next_to_no_values_is_not_compared():
    values = np.full(162, np.nan)
    values[:5] = np.arange(5)
    with pytest.raises(NotMeasurable, match=r"5 units at a have a value in both maps, and a surrogate has fewer than"):
        map_correlation(*[UnitMap("a", values, SPHERE, "x")] * 2, null="spin", n_draws=9)


@pytest.mark.parametrize("null", SURROGATES)
def test_every_null_is_seeded(null):
    unit_map = smooth_on_sphere(np.random.default_rng(0)) if null == "spin" else smooth(np.random.default_rng(0), TORUS)
    one, same, other = (SURROGATES[null](unit_map, 5, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


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


@pytest.mark.unchecked
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
        (lambda m: spun_maps(m, 5), "the sheet at 'a' is no sphere about the origin; a spin needs one"),
        (lambda m: map_correlation([m, m], m), "2 maps and 1; expected as many of both"),
        (lambda m: map_correlation([m] * 3, [m] * 3, null="spin"), "a spin of 3 maps; expected those of the left and"),
        (
            lambda m: variogram_surrogates(UnitMap("a", np.arange(9.0), grid((3, 3)), "x"), 5),
            "has 9 units with a value; variogram surrogates take 20 to 2000",
        ),
        (
            lambda m: variogram_surrogates(UnitMap("a", np.arange(324.0), TWO_SPHERES, "x"), 5),
            "the mesh at 'a' is in pieces",
        ),
        (lambda m: shifted_maps(m, 5), "has edges; a shift needs a torus"),
        (lambda m: spectral_surrogates(m, 1), "n_draws=1; expected at least 2 draws"),
        (lambda m: map_correlation(m, m, null="label"), "has no label null"),
        (
            lambda m: map_correlation(m, m, null="plain"),
            r"null='plain'; expected one of \['label', 'spectral', 'shift', 'spin', 'variogram'\]",
        ),
        (lambda m: region_overlap(m, m, 196), "n_units=196; expected 1 to 195"),
        (lambda m: map_correlation(m, smooth(np.random.default_rng(0), TORUS)), "lie on different sheets"),
        (lambda m: map_correlation(m, UnitMap("a", np.ones(196), FLAT, "x")), "a map is constant"),
    ],
)
def test_what_cannot_be_compared_is_one_line(call, message):
    with pytest.raises(ValueError, match=message):
        call(smooth(np.random.default_rng(0), FLAT))
