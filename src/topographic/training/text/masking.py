"""Masked language modelling: windows of tokens some of which are to be found."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerBase

__all__ = ["MaskTokens", "Placed"]

_VALIDATION = 2**32 - 1  # the "epoch" of windows that are masked alike every time


class Placed(Dataset):
    """Windows with their number in the set and whether they are masked anew in every epoch."""

    def __init__(self, windows: Any, *, every_epoch: bool) -> None:
        self.windows, self.every_epoch = windows, every_epoch

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Window ``index`` as ``input_ids``, and what its mask is drawn by."""
        return {"input_ids": self.windows[index]["input_ids"], "place": index, "every_epoch": self.every_epoch}


class MaskTokens:
    """Join windows to a batch in which tokens are masked; seed, epoch and window decide which.

    A resumed run so masks what it would have masked, and validations mask alike each time. Of the tokens to be found
    transformers replaces 80 in 100 by the mask, 10 by another token and leaves 10 as they are.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, fraction: float, *, seed: int) -> None:
        self.epoch, self._seed = 0, seed
        self._drawing = DataCollatorForLanguageModeling(tokenizer, mlm_probability=fraction)
        self._special = torch.tensor(sorted(tokenizer.all_special_ids))

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """``input_ids`` and ``labels``, shape (batch, tokens); -100 where nothing is to be found."""
        masked = [self._masked(**item) for item in items]
        return {"input_ids": torch.cat([ids for ids, _ in masked]), "labels": torch.cat([one for _, one in masked])}

    def _masked(self, input_ids: Tensor, place: int, every_epoch: bool) -> tuple[Tensor, Tensor]:
        key = np.random.SeedSequence([self._seed, self.epoch if every_epoch else _VALIDATION, place])
        self._drawing.generator = torch.Generator().manual_seed(int(key.generate_state(1, np.uint64)[0] >> 1))
        special = torch.isin(input_ids, self._special)[None]
        return self._drawing.torch_mask_tokens(input_ids[None].clone(), special_tokens_mask=special)
