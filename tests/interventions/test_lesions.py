import inspect

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from topographic.interventions.lesions import LesionEffect, corrected_p, lesion_effects
from topographic.maps import NotMeasurable, Selection
from topographic.recording import Responses, tap
from topographic.sheets import grid, permuted_grid
from topographic.stimuli import StimulusSet

SHEETS = {"0": grid((6, 6), "0")}


@pytest.fixture
def network():
    """Only units 0 to 5 (the first row of the sheet) carry the answer."""
    network = nn.Sequential(nn.Linear(1, 36), nn.Linear(36, 1, bias=False))
    with torch.no_grad():
        network[0].weight.fill_(1.0)
        network[0].bias.zero_()
        network[1].weight.zero_()
        network[1].weight[0, :6] = 1.0
    return network


def measure(model):
    with torch.no_grad():
        return {"output": float(model(torch.ones(1, 1)))}


def table(network, mask, **arguments):
    rows = lesion_effects(network, [Selection("0", mask, SHEETS["0"], "test")], SHEETS, measure, **arguments)
    return {row.kind: row for row in rows}


@pytest.fixture
def scattered_network(network):
    """The same, with the answer in units that lie apart."""
    with torch.no_grad():
        network[1].weight.zero_()
        network[1].weight[0, [0, 8, 16, 23, 25, 33]] = 1.0
    return network


def test_a_planted_lesion_beats_every_control(scattered_network):
    rows = table(scattered_network, np.isin(np.arange(36), [0, 8, 16, 23, 25, 33]), n_draws=99)
    assert (rows["intact"].value, rows["lesion"].value) == (6.0, 0.0)
    for control in ("model", "layer", "connected"):
        assert 4 < rows[control].value < 6, (
            "controls meet some of the units that matter, as they may overlap the lesion"
        )
        assert rows[control].p == pytest.approx(1 / 100)
        assert rows[control].n_units == 6
        assert rows[control].effect == pytest.approx(0 - rows[control].value)
        assert rows[control].low < rows[control].effect < rows[control].high < 0
    assert np.isnan([rows["lesion"].effect, rows["lesion"].low, rows["lesion"].p]).all()


def test_a_contiguous_lesion_is_judged_by_connected_controls_alone(network):
    """Random units of the layer reject .46 of random patches where neighbours are worth about the same."""
    block = np.isin(np.arange(36), [14, 15, 16, 20, 21, 22])
    with torch.no_grad():
        network[1].weight[0] = torch.from_numpy(block)
    rows = table(network, block, n_draws=99)
    assert rows["lesion"].value == 0
    assert rows["connected"].p <= 0.05
    assert np.isnan([rows["model"].p, rows["layer"].p]).all()
    assert rows["layer"].effect == pytest.approx(0 - rows["layer"].value)


def test_a_lesion_beside_the_point_does_not(scattered_network):
    rows = table(scattered_network, np.isin(np.arange(36), [2, 5, 13, 21, 29, 35]), n_draws=40)
    assert rows["lesion"].value == 6.0
    assert all(rows[control].p == 1.0 for control in ("model", "layer", "connected"))


def scripted(*values):
    """A measure that says these numbers in turn, the last for ever: lesion, intact, draws."""
    left = list(values)
    return lambda model: left.pop(0) if len(left) > 1 else left[0]


def test_ties_within_rounding_count(network):
    """Intact .8, lesion .7, every control .9: |.7 - .8| and |.9 - .8| differ in the last bit."""
    chosen = Selection("0", np.arange(36) < 6, SHEETS["0"], "test")
    rows = lesion_effects(network, chosen, SHEETS, scripted(0.7, 0.8, 0.9), n_draws=20)
    assert rows[-1].kind == "connected"
    assert rows[-1].p == 1.0
    # and a lesion that changes nothing but the last bits is not better than controls that change nothing
    rows = lesion_effects(network, chosen, SHEETS, scripted(0.3, 0.1 + 0.2, 0.1 + 0.2), n_draws=20)
    assert rows[-1].p == 1.0
    assert corrected_p(rows)[-1] == 1.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((float("nan"), 1.0), r"^measure 'value' is nan under the lesion; expected a finite number: mend the measure"),
        ((1.0, float("inf"), 1.0), "^measure 'value' is inf for the intact model; expected"),
        ((0.5, 1.0, 1.0, float("nan")), "^measure 'value' is nan under draw 1 of the model control; expected"),
    ],
)
def test_a_measure_that_is_no_number_is_an_error_and_no_small_p(network, values, message):
    chosen = Selection("0", np.arange(36) < 6, SHEETS["0"], "test")
    with pytest.raises(ValueError, match=message):
        lesion_effects(network, chosen, SHEETS, scripted(*values), n_draws=20)


