import pytest
import torch
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel

from topographic.training.config import TrainingConfig
from topographic.training.low_rank import low_rank_updates

LORA = TrainingConfig(adapter="lora", adapter_rank=2)
IDS = torch.arange(12).reshape(2, 6)


@pytest.fixture
def gpt2():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=16, n_head=2, vocab_size=32)).eval()


def train(model, steps=5):
    adam = torch.optim.Adam([one for one in model.parameters() if one.requires_grad], lr=0.05)
    for _ in range(steps):
        adam.zero_grad()
        model(IDS, labels=IDS).loss.backward()
        adam.step()


def weights(model):
    return {name: one.detach().clone() for name, one in model.named_parameters()}


def test_only_few_weights_are_trained_and_merged_into_the_model(gpt2):
    before, names = weights(gpt2), [name for name, _ in gpt2.named_modules()]
    with low_rank_updates(gpt2, LORA) as merge:
        free = [name for name, one in gpt2.named_parameters() if one.requires_grad]
        assert free
        assert all("lora_" in name for name in free)
        train(gpt2)
        updated = gpt2(IDS).logits
        merge()
        torch.testing.assert_close(gpt2(IDS).logits, updated, atol=1e-4, rtol=0)
    assert [name for name, _ in gpt2.named_modules()] == names
    after = weights(gpt2)
    assert after.keys() == before.keys()
    assert all(one.requires_grad for one in gpt2.parameters())
    changed = {name for name, one in after.items() if not torch.equal(one, before[name])}
    assert changed == {name for name in before if ".attn.c_" in name or ".mlp.c_" in name if name.endswith("weight")}
    update = after["transformer.h.0.attn.c_attn.weight"] - before["transformer.h.0.attn.c_attn.weight"]
    assert torch.linalg.matrix_rank(update, rtol=1e-3) == 2


def test_what_breaks_leaves_the_model_as_it_was(gpt2):
    before = weights(gpt2)
    with pytest.raises(KeyboardInterrupt), low_rank_updates(gpt2, LORA):
        train(gpt2)
        raise KeyboardInterrupt
    after = weights(gpt2)
    assert after.keys() == before.keys()
    assert all(torch.equal(one, before[name]) for name, one in after.items())
    assert all(one.requires_grad for one in gpt2.parameters())


def test_without_an_adapter_nothing_happens(gpt2):
    before = weights(gpt2)
    with low_rank_updates(gpt2, TrainingConfig()) as merge:
        assert weights(gpt2).keys() == before.keys()
        merge()


def test_a_new_last_layer_is_refused():
    model = GPT2ForSequenceClassification(GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=32))
    with (
        pytest.raises(ValueError, match="adapter='lora' on a GPT2ForSequenceClassification, whose new last layer"),
        low_rank_updates(model, LORA),
    ):
        pass
