import pytest
import torch
from torch import nn

from topographic.losses import neighbor_dissimilarity, wiring_cost
from topographic.objectives import Draw, NeighborActivations, NeighborWeights, Objective, WiringCost
from topographic.sheets import adjacent_pairs, grid


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(9, 16), nn.ReLU(), nn.Linear(16, 4))


def test_each_term_is_its_loss_and_trains(model):
    inputs = torch.randn(8, 9, generator=torch.Generator().manual_seed(0))
    terms = [
        NeighborWeights(["0", "2"]),
        NeighborActivations("0", metric="correlation"),
        WiringCost(["0", "2"], between_mm=1.0),
    ]
    objective = Objective(model, terms)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    history = []
    for _ in range(20):
        with objective.listen():
            heard = model[0](inputs)
            task = model(inputs).square().mean() * 0
        loss, parts = objective(task)
        history.append({name: one.item() for name, one in parts.items()})
        if len(history) == 1:
            pairs = adjacent_pairs(grid(16))
            expected = neighbor_dissimilarity(model[0].weight, pairs)
            assert history[0]["neighbor_weights/0"] == pytest.approx(expected.item())
            expected = neighbor_dissimilarity(heard.T, pairs, metric="correlation")
            assert history[0]["neighbor_activations/0"] == pytest.approx(expected.item(), rel=1e-5)
            expected = wiring_cost(model[2].weight, terms[2].lengths_mm(4, 16))
            assert history[0]["wiring/2"] == pytest.approx(expected.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name in ("neighbor_weights_loss", "neighbor_activations_loss", "wiring_loss"):
        assert history[-1][name] < history[0][name]


def test_pads_do_not_count_and_batches_of_any_size_cost_alike():
    term, model = NeighborActivations("0"), nn.Sequential(nn.Linear(9, 16))
    heard = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    found = term.losses(model, {"0": heard}, Draw(0), mask)["0"]
    only = term.losses(model, {"0": heard[mask.bool()][None]}, Draw(0))["0"]
    twice = term.losses(model, {"0": torch.cat([heard, heard])}, Draw(0))["0"]
    torch.testing.assert_close(found, only)
    torch.testing.assert_close(twice, term.losses(model, {"0": heard}, Draw(0))["0"])


def test_sheets_over_one_another_are_as_far_apart_as_said():
    lengths = WiringCost("0", between_mm=2.0).lengths_mm(16, 16)
    assert float(lengths.diagonal().max()) == pytest.approx(2.0)
    assert float(lengths.max()) > 2.0
    with pytest.raises(ValueError, match=r"between_mm=-1.0; expected a distance"):
        WiringCost("0", between_mm=-1.0)


def test_a_layer_without_weights_is_refused(model):
    with pytest.raises(TypeError, match="ReLU is no layer whose weights"):
        Objective(model, NeighborWeights("1"))


def test_places_are_found_once_and_anew_for_another_model(model, monkeypatch):
    made = []

    def counted(sheet, contiguity):
        made.append(sheet.n_units)
        return adjacent_pairs(sheet, contiguity)

    monkeypatch.setattr("topographic.objectives.neighbor_terms.adjacent_pairs", counted)
    term = NeighborWeights(["0", "2"])
    term.taps(model)
    first = term.losses(model)
    assert made == [16, 4]
    torch.testing.assert_close(term.losses(model), first)
    wider = nn.Sequential(nn.Linear(9, 25), nn.ReLU(), nn.Linear(25, 4))
    term.taps(wider)
    assert made == [16, 4, 25, 4]
