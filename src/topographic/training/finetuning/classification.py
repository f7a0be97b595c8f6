"""Labelled texts as a causal model reads them: words, an end-of-text token that is read off, pads that are not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from tqdm import tqdm
from transformers import EvalPrediction, PreTrainedTokenizerBase

from topographic.recording.reading import evaluating
from topographic.training.finetuning.glue import Task
from topographic.training.finetuning.labelled import LabelledItems
from topographic.training.finetuning.scores import decide, measure
from topographic.training.material import Material

__all__ = ["EncodedItems", "PadBatch", "encode", "labelled_material", "predict"]


@dataclass(frozen=True, eq=False)
class EncodedItems(Dataset):
    """Tokens of every item, the last of them end-of-text, and their labels: numbers of labels, or scores."""

    tokens: Sequence[np.ndarray]
    labels: np.ndarray

    def __len__(self) -> int:
        """Number of items."""
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Item ``index`` as ``input_ids`` and its ``labels``."""
        return {"input_ids": self.tokens[index], "labels": self.labels[index].item()}


@dataclass(frozen=True)
class PadBatch:
    """Join items to a batch, with pads after each but the longest and a mask that tells them apart.

    transformers' own collator pads on the tokenizer's side; before a text, pads would shift the positions of a model
    that counts them.
    """

    pad_token_id: int

    def __call__(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """``input_ids`` and ``attention_mask``, shape (batch, tokens), and ``labels``, shape (batch,)."""
        tokens = [torch.as_tensor(item["input_ids"]) for item in items]
        ids = pad_sequence(tokens, batch_first=True, padding_value=self.pad_token_id)
        mask = pad_sequence([torch.ones_like(one) for one in tokens], batch_first=True)
        # whole numbers stay int64 and make a cross-entropy; scores become float32 and make a squared error
        return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([item["labels"] for item in items])}


def encode(
    tokenizer: PreTrainedTokenizerBase,
    items: LabelledItems,
    *,
    separator: str,
    longest: int | None,
    max_tokens: int | None = None,
) -> EncodedItems:
    """Tokens of every item: its text, for a pair the separator and the second text, and end-of-text."""
    end: Any = tokenizer.eos_token_id
    if end is None:
        raise ValueError(
            f"{type(tokenizer).__name__} has no end-of-text token, which a text is read off; set its eos_token and "
            "save it with the model"
        )
    if longest is not None and (max_tokens or 0) > longest:
        raise ValueError(f"data.max_tokens={max_tokens}; the model takes {longest} tokens at most: lower it")
    tokens = []
    for start in tqdm(range(0, len(items), _BATCH), desc="tokenising", leave=False, disable=len(items) <= _BATCH):
        texts = items.texts[start : start + _BATCH]
        firsts = tokenizer([text[0] for text in texts], verbose=False)["input_ids"]
        seconds: Any = [[]] * len(texts)
        if len(texts[0]) == 2:
            joined = [separator + text[1] for text in texts]
            seconds = tokenizer(joined, add_special_tokens=False, verbose=False)["input_ids"]
        for first, second in zip(firsts, seconds, strict=True):
            kept, rest = list(first), list(second)
            while kept and kept[-1] == end:  # some tokenizers close every text themselves
                kept.pop()
            while max_tokens is not None and len(kept) + len(rest) >= max_tokens:
                (kept if len(kept) > len(rest) else rest).pop()
            tokens.append(np.array([*kept, *rest, end], np.int64))
    lengths = [len(entry) for entry in tokens]
    if longest is not None and max(lengths) > longest:
        at = int(np.argmax(lengths))
        too_long = sum(length > longest for length in lengths)
        raise ValueError(
            f"{too_long} of {len(items)} items of {items.source} are longer than the {longest} tokens the model takes, "
            f"item {at} has {lengths[at]}; set data.max_tokens={longest} to cut them"
        )
    return EncodedItems(tokens, items.labels)


def labelled_material(
    task: Task, train: EncodedItems, validation: EncodedItems, *, pad_token_id: int, about: Mapping[str, Any], seed: int
) -> Material:
    """What `train_on` trains a classifier on."""

    def metrics(outcome: EvalPrediction) -> dict[str, float]:
        outputs: Any = outcome.predictions
        predicted = decide(task, np.asarray(outputs, np.float32))
        found = {name: measure(name, np.asarray(outcome.label_ids), predicted) for name in task.metrics}
        return {name: value for name, value in found.items() if np.isfinite(value)}

    return Material(train, validation, about, seed, collator=PadBatch(pad_token_id), metrics=metrics)


def predict(
    model: nn.Module, items: EncodedItems, *, pad_token_id: int, batch_size: int = 64
) -> Float[np.ndarray, "items outputs"]:
    """Outputs of a classifier for every item."""
    device, collate = next(model.parameters()).device, PadBatch(pad_token_id)
    outputs = []
    with torch.no_grad(), evaluating(model):
        for start in tqdm(range(0, len(items), batch_size), desc="evaluating", leave=False):
            batch = collate([items[index] for index in range(start, min(start + batch_size, len(items)))])
            shown = {name: batch[name].to(device) for name in ("input_ids", "attention_mask")}
            outputs.append(model(**shown).logits.float().cpu())
    return torch.cat(outputs).numpy()


_BATCH = 1024  # items per call of the tokenizer
