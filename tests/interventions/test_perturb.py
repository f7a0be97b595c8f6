import inspect

import numpy as np
import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from topographic.interventions.perturb import ABLATIONS, ablate, drive
from topographic.interventions.stimulation import micro_stimulation
from topographic.maps import Selection, UnitMap
from topographic.recording import Responses, readout, tap
from topographic.sheets import Sheet, grid, permuted_grid
from topographic.stimuli import StimulusSet

SITE = "transformer.h.0.mlp"
MASK = np.arange(36) % 5 == 1


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=16, n_embd=36, n_layer=2, n_head=4)).eval()


@pytest.fixture
def ids():
    return torch.arange(12).view(2, 6)


def selection(mask=MASK, site=SITE):
    return Selection(site, mask, grid(36, site), "test")


def responses(values):
    stimuli = StimulusSet("s", [f"i{k}" for k in range(len(values))], ["c"] * len(values))
    return {SITE: Responses(SITE, values, grid(36, SITE), stimuli)}


def heard(model, ids):
    with torch.no_grad(), tap(model, SITE) as activations:
        model(ids)
    return activations[SITE]


def test_zero_silences_the_chosen_units_and_no_other(model, ids):
    before = heard(model, ids)
    with ablate(model, selection()):
        during = heard(model, ids)
    assert (during[..., MASK] == 0).all()
    assert torch.equal(during[..., ~MASK], before[..., ~MASK])
    assert before[..., MASK].abs().min() > 0


def test_a_mask_follows_unit_order_not_the_sheet(model, ids):
    shuffled = Sheet(name=SITE, positions_mm=grid(36).positions_mm.flip(0))
    with ablate(model, Selection(SITE, MASK, shuffled, "test")):
        assert (heard(model, ids)[..., MASK] == 0).all()


def test_mean_uses_the_recorded_mean(
    model,
    ids,
):
    values = np.random.default_rng(0).normal(size=(7, 36)).astype(np.float32)
    with ablate(model, selection(), mode="mean", responses=responses(values)):
        during = heard(model, ids)
    np.testing.assert_allclose(during[..., MASK], np.broadcast_to(values.mean(0)[MASK], (2, 6, MASK.sum())), atol=1e-6)


@pytest.mark.parametrize("mode", ["mean", "resample"])
def test_responses_of_another_order_or_scale_are_refused(model, mode):
    """A readout lists sites row by row: on a permuted sheet its values went onto other units."""
    stimuli = StimulusSet("s", ["i"], ["c"])
    permuted = permuted_grid(36, SITE)
    unit_order = Responses(SITE, np.arange(36.0)[None], permuted, stimuli)
    blurred = readout(unit_order, 0.01)
    assert not np.allclose(blurred.values, unit_order.values)
    summed = Responses(SITE, unit_order.values, permuted, stimuli, provenance={"pooling": "sum"})
    for wrong, message in (
        (blurred, "are a readout, whose columns are sites of the sheet; expected those of the units: pass what record"),
        (summed, r"are summed over tokens \(pooling='sum'\); expected the scale of one token: record with pooling="),
    ):
        arguments = {"mode": mode, "responses": {SITE: wrong}}
        with (
            pytest.raises(ValueError, match=f"^responses at {SITE!r} {message}"),
            ablate(model, selection(), **arguments),
        ):
            pass


def test_resample_takes_one_recorded_row_per_sequence_and_repeats(model, ids):
    values = np.random.default_rng(0).normal(size=(7, 36)).astype(np.float32)

    def run(seed):
        with ablate(model, selection(), mode="resample", responses=responses(values), seed=seed):
            return heard(model, ids)[..., MASK].numpy()

    during = run(1)
    for sequence in during:
        matches = [np.allclose(sequence, row[MASK]) for row in values]
        assert sum(matches) == 1, "all tokens of a sequence share one recorded row"
    np.testing.assert_array_equal(during, run(1))
    assert any(not np.array_equal(during, run(seed)) for seed in range(2, 6))


