"""Weights under bare names, loaded without a remainder."""

import json

import pytest
import torch

from topographic.models import TopoLMForCausalLM, preset
from topographic.models.conversion import Conversion, bare_weights, load_weights, plain

EMBEDDINGS = torch.arange(6.0).reshape(3, 2)


@pytest.mark.parametrize("prefix", ["", "_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrappers_are_left_out(prefix):
    stored = {f"{prefix}transformer.wte.weight": EMBEDDINGS, f"{prefix}lm_head.weight": EMBEDDINGS.clone()}
    weights = bare_weights(stored, "x.pt")
    assert list(weights) == ["transformer.wte.weight"]
    assert weights["transformer.wte.weight"] is EMBEDDINGS
    assert list(bare_weights({"transformer.module.weight": EMBEDDINGS}, "x.pt")) == ["transformer.module.weight"]


def test_what_is_no_state_dict_is_refused():
    with pytest.raises(ValueError, match=r"x\.pt: model holds 'a', which is no tensor; expected a state dict"):
        bare_weights({"a": 3}, "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt holds weights twice, with and without '_orig_mod\.' or 'module\.'"):
        bare_weights({"a": EMBEDDINGS, "module.a": EMBEDDINGS}, "x.pt")
    with pytest.raises(ValueError, match=r"lm_head\.weight differs from transformer\.wte\.weight"):
        bare_weights({"transformer.wte.weight": EMBEDDINGS, "lm_head.weight": EMBEDDINGS + 1}, "x.pt")


def test_all_weights_or_none_are_loaded():
    source, target = (TopoLMForCausalLM(preset("tiny", sheet_point="none")) for _ in range(2))
    weights = bare_weights(source.state_dict(), "x.pt")
    broken = {**weights, "transformer.ln_f.weight": torch.ones(3)}
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(ValueError, match=r"ln_f\.weight has shape \(3,\) in place of \(36,\); the two must come from"):
        load_weights(target, broken, "x.pt")
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())
    load_weights(target, weights, "x.pt")
    assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in target.state_dict().items())
    assert target.lm_head.weight is target.transformer.wte.weight


def test_notes_are_plain(tmp_path):
    note = plain({"a": {"b": torch.tensor(2.5), 3: torch.arange(2)}, "c": torch.float32, "d": None})
    assert note == {"a": {"b": 2.5, "3": [0, 1]}, "c": "torch.float32", "d": None}
    Conversion(TopoLMForCausalLM(preset("tiny")), note).save(tmp_path / "model")
    assert json.loads((tmp_path / "model/conversion.json").read_text()) == note
    with pytest.raises(FileExistsError, match="already holds a model"):
        Conversion(TopoLMForCausalLM(preset("tiny")), note).save(tmp_path / "model")