def test_p_is_corrected_for_all_measures_and_controls_together():
    """Under the null with 10 measures some p <= .05 in most tables, some corrected p in one of twenty."""
    rng, alone, together, n = np.random.default_rng(0), 0, 0, 400
    for _ in range(n):
        shared = rng.normal(size=20)
        changes = abs(rng.normal(size=(10, 20)) + shared) * rng.uniform(0.1, 10, (10, 1))
        p = (1 + (changes[:, 1:] >= changes[:, :1]).sum(1)) / 20
        rows = [LesionEffect(f"m{m}", "layer", 6, 0.0, 1.0, p[m], changes=tuple(changes[m])) for m in range(10)]
        found = np.array(corrected_p(rows))
        assert (found >= p).all()
        alone, together = alone + (p.min() <= 0.05), together + (found.min() <= 0.05)
    assert alone / n > 0.2
    level = stats.binomtest(int(together), n).proportion_ci()
    assert level.low <= 0.05 <= level.high


def test_a_p_as_small_as_the_draws_allow_survives_the_correction(scattered_network):
    rows = list(table(scattered_network, np.isin(np.arange(36), [0, 8, 16, 23, 25, 33]), n_draws=99).values())
    assert np.nanmin(corrected_p(rows)) == pytest.approx(1 / 100)
    assert np.isnan(corrected_p(rows[:2])).all()


def test_same_seed_same_table(network):
    mask = np.arange(36) % 6 == 1
    assert str(table(network, mask, n_draws=5, seed=3)) == str(table(network, mask, n_draws=5, seed=3))
    assert str(table(network, mask, n_draws=5, seed=3)) != str(table(network, mask, n_draws=5, seed=4))


def test_a_measure_may_return_one_number(network):
    chosen = Selection("0", np.arange(36) < 6, SHEETS["0"], "test")
    named = lesion_effects(network, chosen, SHEETS, measure, n_draws=3)
    alone = lesion_effects(network, chosen, None, lambda model: measure(model)["output"], n_draws=3)
    assert [row.measure for row in alone] == ["value"] * 5
    assert [(row.kind, row.value, row.sd) for row in alone] == [(row.kind, row.value, row.sd) for row in named]


