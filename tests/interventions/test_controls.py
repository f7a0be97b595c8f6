import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import gaussian_filter, label

from topographic.interventions.controls import (
    CONTROLS,
    connected_control,
    is_contiguous,
    layer_control,
    matched_controls,
    model_control,
    removed_size,
)
from topographic.maps import NotMeasurable, Selection
from topographic.recording import Responses, readout
from topographic.sheets import adjacency, grid, permuted_grid, to_grid
from topographic.stimuli import StimulusSet

SHEETS = {name: permuted_grid((10, 12), name) for name in ("a", "b", "c")}


def patch(name, rows, columns):
    cells = SHEETS[name].positions_mm.long()
    inside = (
        (cells[:, 0] >= rows[0]) & (cells[:, 0] < rows[1]) & (cells[:, 1] >= columns[0]) & (cells[:, 1] < columns[1])
    )
    return inside.numpy()


LESION = [
    Selection("a", patch("a", (0, 3), (0, 4)) | patch("a", (6, 8), (5, 8)), SHEETS["a"], "two patches"),
    Selection("b", patch("b", (4, 6), (2, 4)), SHEETS["b"], "one patch"),
]


def sizes(selection):
    labels, _ = label(to_grid(selection.sheet, selection.mask.astype(float)))
    return sorted(np.bincount(labels.ravel())[1:].tolist())


@pytest.mark.parametrize("control", CONTROLS.values(), ids=CONTROLS.keys())
def test_every_control_is_matched_independent_of_the_lesion_and_seeded(control):
    drawn = control(LESION, SHEETS, generator=np.random.default_rng(0))
    assert sum(s.n_selected for s in drawn) == sum(s.n_selected for s in LESION)
    assert all(s.sheet == SHEETS[s.site] for s in drawn)
    lesioned = {s.site: s.mask for s in LESION}
    generator = np.random.default_rng(0)
    many = [s for _ in range(20) for s in control(LESION, SHEETS, generator=generator)]
    assert any((s.mask & lesioned.get(s.site, False)).any() for s in many), "controls may overlap the lesion"
    again = control(LESION, SHEETS, generator=np.random.default_rng(0))
    other = control(LESION, SHEETS, generator=np.random.default_rng(1))
    assert all(np.array_equal(x.mask, y.mask) for x, y in zip(drawn, again, strict=True))
    assert not all(np.array_equal(x.mask, y.mask) for x, y in zip(drawn, other, strict=False))


def test_layer_control_matches_each_sheet():
    drawn = layer_control(LESION, generator=np.random.default_rng(0))
    assert [(s.site, s.n_selected) for s in drawn] == [("a", 18), ("b", 4)]
    assert len(sizes(drawn[0])) > 4, "random units are scattered"


def test_model_control_reaches_every_sheet():
    generator = np.random.default_rng(0)
    reached = {s.site for _ in range(20) for s in model_control(LESION, SHEETS, generator=generator)}
    assert reached == {"a", "b", "c"}


@pytest.mark.parametrize("seed", range(10))
def test_connected_control_keeps_component_sizes(seed):
    drawn = connected_control(LESION, generator=np.random.default_rng(seed))
    assert [sizes(s) for s in drawn] == [[6, 12], [4]]


@pytest.mark.parametrize("control", CONTROLS.values(), ids=CONTROLS.keys())
def test_several_selections_of_one_site_are_counted_and_placed_as_one(control):
    """As `clusters` returns them; taken singly, controls held lesioned units or fewer than the lesion."""
    first = patch("a", (0, 3), (0, 4))
    apart = [Selection("a", mask, SHEETS["a"], "cluster") for mask in (first, LESION[0].mask & ~first)]
    # and where clusters share units, as those of two contrasts do, each unit counts once
    for pieces in ([*apart, LESION[1]], [LESION[0], *apart, LESION[1]]):
        drawn = control(pieces, SHEETS, generator=np.random.default_rng(0))
        assert sum(s.n_selected for s in drawn) == 18 + 4
        assert len({s.site for s in drawn}) == len(drawn)
        whole = control(LESION, SHEETS, generator=np.random.default_rng(0))
        assert all(np.array_equal(one.mask, other.mask) for one, other in zip(drawn, whole, strict=True))


def test_a_site_without_a_sheet_is_refused():
    with pytest.raises(ValueError, match=r"^the lesion has units at 'a', which has no sheet; add it to sheets"):
        model_control(LESION, {"b": SHEETS["b"]}, generator=np.random.default_rng(0))


