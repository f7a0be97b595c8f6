"""A control without words: the same model reads as many tokens drawn at random."""

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["RandomTokens"]


class RandomTokens:
    """A tokenizer that puts tokens at random in the place of those of a text: as many, in the same places."""

    def __init__(self, tokenizer: Any, seed: int) -> None:
        self._tokenizer, self._source = tokenizer, np.random.default_rng(seed)
        special = set(tokenizer.all_special_ids)
        self._ids = np.array([one for one in range(tokenizer.vocab_size) if one not in special])

    def __getattr__(self, name: str) -> Any:
        """Everything else as the tokenizer has it."""
        return getattr(self._tokenizer, name)

    def __len__(self) -> int:
        """Size of the vocabulary."""
        return len(self._tokenizer)

    def __call__(self, texts: Any, **options: Any) -> Any:
        """Its tokens, those of the text drawn anew."""
        encoded = self._tokenizer(texts, **{**options, "return_special_tokens_mask": True})
        ids, is_special = encoded["input_ids"], encoded["special_tokens_mask"]
        one_text = isinstance(texts, str)
        encoded["input_ids"] = self._drawn(ids, is_special) if one_text else list(map(self._drawn, ids, is_special))
        return encoded

    def _drawn(self, ids: Sequence[int], is_special: Sequence[int]) -> list[int]:
        return [
            token if special else int(self._source.choice(self._ids))
            for token, special in zip(ids, is_special, strict=True)
        ]
