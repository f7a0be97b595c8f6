"""The nulls, and the planted truth they have to find: false-positive rates and power of what is built on them."""

import math
import warnings
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.stats import kstest, ttest_ind

from topographic.maps import (
    UnitMap,
    against_nulls,
    cluster_mass_test,
    control_fdr,
    correlation_by_distance,
    difference_by_distance,
    effect_size_map,
    match_length,
    morans_i,
    response_smoothness,
    split_half_stability,
    summarize,
    t_map,
    tuning_smoothness,
    weight_smoothness,
)
from topographic.maps.nulls import (
    exchange,
    exchangeable_blocks,
    floor_maps,
    log10_relabellings,
    noise_floor,
    permuted_null,
    relabel,
    stream,
    unit_maps,
    wild_maps,
)
from topographic.maps.two_sample import STATISTICS, group_moments, welch_t
from topographic.recording import readout_kernel, readout_sheet
from topographic.recording.readout import lattice_kernel
from topographic.sheets import Sheet, grid, permuted_grid

ALPHA = 0.05


def is_calibrated(p, n):
    """Whether a share of rejections at .05 is within 2.6 Monte-Carlo standard errors of .05."""
    rate, error = np.mean(np.asarray(p) <= ALPHA), math.sqrt(ALPHA * (1 - ALPHA) / n)
    return len(p) == n and abs(rate - ALPHA) <= 2.6 * error


def mean_abs_t(unit_map):
    return against_nulls(unit_map, lambda maps: np.abs(maps).mean(axis=1))


# how the nulls are made


def test_blocks_are_equal_entries_in_every_column():
    in_condition = np.array([True, False, True, False, True, True, False, False])
    runs, kinds = list("11112222"), list("xxyyxxyz")
    assert exchangeable_blocks([], in_condition).tolist() == [0] * 8
    blocks = exchangeable_blocks([runs, kinds], in_condition)
    # 1x: a b, 1y: a b, 2x: a a, 2y: b, 2z: b
    assert (blocks >= 0).tolist() == [True] * 4 + [False] * 4
    assert blocks[0] == blocks[1] != blocks[2] == blocks[3]


def test_labels_move_within_blocks_only():
    rng = np.random.default_rng(0)
    in_condition = rng.random(60) < 0.4
    blocks = rng.integers(-1, 4, 60)
    labels = relabel(in_condition, blocks, 500, rng)
    assert labels.shape == (500, 60)
    assert (labels[:, blocks < 0] == in_condition[blocks < 0]).all()
    for block in range(4):
        inside = blocks == block
        assert (labels[:, inside].sum(1) == in_condition[inside].sum()).all()
        np.testing.assert_allclose(labels[:, inside].mean(0), in_condition[inside].mean(), atol=0.12)


def test_every_labelling_is_drawn_equally_often_and_counted():
    in_condition, blocks = np.array([True, True, False, False, True, False, True]), np.array([0, 0, 0, 0, 2, 2, -1])
    labels = relabel(in_condition, blocks, 12_000, np.random.default_rng(0))
    seen, times = np.unique(labels, axis=0, return_counts=True)
    assert len(seen) == 12 == len(list(combinations(range(4), 2))) * 2
    assert log10_relabellings(blocks, in_condition) == pytest.approx(math.log10(12))
    assert abs(times - 1000).max() < 130
    assert log10_relabellings(np.full(3, -1), np.array([True, False, True])) == 0


def test_the_label_null_is_the_map_of_the_relabelled_items(respond):
    values = np.random.default_rng(0).standard_normal((16, 12))
    responses = respond(values)
    for fwhm_mm in (0.0, 2.0):
        found = t_map(responses, "a", "b", fwhm_mm=fwhm_mm, n_draws=6, seed=3)
        in_condition, runs = np.arange(16) % 2 == 0, np.arange(16) // 8
        labels = relabel(in_condition, runs, 6, stream(3, "label"))
        assert (labels != in_condition).any(1).all()
        seen = responses.values.astype(float) @ readout_kernel(responses.sheet, fwhm_mm)
        for label, null in zip(labels, found.nulls["label"], strict=True):
            expected = ttest_ind(seen[label], seen[~label], equal_var=False).statistic
            np.testing.assert_allclose(null, expected, rtol=1e-4, atol=1e-5)


