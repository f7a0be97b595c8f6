"""Classifiers of three architectures: what comes along, what is new, and what pads and later tokens may not change."""

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BloomConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
)

from topographic.models import TopoLMForCausalLM, preset, register
from topographic.sheets import permuted_grid
from topographic.training.finetuning.classification import PadBatch, encode
from topographic.training.finetuning.classifiers import ensure_pad, load_classifier
from topographic.training.finetuning.glue import TASKS
from topographic.training.finetuning.labelled import LabelledItems
from topographic.training.text.tokenizer import train_tokenizer

TEXTS = LabelledItems(
    (("the cat saw the dog",), ("a bird",), ("the old black cat chased the little bird and then ran",)),
    np.array([1, 0, 1]),
    "here",
)


@pytest.fixture
def own_tokenizer():
    """A tokenizer of this test alone, since classifiers give it a pad token."""
    return train_tokenizer(
        ["the cat saw the dog and then ran to the river"] * 3 + [text for (text,) in TEXTS.texts], 300
    )


def save_causal(kind, folder, tokenizer):
    """An untrained causal model of the named architecture."""
    end, size = tokenizer.eos_token_id, len(tokenizer)
    torch.manual_seed(0)
    tokens = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    if kind == "topolm":
        register()
        model = TopoLMForCausalLM(preset("tiny", vocab_size=size, n_positions=48, initializer_range=0.3, **tokens))
        model.set_sheets({site: permuted_grid(36, site, seed=77) for site in model.sheets()})
    elif kind == "gpt2":
        shape = {"n_positions": 48, "n_embd": 36, "n_layer": 2, "n_head": 4, "vocab_size": size}
        model = GPT2LMHeadModel(GPT2Config(**shape, initializer_range=0.3, **tokens))
    else:
        shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        shape |= {"vocab_size": size, "max_position_embeddings": 48}
        model = LlamaForCausalLM(LlamaConfig(**shape, initializer_range=0.3, **tokens))
    model.save_pretrained(folder)
    return model


@pytest.fixture(params=["topolm", "gpt2", "llama"])
def start(request, tmp_path, own_tokenizer):
    model = save_causal(request.param, tmp_path / "model", own_tokenizer)
    return model, tmp_path / "model", own_tokenizer


def batch_of(tokenizer, *, extra=0):
    items = encode(tokenizer, TEXTS, separator=" $ ", longest=48)
    batch = PadBatch(tokenizer.pad_token_id)([items[index] for index in range(3)])
    pads = torch.full((3, extra), tokenizer.pad_token_id)
    batch["input_ids"] = torch.cat([batch["input_ids"], pads], 1)
    batch["attention_mask"] = torch.cat([batch["attention_mask"], torch.zeros_like(pads)], 1)
    return batch


def test_the_weights_come_along_and_the_head_is_seeded(start):
    causal, folder, tokenizer = start
    one = load_classifier(folder, TASKS["mnli"], tokenizer, seed=1)
    two, three = (load_classifier(folder, TASKS["mnli"], tokenizer, seed=seed) for seed in (1, 2))
    ours, theirs = dict(one.named_parameters()), dict(causal.named_parameters())
    shared = [name for name in ours if name in theirs and ours[name].shape == theirs[name].shape]
    assert len(shared) == len(ours) - 2, "all but the head and the embeddings, which have a new row for pads"
    assert all(torch.equal(ours[name], theirs[name]) for name in shared)
    embeddings = causal.get_input_embeddings().weight
    assert torch.equal(one.get_input_embeddings().weight[: len(embeddings)], embeddings)
    assert one.score.weight.shape[0] == 3
    assert torch.equal(one.score.weight, two.score.weight)
    assert not torch.equal(one.score.weight, three.score.weight)
    assert one.config.id2label == {0: "entailment", 1: "neutral", 2: "contradiction"}
    assert not one.training


def test_loading_leaves_the_global_generator_alone(start):
    _, folder, tokenizer = start
    before = torch.get_rng_state()
    load_classifier(folder, TASKS["sst2"], tokenizer, random_weights=True)
    assert torch.equal(before, torch.get_rng_state())


def test_the_amount_of_padding_changes_nothing(start):
    _, folder, tokenizer = start
    model = load_classifier(folder, TASKS["sst2"], tokenizer)
    items = encode(tokenizer, TEXTS, separator=" $ ", longest=48)
    alone = torch.cat([model(input_ids=torch.as_tensor(tokens)[None]).logits for tokens in items.tokens])
    assert alone.std() > 1e-2
    for extra in (0, 1, 9):
        torch.testing.assert_close(model(**batch_of(tokenizer, extra=extra)).logits, alone, rtol=1e-4, atol=1e-5)


def test_it_reads_the_end_of_text(start):
    """Where end-of-text also served as pad, transformers' classifiers would read the word before it."""
    _, folder, tokenizer = start
    model = load_classifier(folder, TASKS["sst2"], tokenizer)
    batch = batch_of(tokenizer)
    states = model.base_model(**{key: batch[key] for key in ("input_ids", "attention_mask")}).last_hidden_state
    last = batch["attention_mask"].sum(1) - 1
    assert (batch["input_ids"][range(3), last] == tokenizer.eos_token_id).all()
    torch.testing.assert_close(model(**batch).logits, states[range(3), last] @ model.score.weight.T)


