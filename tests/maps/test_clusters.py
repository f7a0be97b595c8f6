import numpy as np
import pytest
from scipy.ndimage import label

from topographic.maps import UnitMap, control_fdr, t_map
from topographic.maps.clusters import CLUSTER_METHODS, cluster_mass_test, clusters, largest_above, patches_above
from topographic.recording import Responses
from topographic.sheets import Sheet, adjacency, adjacent_pairs, grid, permuted_grid, to_grid
from topographic.stimuli import StimulusSet

PICTURE = np.array(
    [
        [5, 4, 0, 0, 0, 0, 0],
        [4, 3, 0, 0, 2, 2, 0],
        [0, 0, 1, 0, 2, 9, 0],
        [-3, 0, 0, 0, 0, 0, 0],
        [-3, -3, 0, 0, 0, 0, 6],
    ],
    dtype=float,
)


def unit_map(picture, layout=grid, **arguments):
    sheet = layout(picture.size, "x", shape=picture.shape)
    cells = sheet.positions_mm.long().numpy()
    return UnitMap("x", picture[cells[:, 0], cells[:, 1]], sheet, "welch_t", **arguments)


@pytest.mark.parametrize("layout", [grid, permuted_grid])
@pytest.mark.parametrize(("contiguity", "structure"), [("rook", None), ("queen", np.ones((3, 3)))])
def test_components_equal_scipy_and_come_by_mass(layout, contiguity, structure):
    found = clusters(unit_map(PICTURE, layout), threshold=0.5, contiguity=contiguity, min_units=1)
    labels, n = label(PICTURE > 0.5, structure)
    expected = sorted((PICTURE[labels == k].sum() for k in range(1, n + 1)), reverse=True)
    assert [s.provenance["mass"] for s in found] == expected
    for selection in found:
        picture = to_grid(selection.sheet, selection.mask.astype(float)).astype(bool)
        assert len(np.unique(labels[picture])) == 1
        assert selection.provenance["peak_value"] == PICTURE[picture].max()
        peak = selection.sheet.positions_mm[selection.provenance["peak_unit"]].long().tolist()
        assert PICTURE[tuple(peak)] == PICTURE[picture].max()


def test_small_clusters_and_negative_units_are_left_out():
    found = clusters(unit_map(PICTURE), threshold=0.5, min_units=4)
    assert [s.n_selected for s in found] == [4, 4]
    assert all((unit_map(PICTURE).values[s.mask] > 0).all() for s in found)


def test_q_decides_without_a_threshold():
    q = np.where(np.abs(PICTURE) > 3.5, 0.01, 0.5).ravel()
    found = clusters(unit_map(PICTURE, q=q), min_units=1)
    assert sorted(s.provenance["mass"] for s in found) == [6, 9, 13]


def test_watershed_divides_at_the_saddle_and_prominence_joins():
    ridge = unit_map(np.array([[9.0, 7.0, 5.0, 6.0, 8.0, 2.0, 3.0]]))

    def members(prominence):
        found = clusters(ridge, threshold=0.5, method="watershed", min_units=1, min_prominence=prominence)
        return [np.flatnonzero(s.mask).tolist() for s in found]

    # the saddle unit of value 5 goes to its higher neighbour, unit 1
    assert members(0.0) == [[0, 1, 2], [3, 4, 5], [6]]
    assert members(1.5) == [[0, 1, 2], [3, 4, 5, 6]]
    assert members(3.5) == [[0, 1, 2, 3, 4, 5, 6]]


def test_the_published_rule_absorbs_failed_units_but_not_negative_ones():
    found = clusters(unit_map(PICTURE), threshold=0.5, method="published", min_units=1)
    assert len(found) == 1, "zeros join everything"
    assert found[0].n_selected == (PICTURE >= 0).sum()
    weak = clusters(unit_map(PICTURE / 10), threshold=0.05, method="published", min_units=1)
    assert weak == [], "no unit reaches 1"