def inner_pairs(sheet, mask):
    return int((adjacency(sheet) @ mask.astype(int))[mask].sum()) // 2


@pytest.mark.parametrize(("name", "rows", "columns"), [("square", (3, 8), (2, 7)), ("thread", (4, 5), (1, 9))])
def test_connected_controls_are_as_compact(name, rows, columns):
    """Grown without regard to it, patches of 25 units have a fifth fewer pairs inside than a square."""
    lesion = Selection("a", patch("a", rows, columns), SHEETS["a"], name)
    generator = np.random.default_rng(0)
    drawn = [connected_control([lesion], generator=generator)[0] for _ in range(20)]
    pairs = [inner_pairs(s.sheet, s.mask) for s in drawn]
    assert np.mean(pairs) == pytest.approx(inner_pairs(lesion.sheet, lesion.mask), rel=0.15)


def test_contiguous_is_what_has_more_neighbours_than_random_draws():
    generator = np.random.default_rng(0)
    scattered = [layer_control(LESION, generator=generator) for _ in range(400)]
    found = stats.binomtest(sum(map(is_contiguous, scattered)), len(scattered)).proportion_ci()
    assert found.low <= 0.08
    assert is_contiguous(LESION)
    assert is_contiguous([LESION[1]])
    for n in (0, 1, 120):
        assert not is_contiguous([Selection("a", np.arange(120) < n, SHEETS["a"], "nothing to say")])


def rejections(control, make_lesion, n_lesions, seed=5, n_draws=19, n_fields=200):
    """Of each random lesion and its controls the share of smooth fields of importance by which it is called costly.

    Placing patches is what takes time, so that the patches once placed are held against many fields.
    """
    rng, sheet, rates = np.random.default_rng(seed), grid((14, 14), "a"), []
    for _ in range(n_lesions):
        fields = rng.normal(size=(n_fields, 14, 14))
        worth = gaussian_filter(fields, 1.5, axes=(1, 2), mode="wrap").reshape(n_fields, -1)
        lesion = Selection("a", make_lesion(rng, sheet), sheet, "random")
        drawn = [control([lesion], {"a": sheet}, generator=rng)[0] for _ in range(n_draws)]
        costs = np.abs(worth @ np.stack([one.mask for one in [lesion, *drawn]]).T)
        reached = (costs[:, 1:] >= costs[:, :1] * (1 - 1e-9)).sum(1)
        rates.append(((1 + reached) / (n_draws + 1) <= 0.05).mean())
    return np.array(rates)


def random_units(share):
    return lambda rng, sheet: rng.permutation(sheet.n_units) < round(share * sheet.n_units)


def random_disc(share):
    def disc(rng, sheet):
        away = np.linalg.norm(sheet.positions_mm - sheet.positions_mm[int(rng.integers(sheet.n_units))], axis=1)
        return (away + 1e-6 * rng.random(sheet.n_units)).argsort().argsort() < round(share * sheet.n_units)

    return disc


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("control", "lesion", "n_lesions", "level"),
    [
        (layer_control, random_units(0.05), 100, 0.05),
        (layer_control, random_units(0.45), 100, 0.05),
        (model_control, random_units(0.45), 100, 0.05),
        (connected_control, random_disc(0.05), 40, 0.05),
        (connected_control, random_disc(0.10), 40, 0.05),
        (connected_control, random_disc(0.25), 25, 0.07),  # few patches of that size differ
    ],
    ids=["layer 5 %", "layer 45 %", "model 45 %", "connected disc 5 %", "connected disc 10 %", "connected disc 25 %"],
)
def test_controls_hold_the_level(control, lesion, n_lesions, level, seed):
    """Outside the lesion random units rejected .19 at 45 % of the sheet, ragged patches .20 at 25 %."""
    rates = rejections(control, lesion, n_lesions, seed)
    off = stats.t.ppf(0.999, n_lesions - 1) * stats.sem(rates)
    assert off < 0.03, "precise enough to tell"
    assert rates.mean() - off <= level


def test_scattered_controls_of_a_patch_do_not():
    """Why they are no test of a contiguous lesion."""
    assert rejections(layer_control, random_disc(0.05), 40).mean() > 0.3