def test_the_unit_null_permutes_before_the_readout(respond):
    responses = respond(np.random.default_rng(0).standard_normal((16, 24)), sheet=permuted_grid((4, 6), "s"))
    plain = t_map(responses, "a", "b", n_draws=5)
    for null in plain.nulls["unit"]:
        np.testing.assert_array_equal(np.sort(null), np.sort(plain.values))
        assert (null != plain.values).any()
    blurred = t_map(responses, "a", "b", fwhm_mm=2.0, n_draws=5)
    kernel, values = readout_kernel(responses.sheet, 2.0), responses.values.astype(float)
    generator = stream(0, "unit", "site")
    for null in blurred.nulls["unit"]:
        seen = values[:, generator.permutation(24)] @ kernel
        expected = ttest_ind(seen[::2], seen[1::2], equal_var=False).statistic
        np.testing.assert_allclose(null, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("statistic", STATISTICS.values(), ids=STATISTICS)
@pytest.mark.parametrize("sheet", [permuted_grid((5, 7), "s"), grid((6, 4), wrap=True)], ids=["permuted", "torus"])
def test_read_out_nulls_are_those_of_whole_populations_through_the_whole_kernel(sheet, statistic):
    """The same draws, one population after the other, item by item."""
    rng, in_condition, n_draws = np.random.default_rng(0), np.arange(40) % 3 == 0, 4
    # large differences between the sides, next to which the spread would be lost in float32
    values = rng.standard_normal((40, sheet.n_units)) + 300.0 * in_condition[:, None] * rng.standard_normal(
        sheet.n_units
    )
    values[:, 3] = 0.5
    kernel = readout_kernel(sheet, 2.0)

    def slowly(population):
        return np.stack([
            statistic(group_moments(population() @ kernel, in_condition[None]))[0] for _ in range(n_draws)
        ])

    noise, order = np.random.default_rng(1), np.random.default_rng(2)
    floor = slowly(lambda: noise.standard_normal((40, sheet.n_units), dtype=np.float32).astype(np.float64))
    unit = slowly(lambda: values[:, order.permutation(np.arange(sheet.n_units))])
    for through in (kernel, lattice_kernel(sheet, 2.0)):
        drawn = {"kernel": through, "n_draws": n_draws}
        found = floor_maps(statistic, in_condition, n_units=sheet.n_units, generator=np.random.default_rng(1), **drawn)
        np.testing.assert_allclose(found, floor, rtol=1e-5, atol=1e-5)
        found = unit_maps(statistic, values, in_condition, generator=np.random.default_rng(2), **drawn)
        np.testing.assert_allclose(found, unit, rtol=1e-5, atol=1e-5)


def test_what_does_not_vary_keeps_its_place_in_read_out_nulls():
    """Units that are constant on each side: infinite where the means differ, 0 where they do not."""
    in_condition = np.arange(12) < 6
    for difference, expected in ((0.0, 0.0), (1.0, np.inf)):
        values = np.where(in_condition, difference + 0.1, 0.1)[:, None] * np.ones(16)
        drawn = {"kernel": lattice_kernel(grid(16), 2.0), "n_draws": 3, "generator": np.random.default_rng(0)}
        assert (unit_maps(welch_t, values, in_condition, **drawn) == expected).all()


@pytest.mark.parametrize("statistic", STATISTICS.values(), ids=STATISTICS)
def test_the_short_cut_of_the_floor_draws_what_whole_populations_give(statistic):
    """Without a readout only means and variances are drawn; an identity readout draws every item."""
    in_condition = np.arange(14) < 5
    short, long = (
        floor_maps(
            statistic, in_condition, n_units=40, kernel=kernel, n_draws=100, generator=np.random.default_rng(seed)
        )
        for seed, kernel in ((0, None), (1, np.eye(40)))
    )
    assert short.shape == long.shape == (100, 40)
    assert kstest(short.ravel(), long.ravel()).pvalue > 0.01


@pytest.mark.parametrize(("fwhm_mm", "expected"), [(0.0, 0.0), (1.0, 0.069), (2.0, 0.602)])
def test_the_floor_of_the_published_sheets(respond, fwhm_mm, expected):
    """White noise on 28 x 28 units, queen contiguity: the published control's .60 is the readout's own."""
    responses = respond(np.random.default_rng(0).standard_normal((24, 784)), sheet=permuted_grid(784, "s"))
    found = morans_i(t_map(responses, "a", "b", fwhm_mm=fwhm_mm, n_draws=30))
    assert found.floor.mean == pytest.approx(expected, abs=0.03)
    assert found.unit_null.mean == pytest.approx(expected, abs=0.03)
    assert 0.01 < found.floor.sd < 0.045


def test_the_floor_sees_the_sheet_only(respond):
    rng = np.random.default_rng(0)
    one, other = (respond(rng.standard_normal((12, 24)) * scale, sheet=grid((4, 6))) for scale in (1, 50))
    for fwhm_mm in (0.0, 2.0):
        floors = [t_map(each, "a", "b", fwhm_mm=fwhm_mm, n_draws=4).nulls["floor"] for each in (one, other)]
        np.testing.assert_array_equal(*floors)


@pytest.mark.parametrize("fwhm_mm", [0.0, 2.0])
def test_seeds(respond, fwhm_mm):
    values = np.random.default_rng(0).standard_normal((16, 12))

    def nulls(site="one", seed=0):
        return t_map(respond(values, site=site), "a", "b", fwhm_mm=fwhm_mm, n_draws=3, seed=seed).nulls

    first, again, reseeded, elsewhere = nulls(), nulls(), nulls(seed=1), nulls(site="two")
    for null in ("floor", "unit", "label"):
        np.testing.assert_array_equal(first[null], again[null])
        assert not np.array_equal(first[null], reseeded[null])
    for null in ("floor", "unit"):
        assert not np.array_equal(first[null], elsewhere[null])
    # all sites saw the same items, so one relabelling serves them all
    np.testing.assert_array_equal(first["label"], elsewhere["label"])


def test_batches_do_not_matter(respond, monkeypatch):
    responses = respond(np.random.default_rng(0).standard_normal((16, 12)))
    whole = t_map(responses, "a", "b", n_draws=7).nulls["label"]
    monkeypatch.setattr("topographic.maps.nulls._BATCH_SIZE", 24)
    np.testing.assert_allclose(t_map(responses, "a", "b", n_draws=7).nulls["label"], whole, rtol=1e-6)


def test_a_readout_with_other_sites_than_units(respond):
    """Units that share places: fewer sites than units, and every null lives on the sites."""
    sheet = grid((4, 6))
    crowded = type(sheet)("crowded", sheet.positions_mm[np.arange(30) % 24])
    found = t_map(
        respond(np.random.default_rng(0).standard_normal((12, 30)), sheet=crowded), "a", "b", fwhm_mm=2.0, n_draws=3
    )
    assert found.sheet == readout_sheet(crowded, 2.0)
    assert {maps.shape for maps in found.nulls.values()} == {(3, 24)}


def test_unit_maps_stay_on_the_units_without_a_kernel():
    values = np.random.default_rng(0).standard_normal((8, 5))
    drawn = unit_maps(welch_t, values, np.arange(8) < 4, kernel=None, n_draws=3, generator=np.random.default_rng(1))
    assert drawn.shape == (3, 5)
    assert drawn.dtype == np.float32


# what no null can be made of

DOORS = {
    "t_map": lambda responses, **words: t_map(responses, "a", "b", **words),
    "effect_size_map": lambda responses, **words: effect_size_map(responses, "a", "b", **words),
    "summarize": lambda responses, **words: summarize({"site": responses}, "a", "b", **words),
    "response_smoothness": response_smoothness,
    "weight_smoothness": lambda responses, **words: weight_smoothness(torch.ones(16, 3), responses.sheet, **words),
    "split_half_stability": lambda responses, **words: split_half_stability({"site": responses}, "a", "b", **words),
    "permuted_null": lambda responses, **words: permuted_null(t_map(responses, "a", "b"), **{"n_draws": 2, **words}),
    "noise_floor": lambda responses, **words: noise_floor(t_map(responses, "a", "b"), **{"n_draws": 2, **words}),
}
SEEDED = DOORS | {
    "correlation_by_distance": correlation_by_distance,
    "difference_by_distance": lambda responses, **words: difference_by_distance(t_map(responses, "a", "b"), **words),
    "tuning_smoothness": lambda responses, **words: tuning_smoothness(t_map(responses, "a", "b"), **words),
    "match_length": lambda responses, **words: match_length({"site": responses}, "a", "b", **words),
}


@pytest.mark.parametrize("n_draws", [-1, 1])
@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_numbers_of_draws_that_make_no_null(respond, door, n_draws):
    responses = respond(np.random.default_rng(0).standard_normal((12, 16)))
    with pytest.raises(ValueError, match=f"n_draws={n_draws}; expected .*at least 2 draws"):
        door(responses, n_draws=n_draws)


@pytest.mark.parametrize("door", SEEDED.values(), ids=SEEDED)
def test_seeds_that_are_none(respond, door):
    responses = respond(np.random.default_rng(0).standard_normal((12, 16)), n_tokens=np.full(12, 3))
    with pytest.raises(ValueError, match="seed=-1; expected 0 or more"):
        door(responses, seed=-1)


# groups of items, and unequal variances


def test_whole_groups_change_places_where_each_lies_in_one_condition():
    groups, runs = np.repeat(np.arange(6), [1, 2, 3, 2, 2, 2]), np.repeat([0, 1], [6, 6])
    in_condition = np.isin(groups, [0, 3])
    pieces = exchange([], in_condition, groups)
    labels = pieces.labels(100, np.random.default_rng(0))
    assert pieces.n_labellings == 15
    assert len(np.unique(labels, axis=0)) == len(labels) == 14
    assert not (labels == in_condition).all(1).any()
    assert {len(np.unique(label[groups == one])) for label in labels for one in range(6)} == {1}
    assert set(labels.sum(1)) == {3, 4, 5}
    within = exchange([runs], in_condition, groups)
    assert within.n_labellings == 9
    assert len(within.labels(8, np.random.default_rng(0))) == 8
    assert len(within.labels(7, np.random.default_rng(0))) == 7
    # a group of several runs changes places only with groups of the same
    across = exchange([np.r_[np.zeros(11), 1]], in_condition, groups)
    assert (across.blocks >= 0).tolist() == [True] * 5 + [False]


def test_items_change_places_within_groups_of_both_conditions():
    groups, in_condition = np.array([0, 0, 1, 1, 2, 2, 3, 4, 4]), np.array([1, 0, 0, 1, 1, 0, 1, 0, 0], bool)
    pieces = exchange([], in_condition, groups)
    labels = pieces.labels(100, np.random.default_rng(0))
    assert pieces.n_labellings == len(labels) + 1 == 16
    assert (labels[:, :6].reshape(-1, 3, 2).sum(2) == 1).all()
    assert (labels[:, 7] == labels[:, 8]).all()
    assert pieces.n_items == 9


def test_the_smallest_p_there_can_be():
    categories, draws = np.arange(8), 999
    assert exchange([], categories < 4, categories).smallest_p(draws) == pytest.approx(1 / 35)
    assert exchange([], categories < 3, categories).smallest_p(draws) == pytest.approx(1 / 56)
    assert exchange([], categories < 4, categories).smallest_p(9) == pytest.approx(0.1)


PASSAGES = np.repeat(np.arange(8), 5)


def passages(rng, sheet, smooth_noise):
    """Eight passages of five items, each passage in one condition, half of the variance between passages."""
    values = smooth_noise(rng, 8, sheet)[PASSAGES] + smooth_noise(rng, 40, sheet)
    return values, PASSAGES < 4, PASSAGES


def phrases(rng, sheet, smooth_noise):
    """Phrases of two of 18 words of a category, in eight categories: every word in eight phrases, no class effect."""
    pairs = np.concatenate([
        18 * category + np.column_stack([np.arange(18), (np.arange(18) + step) % 18])
        for category in range(8)
        for step in (1, 2, 3, 4)
    ])
    words = smooth_noise(rng, 144, sheet)
    values = words[pairs].sum(1) + 0.5 * smooth_noise(rng, len(pairs), sheet)
    return values, pairs[:, 0] // 18 < 4, pairs[:, 0] // 18


def found_nothing(one, seed, n_draws=99, threshold=3.0, **options):
    """Smallest p of Moran's I, of any cluster and, corrected, of any unit."""
    unit_map = t_map(one, "a", "b", n_draws=n_draws, seed=seed, **options)
    tests = cluster_mass_test({"site": unit_map}, threshold=threshold, sign="both")
    q = control_fdr({"site": unit_map})["site"].q
    return morans_i(unit_map).label_null.p, min([test.p_mass for test in tests], default=1.0), q.min()


@pytest.mark.parametrize("design", [passages, phrases])
@pytest.mark.filterwarnings("ignore:label 'group':UserWarning")
@pytest.mark.unchecked
def test_groups_of_items_are_no_contrast(respond, smooth_noise, design):
    """Items one by one: clusters .8 and any FDR .7 of passages; .6 and .7 to .96 of the published phrases."""
    rng, n, sheet = np.random.default_rng(20), 160, permuted_grid((6, 6), "s")
    declared, alone = [], []
    for _ in range(n):
        values, in_condition, groups = design(rng, sheet, smooth_noise)
        about = {
            "sheet": sheet,
            "conditions": np.where(in_condition, "a", "b"),
            "labels": {"group": groups.astype(str)},
        }
        about |= {"runs": ["1"] * len(groups)}
        seed = int(rng.integers(1 << 30))
        declared.append(found_nothing(respond(values, sampled_by="group", **about), seed))
        if len(alone) < 30:
            alone.append(found_nothing(respond(values, **about), seed, 39))
    rates = (np.array(declared) <= ALPHA).mean(0)
    assert (rates <= ALPHA + 2.6 * math.sqrt(ALPHA * (1 - ALPHA) / n)).all(), rates
    assert (np.array(alone) <= ALPHA).mean(0)[1:].min() > 0.2


def test_a_class_effect_of_groups_is_found(respond, smooth_noise):
    rng, sheet = np.random.default_rng(21), permuted_grid((6, 6), "s")
    hits = 0
    for _ in range(10):
        values, in_condition, groups = passages(rng, sheet, smooth_noise)
        values[:, (sheet.positions_mm < 3).all(1).numpy()] += np.where(in_condition, 30.0, 0)[:, None]
        about = {"conditions": np.where(in_condition, "a", "b"), "labels": {"passage": groups.astype(str)}}
        one = respond(values, sheet=sheet, sampled_by="passage", runs=["1"] * 40, **about)
        hits += found_nothing(one, 0)[1] <= ALPHA
    assert hits >= 8


def test_wild_maps_are_the_maps_of_signed_residuals():
    rng = np.random.default_rng(0)
    values, in_condition = rng.standard_normal((12, 5)), np.arange(12) < 4
    groups = np.arange(12) // 2
    drawn = wild_maps(welch_t, values, in_condition, groups, n_draws=3, generator=np.random.default_rng(1))
    residuals = values.copy()
    for side in (in_condition, ~in_condition):
        residuals[side] = (values[side] - values[side].mean(0)) * np.sqrt(side.sum() / (side.sum() - 1))
    signs = 2.0 * np.random.default_rng(1).integers(2, size=(3, 6)) - 1
    for one, sign in zip(drawn, signs[:, groups], strict=True):
        signed = residuals * sign[:, None]
        expected = ttest_ind(signed[in_condition], signed[~in_condition], equal_var=False).statistic
        np.testing.assert_allclose(one, expected, rtol=1e-5)


def test_unequal_spreads_are_said_where_labels_alone_are_permuted(respond):
    values = np.random.default_rng(0).standard_normal((40, 16))
    values[:20] *= 3
    about = {"sheet": permuted_grid((4, 4), "s"), "conditions": ["a"] * 20 + ["b"] * 20, "runs": ["1"] * 40}
    with pytest.warns(UserWarning, match=r"at 'site' to a spread [23]\.\d times as widely as to b: permuted labels"):
        t_map(respond(values, **about), "a", "b", n_draws=19)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        t_map(respond(values, **about), "a", "b", n_draws=19, null="wild")
        t_map(respond(values, **about), "a", "b")
        values[:20] /= 2
        t_map(respond(values, **about), "a", "b", n_draws=19)


@pytest.mark.parametrize(("n_a", "n_b"), [(10, 30), (20, 20)])
@pytest.mark.parametrize("spread", [1, 3])
@pytest.mark.unchecked
def test_the_wild_null_keeps_its_level_whatever_the_spreads(respond, smooth_noise, n_a, n_b, spread):
    """Labels permuted: .2 for 10 + 30 items with three times the spread in the smaller group."""
    rng, n, sheet = np.random.default_rng(22), 100, permuted_grid((8, 8), "s")
    about = {"sheet": sheet, "conditions": ["a"] * n_a + ["b"] * n_b, "runs": ["1"] * 40}
    null = None if n_a != n_b else "wild"
    p, permuted = [], []
    for _ in range(n):
        values = smooth_noise(rng, 40, sheet)
        values[:n_a] *= spread
        seed = int(rng.integers(1 << 30))
        p.append(found_nothing(respond(values, **about), seed, null=null)[1])
        if n_a != n_b and spread > 1 and len(permuted) < 60:
            permuted.append(found_nothing(respond(values, **about), seed, null="labels")[1])
    assert np.mean(np.array(p) <= ALPHA) <= ALPHA + 2.6 * math.sqrt(ALPHA * (1 - ALPHA) / n)
    if permuted:
        assert np.mean(np.array(permuted) <= ALPHA) > 0.1


def test_the_wild_null_finds_a_planted_cluster(respond, smooth_noise):
    rng, sheet = np.random.default_rng(23), permuted_grid((8, 8), "s")
    patch = (sheet.positions_mm < 3).all(1).numpy()
    about = {"sheet": sheet, "conditions": ["a"] * 10 + ["b"] * 30, "runs": ["1"] * 40}
    hits = 0
    for _ in range(20):
        values = smooth_noise(rng, 40, sheet)
        values /= values.std()
        values[np.ix_(np.arange(40) < 10, patch)] += 2.0
        hits += found_nothing(respond(values, **about), int(rng.integers(1 << 30)))[1] <= ALPHA
    assert hits >= 18


# planted truth


@pytest.mark.unchecked
def test_unit_null_is_calibrated_and_label_null_too_where_units_are_independent(respond):
    """Units without any arrangement, a third of them selective: no spatial structure to find."""
    rng, n = np.random.default_rng(10), 300
    p = []
    for _ in range(n):
        values = rng.standard_normal((24, 64))
        values[::2] += np.where(rng.random(64) < 1 / 3, 1.5, 0)
        p.append(morans_i(t_map(respond(values), "a", "b", n_draws=39, seed=int(rng.integers(1 << 30)))).unit_null.p)
    assert is_calibrated(p, n)


@pytest.mark.unchecked
def test_unit_null_is_calibrated_through_a_readout(respond):
    rng, n = np.random.default_rng(11), 300
    p, values_of_i = [], []
    for _ in range(n):
        values = rng.standard_normal((16, 36)) * rng.uniform(0.2, 4, 36)
        found = morans_i(t_map(respond(values), "a", "b", fwhm_mm=2.0, n_draws=19, seed=int(rng.integers(1 << 30))))
        p.append(found.unit_null.p)
        values_of_i.append(found.value)
    assert np.mean(values_of_i) > 0.4  # which the readout made
    assert is_calibrated(p, n)


@pytest.mark.unchecked
def test_smoothness_alone_passes_the_unit_null_and_not_the_label_null(respond, smooth_noise):
    """The lesson: a smooth population without any contrast has smooth maps, whatever is contrasted."""
    rng, n = np.random.default_rng(12), 300
    sheet = permuted_grid(64, "s")
    unit, label, strength = [], [], []
    for _ in range(n):
        unit_map = t_map(
            respond(smooth_noise(rng, 24, sheet), sheet=sheet), "a", "b", n_draws=39, seed=int(rng.integers(1 << 30))
        )
        found = morans_i(unit_map)
        unit.append(found.unit_null.p)
        label.append(found.label_null.p)
        strength.append(mean_abs_t(unit_map).label_null.p)
    assert np.mean(np.array(unit) <= ALPHA) > 0.99
    assert is_calibrated(label, n)
    assert is_calibrated(strength, n)


@pytest.mark.parametrize("fwhm_mm", [0.0, 1.0])
@pytest.mark.unchecked
def test_power_for_a_planted_cluster(respond, fwhm_mm):
    """A 4 x 4 patch of selective units among independent ones: every null has to give way."""
    rng, n = np.random.default_rng(13), 30
    sheet = permuted_grid(100, "s")
    patch = ((sheet.positions_mm[:, 0] >= 5) & (sheet.positions_mm[:, 0] < 9) & (sheet.positions_mm[:, 1] < 4)).numpy()
    assert patch.sum() == 16
    floor, unit, label, strength = [], [], [], []
    for _ in range(n):
        values = rng.standard_normal((40, 100))
        values[np.ix_(np.arange(40) % 2 == 0, patch)] += 1.0
        unit_map = t_map(
            respond(values, sheet=sheet), "a", "b", fwhm_mm=fwhm_mm, n_draws=39, seed=int(rng.integers(1 << 30))
        )
        found = morans_i(unit_map)
        floor.append(found.floor.p)
        unit.append(found.unit_null.p)
        label.append(found.label_null.p)
        strength.append(mean_abs_t(unit_map).label_null.p)
    for p in (floor, unit, label, strength):
        assert np.mean(np.array(p) <= ALPHA) >= 0.9


def test_a_contrast_in_a_smooth_population_shows_in_its_strength(respond, smooth_noise):
    """Where every map is smooth, I cannot tell a real contrast from none; mean |t| can."""
    rng, n = np.random.default_rng(14), 30
    sheet = permuted_grid(64, "s")
    pattern = smooth_noise(rng, 1, sheet)[0]
    p = []
    for _ in range(n):
        values = smooth_noise(rng, 40, sheet)
        values[::2] += 1.5 * pattern
        unit_map = t_map(respond(values, sheet=sheet), "a", "b", n_draws=39, seed=int(rng.integers(1 << 30)))
        p.append(mean_abs_t(unit_map).label_null.p)
    assert np.mean(np.array(p) <= ALPHA) >= 0.9


@pytest.mark.unchecked
def test_runs_that_differ_are_no_contrast(respond):
    """Unbalanced runs with an effect of run: exchange across runs finds the run, exchange within runs does not."""
    rng, n = np.random.default_rng(15), 200
    runs, conditions = ["1"] * 20 + ["2"] * 20, ["a"] * 14 + ["b"] * 6 + ["a"] * 6 + ["b"] * 14
    within, across = [], []
    for _ in range(n):
        values = rng.standard_normal((40, 36))
        values[:20] += rng.standard_normal(36)
        responses = respond(values, conditions=conditions, runs=runs)
        for exchangeable, found in ((("run",), within), ((), across)):
            seed = int(rng.integers(1 << 30))
            unit_map = t_map(responses, "a", "b", n_draws=39, exchangeable=exchangeable, seed=seed)
            found.append(mean_abs_t(unit_map).label_null.p)
    assert is_calibrated(within, n)
    assert np.mean(np.array(across) <= ALPHA) > 0.5


def test_few_relabellings_stay_honest(respond):
    """Two items of each side in one block allow six labellings: p cannot fall much below one in six."""
    rng = np.random.default_rng(16)
    for _ in range(20):
        values = rng.standard_normal((4, 16))
        values[::2] += 5
        unit_map = t_map(respond(values, runs=["1"] * 4), "a", "b", n_draws=300)
        assert mean_abs_t(unit_map).label_null.p > 0.1


def test_null_maps_test_any_number(respond):
    unit_map = t_map(respond(np.random.default_rng(0).standard_normal((12, 16))), "a", "b", n_draws=9)
    assert isinstance(unit_map, UnitMap)
    largest = against_nulls(unit_map, lambda maps: maps.max(axis=1))
    assert largest.unit_null.p == 1  # the largest value is the same wherever the units lie


# maps without labels to permute

NULLS = {"unit": permuted_null, "floor": noise_floor}


def make(values, site="site", **options):
    return UnitMap(site, np.asarray(values, dtype=np.float32), grid(len(values), site), "anything", **options)


@pytest.fixture
def holes():
    values = np.random.default_rng(0).normal(5, 2, 60)
    values[[0, 7, 59]] = np.nan
    return make(values)


def test_a_permutation_keeps_the_values_and_the_places_without_one(holes):
    draws = permuted_null(holes, n_draws=50).nulls["unit"]
    assert draws.shape == (50, 60)
    for draw in draws:
        np.testing.assert_array_equal(np.isnan(draw), np.isnan(holes.values))
        np.testing.assert_array_equal(np.sort(draw), np.sort(holes.values))
    # every unit's values go everywhere: 50 draws of 57 give about 33 different ones
    different = [len(np.unique(column)) for column in draws.T if not np.isnan(column).any()]
    assert min(different) > 20


def test_the_floor_is_noise_of_the_same_mean_and_spread(holes):
    draws = noise_floor(holes, n_draws=400).nulls["floor"]
    np.testing.assert_array_equal(np.isnan(draws), np.tile(np.isnan(holes.values), (400, 1)))
    present = draws[:, ~np.isnan(holes.values)]
    assert present.mean() == pytest.approx(np.nanmean(holes.values), abs=0.05)
    assert present.std() == pytest.approx(np.nanstd(holes.values), abs=0.05)
    neighbours = np.corrcoef(present[:, :-1].ravel(), present[:, 1:].ravel())[0, 1]
    assert abs(neighbours) < 0.03


@pytest.mark.parametrize("null", NULLS)
def test_seed_and_site_decide_the_draws(null, holes):
    draw = NULLS[null]
    first = draw(holes, n_draws=3).nulls[null]
    np.testing.assert_array_equal(first, draw(holes, n_draws=3).nulls[null])
    assert not np.array_equal(first, draw(holes, n_draws=3, seed=1).nulls[null], equal_nan=True)
    elsewhere = make(holes.values, "other site")
    assert not np.array_equal(first, draw(elsewhere, n_draws=3).nulls[null], equal_nan=True)


def test_one_site_permutes_all_its_maps_alike():
    first, second = make(np.arange(30.0)), make(100 + np.arange(30.0))
    np.testing.assert_array_equal(
        permuted_null(first, n_draws=5).nulls["unit"] + 100, permuted_null(second, n_draws=5).nulls["unit"]
    )


@pytest.mark.parametrize("null", NULLS)
def test_what_the_map_holds_already_stays(null, holes):
    labelled = UnitMap(
        holes.site,
        holes.values,
        holes.sheet,
        "welch_t",
        p=np.full(60, 0.5),
        nulls={"label": np.ones((2, 60))},
        provenance={"seed": 3},
    )
    with_null = NULLS[null](labelled, n_draws=2)
    assert set(with_null.nulls) == {"label", null}
    assert (with_null.statistic, with_null.provenance) == ("welch_t", {"seed": 3})
    np.testing.assert_array_equal(with_null.p, labelled.p)
    np.testing.assert_array_equal(with_null.values, labelled.values)
    assert null not in labelled.nulls


def test_a_smooth_map_stands_out_from_both_and_noise_from_neither():
    rows, columns = np.meshgrid(np.arange(12), np.arange(12), indexing="ij")
    smooth = make(np.sin(rows / 4 + columns / 5).ravel())
    noise = make(np.random.default_rng(3).normal(size=144))
    for unit_map, stands_out in ((smooth, True), (noise, False)):
        result = morans_i(noise_floor(permuted_null(unit_map, n_draws=199), n_draws=199))
        for reference in (result.unit_null, result.floor):
            assert (reference.p == 0.005) == stands_out
            assert reference.mean == pytest.approx(result.expected, abs=0.01)


@pytest.mark.parametrize("null", NULLS)
def test_a_map_without_values_has_nulls_without_values(null):
    draws = NULLS[null](make(np.full(4, np.nan)), n_draws=2).nulls[null]
    assert np.isnan(draws).all()


@pytest.mark.parametrize("null", NULLS)
def test_one_draw_and_readouts_are_refused(null, holes):
    with pytest.raises(ValueError, match="n_draws=1; expected at least 2 draws"):
        NULLS[null](holes, n_draws=1)
    smoothed = Sheet(name="site", positions_mm=holes.sheet.positions_mm, is_readout=True)
    with pytest.raises(ValueError, match="is a readout, whose sites are not exchangeable"):
        NULLS[null](UnitMap("site", holes.values, smoothed, "welch_t"), n_draws=2)