def test_a_later_token_leaves_earlier_hidden_states_alone(start):
    """In training mode, with the mask of pads: the published fine-tuning attended both ways."""
    _, folder, tokenizer = start
    model = load_classifier(folder, TASKS["sst2"], tokenizer, dropout=0.0).train()
    batch = batch_of(tokenizer, extra=3)
    changed = batch["input_ids"].clone()
    changed[:, 2] = (changed[:, 2] + 1) % 256
    shown = {"attention_mask": batch["attention_mask"], "output_hidden_states": True}
    before, after = (model(input_ids=ids, **shown).hidden_states for ids in (batch["input_ids"], changed))
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one[:, :2], other[:, :2], rtol=1e-5, atol=1e-5)
        assert not torch.allclose(one[:, 2], other[:, 2], atol=1e-3)


def test_scores_and_labels_have_their_losses(start):
    _, folder, tokenizer = start
    batch = batch_of(tokenizer)
    for task, labels in (("sst2", torch.tensor([1, 0, 1])), ("stsb", torch.tensor([0.0, 5.0, 2.5]))):
        model = load_classifier(folder, TASKS[task], tokenizer, dropout=None)
        output = model(**{**batch, "labels": labels})
        expected = (output.logits[:, 0] - labels).square().mean()
        if task == "sst2":
            expected = -output.logits.log_softmax(-1)[range(3), labels].mean()
        assert output.loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_dropout_is_set_everywhere(start):
    causal, folder, tokenizer = start
    set_to, left = (load_classifier(folder, TASKS["sst2"], tokenizer, dropout=dropout) for dropout in (0.25, None))
    assert {module.p for module in set_to.modules() if isinstance(module, torch.nn.Dropout)} <= {0.25}
    names = {"topolm": ["dropout"], "gpt2": ["attn_pdrop", "embd_pdrop", "resid_pdrop"], "llama": ["attention_dropout"]}
    for name in names[causal.config.model_type]:
        assert getattr(set_to.config, name) == 0.25
        assert getattr(left.config, name) == getattr(causal.config, name)
    batch = batch_of(tokenizer)
    set_to.train()
    torch.manual_seed(0)
    assert not torch.equal(set_to(**batch).logits, set_to(**batch).logits)


def test_random_weights_keep_the_architecture_and_the_sheets(start):
    causal, folder, tokenizer = start
    fresh = load_classifier(folder, TASKS["sst2"], tokenizer, random_weights=True, seed=3)
    kept = load_classifier(folder, TASKS["sst2"], tokenizer, seed=3)
    assert type(fresh) is type(kept)
    assert fresh.config.pad_token_id == kept.config.pad_token_id
    for (name, ours), theirs in zip(fresh.named_parameters(), kept.parameters(), strict=True):
        assert ours.shape == theirs.shape
        assert ours.ndim < 2 or not torch.equal(ours, theirs), name
    assert fresh(**batch_of(tokenizer)).logits.shape == (3, 2)
    if hasattr(causal, "sheets"):
        assert fresh.sheets() == kept.sheets() == causal.sheets()
        assert fresh.sheets() != type(fresh)(fresh.config).sheets(), "placed anew, they would lie elsewhere"


def test_a_classifier_is_loaded_as_it_was_saved(start, tmp_path):
    causal, folder, tokenizer = start
    model = load_classifier(folder, TASKS["sst2"], tokenizer)
    model.save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert torch.equal(again(**batch_of(tokenizer)).logits, model(**batch_of(tokenizer)).logits)
    assert again.config.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id
    if hasattr(causal, "sheets"):
        assert again.sheets() == causal.sheets()


def test_a_pad_of_its_own_is_kept(tmp_path, own_tokenizer):
    save_causal("gpt2", tmp_path / "model", own_tokenizer)
    own_tokenizer.add_special_tokens({"pad_token": "!"})
    model = load_classifier(tmp_path / "model", TASKS["sst2"], own_tokenizer)
    assert own_tokenizer.pad_token == "!"
    assert model.config.vocab_size == len(own_tokenizer)
    assert ensure_pad(model, own_tokenizer) == own_tokenizer.convert_tokens_to_ids("!")


def test_what_cannot_be_made_a_classifier(tmp_path, own_tokenizer):
    with pytest.raises(ValueError, match=r"no model at .*nowhere .*; give a run, a folder or a hub name"):
        load_classifier(tmp_path / "nowhere", TASKS["sst2"], own_tokenizer)
    MambaConfig(hidden_size=16, num_hidden_layers=1).save_pretrained(tmp_path / "mamba")
    with pytest.raises(ValueError, match=r"MambaConfig names no dropout; expected one of dropout.*model.dropout=null"):
        load_classifier(tmp_path / "mamba", TASKS["sst2"], own_tokenizer)
    with pytest.raises(ValueError, match=r"mamba cannot be made a classifier \(Unrecognized configuration class"):
        load_classifier(tmp_path / "mamba", TASKS["sst2"], own_tokenizer, dropout=None)
    BloomConfig(hidden_size=16, n_head=2, n_layer=1).save_pretrained(tmp_path / "bloom")
    with pytest.raises(ValueError, match=r"bloom cannot be made a classifier"):
        load_classifier(tmp_path / "bloom", TASKS["sst2"], own_tokenizer)
