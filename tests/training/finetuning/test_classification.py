"""What a model is shown: words, separator, end-of-text, and pads that change nothing."""

import numpy as np
import pytest
import torch
from transformers import EvalPrediction, PreTrainedTokenizerFast

from topographic.training.finetuning.classification import EncodedItems, PadBatch, encode, labelled_material, predict
from topographic.training.finetuning.glue import TASKS
from topographic.training.finetuning.labelled import LabelledItems
from topographic.training.finetuning.scores import measure

ONE = LabelledItems((("the cat saw the dog",), ("a bird ran",), ("woman",)), np.array([1, 0, 1]), "one text each")
TWO = LabelledItems(
    (("the cat saw the dog", "then ran"), ("a", "the old black cat chased the bird")), np.array([0, 1]), "pairs"
)


def words(tokenizer, tokens):
    return tokenizer.decode(list(tokens))


def test_a_text_ends_with_end_of_text(tokenizer):
    items = encode(tokenizer, ONE, separator=" $ ", longest=32)
    assert [words(tokenizer, tokens) for tokens in items.tokens] == [f"{text}<|endoftext|>" for (text,) in ONE.texts]
    assert items[1]["input_ids"].tolist() == [*tokenizer("a bird ran")["input_ids"], tokenizer.eos_token_id]
    assert [items[index]["labels"] for index in range(len(items))] == [1, 0, 1]


@pytest.mark.parametrize("separator", [" $ ", "\n"])
def test_a_pair_is_joined_by_one_separator(tokenizer, separator):
    items = encode(tokenizer, TWO, separator=separator, longest=None)
    texts = [f"{first}{separator}{second}" for first, second in TWO.texts]
    assert [words(tokenizer, tokens) for tokens in items.tokens] == [f"{text}<|endoftext|>" for text in texts]
    expected = [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in texts]
    assert [tokens.tolist() for tokens in items.tokens] == expected


def test_tokens_a_tokenizer_adds_stay_and_end_of_text_stands_once(tokenizer):
    backend = tokenizer.backend_tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    closing = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="!", eos_token="<|endoftext|>")
    from tokenizers.processors import TemplateProcessing

    tokens = [("!", closing.bos_token_id), ("<|endoftext|>", closing.eos_token_id)]
    closing.backend_tokenizer.post_processor = TemplateProcessing(
        single="! $A <|endoftext|>", special_tokens=tokens, pair=None
    )
    plain = tokenizer("the cat saw the dog $ then ran")["input_ids"]
    found = encode(closing, TWO, separator=" $ ", longest=None).tokens[0].tolist()
    assert found == [closing.bos_token_id, *plain, closing.eos_token_id]


def test_the_longer_text_of_a_pair_is_cut_first(tokenizer):
    whole = encode(tokenizer, TWO, separator=" $ ", longest=None)
    firsts = [len(tokenizer(first)["input_ids"]) for first, _ in TWO.texts]
    for limit in (8, 9, 10, 12):
        cut = encode(tokenizer, TWO, separator=" $ ", longest=32, max_tokens=limit)
        for before, after, n_first in zip(whole.tokens, cut.tokens, firsts, strict=True):
            assert len(after) == min(limit, len(before))
            assert after[-1] == tokenizer.eos_token_id
            assert tokenizer(" $")["input_ids"][-1] in after
            kept = min(n_first, len(before) - 1, limit // 2) if len(before) > limit else n_first
            assert after[:kept].tolist() == before[:kept].tolist()


def test_what_cannot_be_read(tokenizer):
    with pytest.raises(
        ValueError, match=r"1 of 2 items of pairs are longer than the 15 tokens the model takes, item 1"
    ):
        encode(tokenizer, TWO, separator=" $ ", longest=15)
    with pytest.raises(ValueError, match=r"data.max_tokens=64; the model takes 32 tokens at most: lower it"):
        encode(tokenizer, TWO, separator=" $ ", longest=32, max_tokens=64)
    endless = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    with pytest.raises(ValueError, match=r"has no end-of-text token, which a text is read off; set its eos_token"):
        encode(endless, TWO, separator=" $ ", longest=32)


def test_batches_are_padded_to_their_longest_item():
    items = EncodedItems([np.array([5, 6, 7]), np.array([8]), np.array([9, 1])], np.array([2, 0, 1]))
    batch = PadBatch(99)([items[1], items[2]])
    assert batch["input_ids"].tolist() == [[8, 99], [9, 1]]
    assert batch["attention_mask"].tolist() == [[1, 0], [1, 1]]
    assert batch["labels"].tolist() == [0, 1]
    assert batch["labels"].dtype == torch.int64
    scores = EncodedItems(items.tokens, np.array([0.5, 5.0, 2.5], np.float32))
    assert PadBatch(99)([scores[0], scores[2]])["labels"].tolist() == [0.5, 2.5]
    assert PadBatch(99)([scores[0]])["labels"].dtype == torch.float32


class Parity(torch.nn.Module):
    """Says of every text how many tokens it has and what they add up to."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.modes = []

    def forward(self, input_ids, attention_mask):
        self.modes.append(self.training)
        found = torch.stack([attention_mask.sum(1), (attention_mask * input_ids).sum(1)], 1)
        return type("Output", (), {"logits": self.weight * found})


def test_predictions_come_in_order_and_leave_the_model_as_it_was():
    items = EncodedItems([np.arange(length) for length in (3, 1, 8, 2, 5)], np.zeros(5, np.int64))
    model = Parity().train()
    outputs = predict(model, items, pad_token_id=77, batch_size=2)
    assert outputs.tolist() == [[length, sum(range(length))] for length in (3, 1, 8, 2, 5)]
    assert outputs.dtype == np.float32
    assert model.modes == [False] * 3
    assert model.training


def test_measures_of_a_validation_are_those_of_the_task():
    items = EncodedItems([np.array([1])] * 4, np.array([1, 0, 1, 1]))
    material = labelled_material(TASKS["mrpc"], items, items, pad_token_id=0, about={"source": "here"}, seed=3)
    outputs = np.array([[0.0, 1.0], [0.0, 2.0], [1.0, 0.0], [0.0, 1.0]], np.float32)
    assert material.metrics is not None
    found = material.metrics(EvalPrediction(outputs, items.labels))
    predicted = np.array([1, 1, 0, 1])
    assert found == {name: measure(name, items.labels, predicted) for name in ("f1", "accuracy")}
    assert found["accuracy"] == 0.5
    assert (material.seed, material.about, material.counted) == (3, {"source": "here"}, ("items", 1))


def test_an_undefined_measure_is_left_out():
    items = EncodedItems([np.array([1])] * 3, np.array([1.0, 2.0, 3.0], np.float32))
    material = labelled_material(TASKS["stsb"], items, items, pad_token_id=0, about={}, seed=0)
    assert material.metrics is not None
    assert material.metrics(EvalPrediction(np.ones((3, 1), np.float32), items.labels)) == {}