def never(model):
    raise AssertionError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_draws": 0}, "n_draws=0; expected at least 1"),
        ({"n_draws": -1}, "n_draws=-1; expected at least 1"),
        ({"seed": -1}, "seed=-1; expected at least 0"),
        ({"mode": "burn"}, "mode='burn'; expected one of"),
        ({"mode": "mean"}, "needs recorded responses of '0'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(network, options, message):
    chosen = [Selection("0", np.arange(36) < 6, SHEETS["0"], "test")]
    with pytest.raises(ValueError, match=message):
        lesion_effects(network, chosen, SHEETS, never, **options)


def test_no_room_for_a_control_is_told_before_anything_is_measured(network):
    chequered = Selection("0", (np.arange(36) // 6 + np.arange(36)) % 2 == 0, SHEETS["0"], "test")
    with pytest.raises(NotMeasurable, match="no room for 18 separate patches of 18 units in all; choose a smaller"):
        lesion_effects(network, chequered, SHEETS, never)


def test_a_lesion_whose_site_has_no_sheet_gets_no_smaller_controls(network):
    chosen = [Selection("0", np.arange(36) < 6, SHEETS["0"], "test")]
    with pytest.raises(ValueError, match="the lesion has units at '0', which has no sheet; add it to sheets"):
        lesion_effects(network, chosen, {"1": grid((1, 1), "1")}, never)


def test_selections_of_one_site_are_one_lesion(network):
    halves = [Selection("0", np.isin(np.arange(36), units), SHEETS["0"], "test") for units in ((0, 1, 2), (3, 4, 5))]
    rows = {row.kind: row for row in lesion_effects(network, halves, SHEETS, measure, n_draws=5)}
    whole = table(network, np.arange(36) < 6, n_draws=5)
    assert {kind: str(row) for kind, row in rows.items()} == {kind: str(row) for kind, row in whole.items()}


class Carrier(nn.Sequential):
    def sheets(self):
        return {"0": permuted_grid((6, 6), "0")}


def test_controls_lie_on_the_sheets_that_a_model_carries(network):
    model = Carrier(*network)
    own = Selection("0", np.arange(36) < 6, model.sheets()["0"], "test")
    rows = lesion_effects(model, own, None, measure, n_draws=3)
    assert [row.value for row in rows] == [
        row.value for row in lesion_effects(network, own, model.sheets(), measure, n_draws=3)
    ]
    other = Selection("0", np.arange(36) < 6, SHEETS["0"], "test")
    with pytest.raises(ValueError, match="the selection puts the units of site '0' elsewhere than the sheet"):
        lesion_effects(model, other, None, never)
    with pytest.raises(ValueError, match="sheets= puts the units of site '0' elsewhere than the sheet"):
        lesion_effects(model, own, SHEETS, never)
    assert len(lesion_effects(model, other, SHEETS, measure, n_draws=2, relayout=True)) == 5


def test_what_is_no_selection_is_refused_in_one_line(network):
    for given, described in (
        ({"0": SHEETS["0"]}, "a Sheet"),
        ([np.arange(36) < 6], "an? ndarray"),
        ("0", "the"),
    ):
        with pytest.raises(TypeError, match=rf"^selections is {described}.*; expected a Selection: as select"):
            inspect.unwrap(lesion_effects)(network, given, SHEETS, never)


@pytest.fixture(scope="module")
def loud():
    """A site of 20 x 20 units, loud on two plateaus; a patch on one of them; what is said at 100 tokens."""
    plateau, patch = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    plateau[2:6, 2:6] = plateau[13:17, 12:16] = True
    patch[3:5, 3:6] = True
    generator = torch.Generator().manual_seed(0)
    gain = torch.from_numpy(np.where(plateau.ravel(), 3.0, 1.0)) * (0.95 + 0.1 * torch.rand(400, generator=generator))
    network = nn.Sequential(nn.Linear(8, 400, bias=False))
    rows = torch.nn.functional.normalize(torch.randn(400, 8, generator=generator), dim=1)
    network[0].weight = nn.Parameter(gain.float().unsqueeze(1) * rows, requires_grad=False)
    tokens = torch.randn(100, 8, generator=generator)
    sheet = grid((20, 20), "0")
    responses = Responses(
        "0", network(tokens).numpy(), sheet, StimulusSet("t", [f"{k}" for k in range(100)], ["c"] * 100)
    )
    return network, tokens, Selection("0", patch.ravel(), sheet, "loud"), {"0": responses}


def test_a_lesion_that_only_takes_much_away_is_told_from_one_that_matters(loud):
    """The first measure follows the removed norm and nothing else; the second reads the lesioned units alone."""
    network, tokens, lesion, removed = loud

    def both(model):
        with tap(model, "0") as heard:
            model(tokens)
        return {"norm": float(heard["0"].norm(dim=1).mean()), "answer": float(heard["0"][:, lesion.mask].abs().mean())}

    def p_of(**matching):
        rows = lesion_effects(network, lesion, None, both, n_draws=39, seed=1, **matching)
        found = np.array([row.tolerance for row in rows if row.kind == "connected"])
        np.testing.assert_array_equal(found, matching.get("tolerance", np.nan))
        return {row.measure: row.p for row in rows if row.kind == "connected"}, {row.kind for row in rows}

    plain, kinds = p_of()
    assert max(plain.values()) <= 0.05
    assert kinds == {"intact", "lesion", "model", "layer", "connected"}
    matched, kinds = p_of(removed=removed, tolerance=0.15)
    assert matched["norm"] > 0.25
    assert matched["answer"] <= 0.05
    assert kinds == {"intact", "lesion", "connected"}, "only those that judge"