def test_drive_adds_the_direction_at_the_chosen_units(model, ids):
    direction = {SITE: UnitMap(SITE, np.arange(36.0), grid(36, SITE), "difference")}
    before = heard(model, ids)
    with drive(model, selection(), strength=-2.0, direction=direction):
        during = heard(model, ids)
    expected = before + torch.where(torch.from_numpy(MASK), -2.0 * torch.arange(36.0), 0.0)
    torch.testing.assert_close(during, expected)
    with drive(model, selection(), strength=0.5):
        torch.testing.assert_close(heard(model, ids)[..., MASK], before[..., MASK] + 0.5)


def test_two_selections_of_one_site_are_joined(model, ids):
    other = np.arange(36) % 5 == 2
    with ablate(model, [selection(), selection(other)]):
        during = heard(model, ids)
    assert (during[..., MASK | other] == 0).all()
    assert (during[..., ~(MASK | other)] != 0).all()


PERTURBATIONS = {
    mode: (lambda m, s, k=mode: ablate(m, s, mode=k, responses=responses(np.ones((3, 36))))) for mode in ABLATIONS
}
PERTURBATIONS["drive"] = lambda m, s: drive(m, s, strength=3.0)


@pytest.mark.parametrize("perturb", PERTURBATIONS.values(), ids=PERTURBATIONS.keys())
def test_the_model_is_the_same_again_even_after_an_exception(model, ids, perturb):
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        before = model(ids).logits
        with pytest.raises(IndexError), perturb(model, selection()):
            assert not torch.equal(model(ids).logits, before)
            model(ids + 50)  # beyond the vocabulary
        assert torch.equal(model(ids).logits, before)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_a_lesion_of_a_linear_layer_equals_zeroed_rows():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(5, 36), nn.ReLU(), nn.Linear(36, 3))
    x = torch.rand(4, 5, generator=torch.Generator().manual_seed(0))
    with ablate(network, selection(site="0")):
        lesioned = network(x)
    with torch.no_grad():
        network[0].weight[torch.from_numpy(MASK)] = 0
        network[0].bias[torch.from_numpy(MASK)] = 0
    torch.testing.assert_close(network(x), lesioned)


@pytest.mark.parametrize(
    ("chosen", "arguments", "message"),
    [
        (selection(), {"mode": "burn"}, r"mode='burn'; expected one of \['mean', 'resample', 'zero'\]"),
        (selection(), {"seed": -1}, "seed=-1; expected at least 0"),
        (
            [selection(), Selection(SITE, np.ones(25, bool), grid(25, SITE), "test")],
            {},
            "on different sheets, of 36 and 25",
        ),
        (selection(), {"mode": "mean"}, "needs recorded responses of 'transformer.h.0.mlp'"),
        (selection(np.zeros(36, bool)), {}, "no unit is selected"),
        (
            Selection(SITE, MASK, Sheet(name=SITE, positions_mm=grid(36).positions_mm, is_readout=True), "test"),
            {},
            "was made on readout sites, not on units",
        ),
    ],
)
def test_what_cannot_be_lesioned(model, chosen, arguments, message):
    with pytest.raises(ValueError, match=message), ablate(model, chosen, **arguments):
        pass


def test_a_mask_of_another_width_is_refused_when_the_site_speaks(model, ids):
    narrow = Selection(SITE, np.ones(25, bool), grid(25, SITE), "test")
    with ablate(model, narrow), pytest.raises(ValueError, match="has 36 units and its selection 25"):
        model(ids)
    assert torch.isfinite(model(ids).logits).all()