def test_no_room():
    sheet = grid((6, 6), "x")
    chequered = Selection("x", (np.arange(36) // 6 + np.arange(36)) % 2 == 0, sheet, "too much")
    assert layer_control([chequered], generator=np.random.default_rng(0))[0].n_selected == 18
    with pytest.raises(
        NotMeasurable, match="'x' has no room for 18 separate patches of 18 units in all; choose a small"
    ):
        connected_control([chequered], generator=np.random.default_rng(0))


WIDE = grid((20, 20), "wide")
PLATEAU = np.zeros((20, 20), bool)
PLATEAU[2:6, 2:6] = PLATEAU[13:17, 12:16] = PLATEAU[3:7, 13:17] = True
LOUD = np.zeros((20, 20), bool)
LOUD[3:5, 3:6] = True


def loud_tokens(seed=0, n=200):
    """Units of three plateaus say three times as much as the others, each a little more or less."""
    generator = np.random.default_rng(seed)
    gain = np.where(PLATEAU.ravel(), 3.0, 1.0) * generator.uniform(0.95, 1.05, 400)
    stimuli = StimulusSet("tokens", [f"t{k}" for k in range(n)], ["c"] * n)
    return {"wide": Responses("wide", gain * (1 + generator.normal(size=(n, 400))), WIDE, stimuli)}


@pytest.mark.parametrize("kind", ["layer", "connected"])
def test_matched_controls_take_as_much_away_half_of_them_a_little_more(kind):
    removed = loud_tokens()
    mask = LOUD.ravel() if kind == "connected" else np.arange(400) % 9 == 0
    lesion = Selection("wide", mask, WIDE, "loud")
    generator = np.random.default_rng(0)
    drawn = matched_controls(kind, [lesion], {"wide": WIDE}, removed, 30, generator=generator, tolerance=0.2)
    norm, variance = removed_size([lesion], removed)
    sizes_found = np.array([removed_size(one, removed) for one in drawn])
    assert (abs(sizes_found / [norm, variance] - 1) <= 0.2).all()
    assert (sizes_found[:, 0] > norm).sum() == 15
    assert {one.n_selected for [one] in drawn} == {lesion.n_selected}
    if kind == "connected":
        assert {tuple(sizes(one)) for [one] in drawn} == {(6,)}
        plain = [removed_size(connected_control([lesion], generator=generator), removed)[0] for _ in range(100)]
        assert np.mean(np.array(plain) < 0.8 * norm) > 0.8, "as drawn without regard to it they take less away"


def test_removed_size_by_hand():
    values = np.array([[3.0, 4.0, 9.0], [0.0, 0.0, 9.0]])
    sheet, stimuli = grid((1, 3)), StimulusSet("s", ["a", "b"], ["c", "c"])
    one = Selection("a", np.array([True, True, False]), sheet, "two")
    assert removed_size([one], {"a": Responses("a", values, sheet, stimuli)}) == (2.5, 1.5**2 + 2**2)


def test_a_model_control_is_matched_over_all_sites():
    removed = loud_tokens() | {
        "other": Responses("other", loud_tokens(1)["wide"].values, WIDE, loud_tokens()["wide"].stimuli)
    }
    lesion = Selection("wide", np.arange(400) % 9 == 0, WIDE, "scattered")
    sheets = {"wide": WIDE, "other": WIDE}
    drawn = matched_controls("model", [lesion], sheets, removed, 10, generator=np.random.default_rng(0))
    assert {one.site for draw in drawn for one in draw} == {"wide", "other"}
    norm, _ = removed_size([lesion], removed)
    assert all(abs(removed_size(draw, removed)[0] / norm - 1) <= 0.1 for draw in drawn)


def test_too_few_that_match_and_what_is_missing():
    removed = loud_tokens()
    removed["wide"].values[:, LOUD.ravel()] *= 10
    lesion = Selection("wide", LOUD.ravel(), WIDE, "by far the loudest")
    how = {"generator": np.random.default_rng(0), "tolerance": 0.1}
    with pytest.raises(
        NotMeasurable, match=r"of 400 connected controls at 'wide' remove as much .* within 10 %\), too few"
    ) as caught:
        matched_controls("connected", [lesion], {"wide": WIDE}, removed, 2, **how)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="no responses at 'wide', of which units are silenced; record it too"):
        matched_controls("connected", [lesion], {"wide": WIDE}, {}, 2, **how)
    with pytest.raises(ValueError, match=r"tolerance=0\.0; expected the largest relative difference"):
        matched_controls("connected", [lesion], {"wide": WIDE}, removed, 2, generator=how["generator"], tolerance=0.0)
    blurred = {"wide": readout(removed["wide"], 2.0)}
    with pytest.raises(ValueError, match="expected the 400 units of the sheet, before readout"):
        matched_controls("connected", [lesion], {"wide": WIDE}, blurred, 2, **how)