@pytest.mark.parametrize("method", CLUSTER_METHODS)
def test_missing_values_never_belong_to_a_cluster(method):
    picture = PICTURE.copy()
    picture[2, 5] = np.nan
    found = clusters(unit_map(picture), threshold=0.5, method=method, min_units=1)
    assert found
    for selection in found:
        assert not np.isnan(unit_map(picture).values[selection.mask]).any()


def test_a_mesh_has_clusters_too():
    sheet = Sheet(name="mesh", positions_mm=np.zeros((5, 3)), edges=[[0, 1], [1, 2], [3, 4]])
    found = clusters(UnitMap("mesh", [1.0, 1, 1, 1, 0], sheet, "t"), threshold=0.5, min_units=1)
    assert [s.mask.tolist() for s in found] == [[True] * 3 + [False] * 2, [False] * 3 + [True, False]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "has no q; call control_fdr first"),
        ({"threshold": 1.0, "method": "snake"}, r"expected one of \['components', 'published', 'watershed'\]"),
    ],
)
def test_what_clusters_need(arguments, message):
    with pytest.raises(ValueError, match=message):
        clusters(unit_map(PICTURE), **arguments)


SHEETS = [permuted_grid((8, 9), f"s{k}") for k in range(2)]
CELLS = SHEETS[0].positions_mm.numpy()
PATCH = (CELLS[:, 0] < 3) & (CELLS[:, 1] < 3)
STIMULI = StimulusSet("s", [f"i{k}" for k in range(40)], ["a", "b"] * 20)


def planted(seed, effect):
    """Smooth noise on two sheets; on the first a 3 x 3 patch prefers condition a."""
    generator = np.random.default_rng(seed)
    responses = {}
    for sheet in SHEETS:
        pairs = adjacent_pairs(sheet).numpy()
        noise = generator.normal(size=(40, sheet.n_units))
        smooth = noise.copy()
        np.add.at(smooth.T, pairs[:, 0], noise.T[pairs[:, 1]])
        if sheet is SHEETS[0]:
            smooth += effect * 3 * np.outer(np.arange(40) % 2 == 0, PATCH)
        responses[sheet.name] = Responses(sheet.name, smooth, sheet, STIMULI)
    return responses


def corrected(seed, effect, **arguments):
    maps = {site: t_map(r, "a", "b", n_draws=99, seed=seed) for site, r in planted(seed, effect).items()}
    return cluster_mass_test(maps, threshold=2.5, **arguments)


def test_family_wise_error_is_kept():
    simulations = 120
    alarms = sum(any(cluster.p_mass <= 0.05 for cluster in corrected(seed, 0.0)) for seed in range(simulations))
    # binomial: 5 % of 120 is 6, its 99.9 % quantile 15
    assert 1 <= alarms <= 15, f"{alarms} of {simulations} null data sets gave a significant cluster"


def test_clusters_of_either_sign_are_one_family():
    """Each sign tested at .05: .107 of null data sets showed a cluster."""
    simulations, alarms, apart = 200, 0, 0
    for seed in range(simulations):
        maps = {"s1": t_map(planted(1000 + seed, 0.0)["s1"], "a", "b", n_draws=39, seed=seed)}
        least = {
            sign: min([one.p_mass for one in cluster_mass_test(maps, threshold=2.5, sign=sign)], default=1.0)
            for sign in ("both", "positive", "negative")
        }
        alarms += least["both"] <= 0.05
        apart += min(least["positive"], least["negative"]) <= 0.05
    assert alarms <= 0.05 * simulations + 2.6 * np.sqrt(simulations * 0.05 * 0.95)
    assert apart > 1.4 * alarms


def test_the_family_of_both_signs_by_hand():
    nulls = {"label": [[0, -4, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]]}
    one = UnitMap("x", [3.0, 0, 0, -2.5], grid(4, "x", shape=(1, 4)), "t", nulls=nulls)
    first, second = cluster_mass_test({"x": one}, threshold=1.0)
    assert (first.mass, first.peak_value, first.p_mass) == (2.0, 3.0, 2 / 4)
    assert (second.mass, second.peak_value, second.p_mass) == (1.5, -2.5, 2 / 4)
    (alone,) = cluster_mass_test({"x": one}, threshold=1.0, sign="positive")
    assert alone.p_mass == 1 / 4


