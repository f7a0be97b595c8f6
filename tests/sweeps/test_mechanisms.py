import json

import numpy as np
import pytest
import torch

from topographic.models import fresh_model, preset
from topographic.sheets import grid, permuted_grid
from topographic.sweeps.choices import Mechanisms
from topographic.sweeps.mechanisms import laid_out_sheets, measure_mechanism, weights_morans_i

SITES = {"attention": "transformer.h.*.attn.output_sheet", "MLP": "transformer.h.*.mlp"}
WEIGHTS = {"attention": "transformer.h.*.attn.output", "MLP": "transformer.h.*.mlp.dense_out"}
FEW = {"n_draws": 5, "n_models": 2, "n_windows": 2}


def model_of(**changes):
    shape = {"n_layer": 1, "n_embd": 36, "n_positions": 64, "gated": False, "wrap": False, "vocab_size": 384}
    return fresh_model(preset("topoformer_tiny", **shape, **changes), seed=0, objective="next_token").eval()


@pytest.fixture(scope="module")
def windows():
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(300, (8, 32), generator=draw)
    return [{"input_ids": one, "labels": one} for one in tokens]


@pytest.fixture(scope="module")
def measured(windows, tiny_tokenizer):
    choices = Mechanisms(SITES, WEIGHTS, **FEW)
    local = model_of(reweighting_fraction=0.3, querying_fraction=None)
    return choices, local, measure_mechanism(local, tiny_tokenizer, windows, choices)


def test_weights_of_neighbours_that_are_alike_have_order_and_others_none():
    sheet, draw = grid(64), np.random.default_rng(0)
    rows, columns = sheet.positions_mm.numpy().T
    waves = torch.from_numpy(np.stack([np.sin(rows / 2), np.cos(columns / 2)], axis=1))
    found = weights_morans_i(waves, sheet, n_draws=19)
    assert found.value > 0.8
    assert found.unit_null.p == pytest.approx(1 / 20)
    elsewhere = permuted_grid(64, "elsewhere")
    assert weights_morans_i(waves, elsewhere, n_draws=19).value < 0.2
    p = [
        weights_morans_i(torch.from_numpy(draw.normal(size=(64, 3))), sheet, n_draws=19, seed=seed).unit_null.p
        for seed in range(100)
    ]
    assert np.mean(np.array(p) <= 0.05) <= 0.115, "false positives: 100 draws at .05, three standard errors"


def test_all_numbers_of_a_model_are_there_under_the_names_of_its_places(measured):
    _, _, numbers = measured
    for place in SITES:
        for name in ("I", "I of activity", "t_g", "smoothness", "dimensions", "I of weights", "smoothness of weights"):
            assert np.isfinite(numbers[f"{place}: {name}"]), (place, name)
        assert 0 < numbers[f"{place}: I of activity, p (unit)"] <= 1
    assert {"downsampled", "downsampled, units permuted", "pruned", "lesion: specificity", "lesion: p"} <= set(numbers)
    # local non-negative outputs are made of what neighbours are made of as well; a plain MLP is not
    assert numbers["attention: I of weights"] > 0.3 > numbers["MLP: I of weights"]
    assert numbers["attention: I of activity"] > 0.3 > numbers["MLP: I of activity"]
    json.dumps(numbers, allow_nan=False)


def test_the_same_again_is_the_same_and_leaves_the_model_as_it_was(measured, windows, tiny_tokenizer):
    choices, model, numbers = measured
    before = {name: entry.clone() for name, entry in model.state_dict().items()}
    assert measure_mechanism(model, tiny_tokenizer, windows, choices) == numbers
    assert all(torch.equal(before[name], entry) for name, entry in model.state_dict().items())


def test_layouts_found_afterwards_take_the_places_there_are_and_bring_order(windows, tiny_tokenizer):
    model = model_of(reweighting_fraction=None, querying_fraction=None)
    sheets = laid_out_sheets(model, windows, ["transformer.h.*.mlp"])
    ((site, sheet),) = sheets.items()
    assert site == "transformer.h.0.mlp"
    assert sorted(map(tuple, sheet.positions_mm.tolist())) == sorted(map(tuple, grid(36).positions_mm.tolist()))
    choices = Mechanisms({"MLP": SITES["MLP"]}, {"MLP": WEIGHTS["MLP"]}, **FEW)
    own = measure_mechanism(model, tiny_tokenizer, windows, choices)
    found = measure_mechanism(model, tiny_tokenizer, windows, choices, sheets=sheets)
    assert found["MLP: I of activity"] > own["MLP: I of activity"] + 0.05
    assert found["MLP: dimensions"] == pytest.approx(own["MLP: dimensions"])
    assert found["pruned"] == pytest.approx(own["pruned"]), "places change nothing that is pruned"


def test_layers_that_do_not_go_with_their_sites_are_refused(windows, tiny_tokenizer):
    choices = Mechanisms({"MLP": SITES["MLP"]}, {"MLP": "transformer.h.*.mlp.dense_*"}, **FEW)
    with pytest.raises(
        ValueError, match=r"mechanisms.weights: .* matches 2 layers and mechanisms.sites 1 sites of 'MLP'"
    ):
        measure_mechanism(model_of(querying_fraction=None), tiny_tokenizer, windows, choices)