def test_drive_refuses_infinite_strength_and_missing_or_smoothed_directions(model):
    with pytest.raises(ValueError, match="expected a finite factor"), drive(model, selection(), strength=float("inf")):
        pass
    with pytest.raises(ValueError, match="no direction for site"), drive(model, selection(), direction={}):
        pass
    smooth = Sheet(name=SITE, positions_mm=grid(36).positions_mm, is_readout=True)
    direction = {SITE: UnitMap(SITE, np.ones(36), smooth, "difference")}
    with pytest.raises(ValueError, match="make it unsmoothed"), drive(model, selection(), direction=direction):
        pass


class Carrier(nn.Sequential):
    def sheets(self):
        return {"0": permuted_grid(36, "0")}


@pytest.mark.parametrize("perturb", [ablate, drive])
def test_a_selection_from_another_sheet_than_the_model_carries_is_refused_unless_it_is_meant(perturb):
    model = Carrier(nn.Linear(2, 36))
    with pytest.raises(ValueError, match=r"^the selection puts the units of site '0' elsewhere .*relayout=True"):
        perturb(model, selection(site="0")).__enter__()
    with perturb(model, selection(site="0"), relayout=True):
        assert "forward" in vars(model[0])
    with perturb(nn.DataParallel(model), Selection("0", MASK, permuted_grid(36, "0"), "test")):
        assert "forward" in vars(model[0])
    assert "forward" not in vars(model[0])


@pytest.mark.parametrize("perturb", [ablate, drive])
def test_other_things_are_refused_in_one_line(model, perturb):
    unchecked = inspect.unwrap(perturb)
    unit_map = UnitMap(SITE, np.arange(36.0), grid(36, SITE), "t")
    with pytest.raises(TypeError, match=r"^selections is a UnitMap; expected a Selection: as select\(unit_map\)"):
        next(unchecked(model, unit_map))


def test_drive_without_a_selection_drives_wherever_a_direction_says_something(model, ids):
    spread = micro_stimulation(SITE, grid(36, SITE), 14, sigma_mm=1.5)
    before = heard(model, ids)
    with drive(model, direction={SITE: spread}, strength=2.0):
        torch.testing.assert_close(heard(model, ids), before + 2 * torch.from_numpy(spread.values))
    with pytest.raises(ValueError, match="neither selections nor a direction; say which units to drive"), drive(model):
        pass


def test_a_direction_without_a_value_is_refused(model):
    """It made the whole output NaN."""
    values = np.arange(36.0)
    values[7] = np.nan
    direction = {SITE: UnitMap(SITE, values, grid(36, SITE), "difference")}
    for chosen in (selection(), None):
        with (
            pytest.raises(
                ValueError, match=rf"^the direction map of {SITE!r} has no value at 1 of its 36 units \(NaN\)"
            ),
            drive(model, chosen, direction=direction),
        ):
            pass


def test_the_channels_of_feature_maps_are_their_units():
    torch.manual_seed(0)
    conv, pixels = torch.nn.Conv2d(3, 6, 3), torch.ones(2, 3, 5, 6)
    model = torch.nn.Sequential(conv, torch.nn.ReLU())
    sheet = grid(6, "0")
    chosen = Selection("0", np.arange(6) % 2 == 0, sheet, "even")
    plain = conv(pixels)
    with ablate(model, chosen), tap(model, "0") as silenced:
        model(pixels)
    assert (silenced["0"][:, ::2] == 0).all()
    assert torch.equal(silenced["0"][:, 1::2], plain[:, 1::2])
    rows = Responses("0", np.tile(np.arange(6.0), (2, 1)), sheet, StimulusSet("two", ["a", "b"], ["a", "b"]))
    with ablate(model, chosen, mode="resample", responses={"0": rows}), tap(model, "0") as resampled:
        model(pixels)
    assert (resampled["0"][:, ::2] == torch.tensor([0.0, 2, 4]).view(1, 3, 1, 1)).all()
    few = Selection("0", np.ones(4, bool), grid(4, "0"), "all")
    with ablate(model, few), pytest.raises(ValueError, match="site '0' has 6 units and its selection 4"):
        model(pixels)