def test_a_planted_cluster_is_found_in_its_place():
    hits = 0
    for seed in range(10):
        best = corrected(seed, 1.0)[0]
        overlap = 2 * (best.selection.mask & PATCH).sum() / (best.n_units + PATCH.sum())
        hits += best.p_mass <= 0.05 and best.selection.site == "s0" and overlap > 0.6
    assert hits >= 9


def test_sign_turns_the_contrast_around():
    positive, negative = corrected(0, 1.5), corrected(0, -1.5, sign="negative")
    assert positive[0].p_mass <= 0.05
    assert negative[0].p_mass <= 0.05
    assert negative[0].peak_value < 0


def test_a_hand_made_null():
    values = np.array([3.0, 3, 0, 0, 2, 0])
    nulls = {"label": [[2.5, 0, 0, 0, 0, 0], [0, 3, 3, 3, 0, 0], [0, 0, 0, 0, 0, 2]]}
    one = UnitMap("x", values, grid(6, "x", shape=(1, 6)), "t", nulls=nulls)
    best, second = cluster_mass_test({"x": one}, threshold=1.0)
    assert (best.mass, best.n_units, best.peak_unit) == (4.0, 2, 0)
    assert (best.p_mass, best.p_size) == (2 / 4, 2 / 4)
    assert (second.mass, second.n_units) == (1.0, 1)
    assert (second.p_mass, second.p_size) == (4 / 4, 4 / 4)


def test_what_the_test_needs():
    bare = unit_map(PICTURE)
    with pytest.raises(ValueError, match="has no label null"):
        cluster_mass_test({"x": bare}, threshold=1.0)
    for threshold in (0.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"threshold={threshold}; expected a value above 0"):
            cluster_mass_test({"x": bare}, threshold=threshold)
    with pytest.raises(ValueError, match="expected 'both', 'positive' or 'negative'"):
        cluster_mass_test({"x": bare}, threshold=1.0, sign="either")
    uneven = {str(k): unit_map(PICTURE, nulls={"label": np.zeros((k, 35))}) for k in (2, 3)}
    with pytest.raises(ValueError, match=r"maps have \[2, 3\] label draws"):
        cluster_mass_test(uneven, threshold=1.0)


def test_fdr_and_clusters_work_together():
    maps = control_fdr({site: t_map(r, "a", "b") for site, r in planted(0, 2.0).items()})
    found = clusters(maps["s0"], min_units=5)
    assert found
    assert (found[0].mask & PATCH).sum() >= 5


@pytest.mark.parametrize(
    "bad", [{"q": float("nan")}, {"q": 2.0}, {"threshold": float("nan")}, {"min_prominence": -1.0}]
)
def test_numbers_that_are_no_thresholds(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))}={next(iter(bad.values()))}"):
        clusters(unit_map(PICTURE), **bad)


@pytest.mark.parametrize("contiguity", ["rook", "queen"])
@pytest.mark.parametrize("sheet", [permuted_grid((6, 9), "p"), grid((5, 7), wrap=True)], ids=["permuted", "torus"])
def test_all_draws_at_once_have_the_clusters_of_one_after_the_other(sheet, contiguity):
    maps = np.random.default_rng(0).standard_normal((30, sheet.n_units)).astype(np.float32)
    maps[3], maps[4], maps[5, ::2] = -1.0, 2.0, np.nan  # none, one of all, gaps
    graph = adjacency(sheet, contiguity)
    found = largest_above(graph, maps, 0.5)
    for values, largest in zip(maps, found, strict=True):
        above = patches_above(graph, values, 0.5)
        expected = [max((mass for _, mass in above), default=0.0), max((len(units) for units, _ in above), default=0)]
        np.testing.assert_allclose(largest, expected, rtol=1e-6)
    assert found[3].tolist() == [0, 0]
    assert found[4].tolist() == [1.5 * sheet.n_units, sheet.n_units]
