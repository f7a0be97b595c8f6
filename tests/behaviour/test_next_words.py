import numpy as np
import pytest
import torch

from topographic.behaviour import next_word_preference

CONTEXTS = ["The dog", "The girls saw the", "No"]
FIRST, SECOND = ["mill", "gate"], ["is", "saw", "washed"]


@pytest.mark.parametrize("batch_size", [1, 2, 48])
def test_it_is_the_ratio_of_summed_probabilities(gpt2, tokenizer, batch_size):
    """One context at a time, softmax in float64, every different first token once."""
    got = next_word_preference(gpt2, tokenizer, CONTEXTS, [*FIRST, "mill", "mills"], SECOND, batch_size=batch_size)
    for value, context in zip(got, CONTEXTS, strict=True):
        ids = tokenizer(context, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = gpt2(input_ids=torch.tensor([[tokenizer.eos_token_id, *ids]])).logits[0, -1].double()
        p = logits.softmax(0)
        sums = [
            sum(
                float(p[token])
                for token in {tokenizer(f" {w}", add_special_tokens=False)["input_ids"][0] for w in words}
            )
            for words in ([*FIRST, "mills"], SECOND)
        ]
        np.testing.assert_allclose(value, np.log(sums[0] / sums[1]), rtol=1e-4, atol=1e-4)
    swapped = next_word_preference(gpt2, tokenizer, CONTEXTS, SECOND, [*FIRST, "mills"])
    np.testing.assert_allclose(swapped, -got, atol=1e-5)


def test_a_model_that_knows_what_follows_prefers_it(bigrams, tokenizer):
    [value] = next_word_preference(bigrams(["The dog"]), tokenizer, ["The"], ["dog"], ["mill"])
    assert value > 3


def test_what_is_refused(gpt2, tokenizer):
    with pytest.raises(ValueError, match=r"'isn' of the second begin with the same token .*; leave one of them out"):
        next_word_preference(gpt2, tokenizer, CONTEXTS, ["is"], ["isn"])
    with pytest.raises(ValueError, match="second is empty; give at least one"):
        next_word_preference(gpt2, tokenizer, CONTEXTS, ["is"], [])
