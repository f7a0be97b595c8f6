"""Packed tokens: the corpus tokenised once into memory-mapped shards, and windows over them."""

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from topographic.storage import digest, load_json, locked, save_json, sha256_of_file, write_atomically
from topographic.training.config import DataConfig
from topographic.training.text.corpus import Corpus, open_corpus
from topographic.training.text.tokenizer import tokenizer_checksum

__all__ = ["PackedTokens", "Tokens", "prepare_tokens"]

SPLITS = ("train", "validation")
SHARD_CHARACTERS = 32_000_000  # text per shard, about 8 million tokens: what an interruption costs at most
_BATCH = 1024  # documents per call of the tokenizer


class PackedTokens(Dataset):
    """Windows of equal length, one after the other, over shards of tokens.

    Parameters
    ----------
    shards : sequence of Path
        ``.npy`` files of one-dimensional unsigned integers; they are mapped, not read.
    sequence_length : int
        Tokens per window. The tokens left at the end are dropped.
    start, stop : int, optional
        Tokens of the shards to keep to, as in a slice; all of them by default.

    Raises
    ------
    ValueError
        If a shard is truncated or no array of tokens.
    """

    def __init__(
        self, shards: Sequence[Path], sequence_length: int, *, start: int = 0, stop: int | None = None
    ) -> None:
        self._shards = [_open_shard(path) for path in shards]
        self._ends = np.cumsum([len(shard) for shard in self._shards], dtype=np.int64)
        self.sequence_length = sequence_length
        held = range(int(self._ends[-1]) if len(self._ends) else 0)[start:stop]
        self._start, self.n_tokens = held.start, len(held)

    def __len__(self) -> int:
        """Number of windows."""
        return self.n_tokens // self.sequence_length

    def __getitem__(self, index: int) -> dict[str, Int64[Tensor, " tokens"]]:
        """Window ``index`` as ``input_ids`` and ``labels``; models shift the labels themselves."""
        if not 0 <= index < len(self):
            raise IndexError(f"window {index}; there are {len(self)}")
        start = self._start + index * self.sequence_length
        stop, pieces = start + self.sequence_length, []
        while start < stop:
            shard = int(np.searchsorted(self._ends, start, side="right"))
            offset = int(self._ends[shard]) - len(self._shards[shard])
            pieces.append(self._shards[shard][start - offset : stop - offset])
            start += len(pieces[-1])
        window = torch.from_numpy(np.concatenate(pieces).astype(np.int64))
        return {"input_ids": window, "labels": window.clone()}


@dataclass(frozen=True)
class Tokens:
    """What `prepare_tokens` made.

    Parameters
    ----------
    train : PackedTokens
        Training windows.
    validation : PackedTokens, optional
        Windows of what was held out; None if nothing was to be.
    manifest : dict
        Name, source, licence and checksum of the text, checksum of the tokenizer, documents and tokens per
        split, what is held out (documents, or the last part of a text of too few), files and their type.
    """

    train: PackedTokens
    validation: PackedTokens | None
    manifest: dict[str, Any]


def prepare_tokens(config: DataConfig, tokenizer: PreTrainedTokenizerBase) -> Tokens:
    """Tokenise the corpus once, with end-of-text after every document, and open the result.

    Parameters
    ----------
    config : DataConfig
        Text, split and window length.
    tokenizer : PreTrainedTokenizerBase
        As `load_tokenizer` returns it.

    Returns
    -------
    Tokens
        Training and validation windows over memory-mapped files in the cache folder.

    Raises
    ------
    FileNotFoundError, ValueError
        If the text is missing, empty, binary or too short for one window per split.

    Notes
    -----
    Shards are written beside their place and renamed, the manifest last: an interrupted preparation goes on
    where it stopped and ends with the same files. Processes that want the same tokens wait for one another.
    """
    corpus = open_corpus(**config.where())
    settings = [config.validation_fraction, config.seed, config.max_tokens, SHARD_CHARACTERS]
    folder = config.cache() / "tokens" / digest([corpus.identity, tokenizer_checksum(tokenizer), settings])[:16]
    if not (folder / "tokens.json").is_file():
        with locked(folder, wait=True):
            if not (folder / "tokens.json").is_file():
                _write_tokens(folder, corpus, config, tokenizer)
    manifest, length = load_json(folder / "tokens.json"), config.sequence_length
    shards = {split: [folder / name for name in manifest["files"][split]] for split in SPLITS}
    opened = {split: PackedTokens(shards[split], length) for split in SPLITS}
    if config.validation_fraction > 0 and not all(map(len, opened.values())):
        opened = _last_part(shards, config)
        manifest |= {"tokens": {split: one.n_tokens for split, one in opened.items()}}
        manifest |= {"held_out": f"the last {opened['validation'].n_tokens} tokens"}
    for split, one in opened.items():
        if not len(one) and (split == "train" or config.validation_fraction > 0):
            raise ValueError(
                f"{corpus.name} gives {one.n_tokens} {split} tokens, less than one window of {length}; give more text, "
                "shorten data.sequence_length, or lower data.validation_fraction"
            )
    if "held_out" in manifest:
        warnings.warn(
            f"the documents of {corpus.name} are too few to hold some of them out; {manifest['held_out']} of "
            f"{sum(manifest['tokens'].values())} are held out in their place (data.validation_fraction)",
            stacklevel=2,
        )
    about = {"held_out": "documents" if config.validation_fraction > 0 else "nothing", **manifest}
    return Tokens(opened["train"], opened["validation"] if config.validation_fraction > 0 else None, about)


def _last_part(shards: dict[str, list[Path]], config: DataConfig) -> dict[str, PackedTokens]:
    """The whole text parted near its end, a window at least behind the border; no window reaches across it."""
    every = [path for split in SPLITS for path in shards[split]]
    total = PackedTokens(every, config.sequence_length).n_tokens
    border = max(0, total - max(round(config.validation_fraction * total), config.sequence_length))
    return {
        "train": PackedTokens(every, config.sequence_length, stop=border),
        "validation": PackedTokens(every, config.sequence_length, start=border),
    }


def _write_tokens(folder: Path, corpus: Corpus, config: DataConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write one pair of shards per stretch of text; those an earlier attempt finished are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".*.partial"):
        leftover.unlink()
    dtype = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
    text_sha256 = hashlib.sha256()
    totals = {"documents": dict.fromkeys(SPLITS, 0), "tokens": dict.fromkeys(SPLITS, 0)}
    files: dict[str, dict[str, str]] = {split: {} for split in SPLITS}
    with tqdm(desc="tokenising", unit=" tokens", unit_scale=True, total=config.max_tokens, leave=False) as bar:
        for number, stretch in enumerate(_stretches(corpus.documents())):
            written = folder / f"part-{number:05d}.json"
            if not written.is_file():
                left = None if config.max_tokens is None else config.max_tokens - sum(totals["tokens"].values())
                tokens = _tokenise(stretch, config, tokenizer, left, bar)
                save_json(written, _write_shards(folder, number, tokens, dtype))
            part = load_json(written)
            for document in stretch[: sum(part["documents"].values())]:
                text_sha256.update(len(document).to_bytes(8, "big") + document.encode())
            for split in SPLITS:
                files[split].update(part["files"][split])
                for kind, total in totals.items():
                    total[split] += part[kind][split]
            if config.max_tokens is not None and sum(totals["tokens"].values()) >= config.max_tokens:
                break
    about = {"text": corpus.name, "source": corpus.source, "licence": corpus.licence}
    about |= {"text_sha256": text_sha256.hexdigest(), "tokenizer_sha256": tokenizer_checksum(tokenizer)}
    about |= {"max_tokens": config.max_tokens, "validation_fraction": config.validation_fraction, "seed": config.seed}
    save_json(folder / "tokens.json", about | totals | {"dtype": np.dtype(dtype).name, "files": files})


def _stretches(documents: Iterator[str]) -> Iterator[list[str]]:
    """Runs of documents of about `SHARD_CHARACTERS` characters."""
    stretch: list[str] = []
    characters = 0
    for document in documents:
        stretch.append(document)
        characters += len(document)
        if characters >= SHARD_CHARACTERS:
            yield stretch
            stretch, characters = [], 0
    if stretch:
        yield stretch


def _tokenise(
    documents: list[str], config: DataConfig, tokenizer: PreTrainedTokenizerBase, limit: int | None, bar: tqdm
) -> dict[str, list[list[int]]]:
    """Tokens of every document, per split, up to the document that reaches the limit."""
    end: Any = tokenizer.eos_token_id
    seen = 0
    tokens: dict[str, list[list[int]]] = {split: [] for split in SPLITS}
    for start in range(0, len(documents), _BATCH):
        batch = documents[start : start + _BATCH]
        encoded = tokenizer(batch, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
        for document, ids in zip(batch, encoded, strict=True):
            tokens[SPLITS[config.is_validation(document)]].append([*ids, end])
            seen += len(ids) + 1
            bar.update(len(ids) + 1)
            if limit is not None and seen >= limit:
                return tokens
    return tokens


def _write_shards(folder: Path, number: int, tokens: dict[str, list[list[int]]], dtype: type) -> dict[str, Any]:
    part: dict[str, Any] = {"documents": {}, "tokens": {}, "files": {split: {} for split in SPLITS}}
    for split, documents in tokens.items():
        packed = np.concatenate([np.asarray(document, dtype) for document in documents] or [np.empty(0, dtype)])
        part["documents"][split], part["tokens"][split] = len(documents), len(packed)
        if len(packed):
            path = folder / f"{split}-{number:05d}.npy"
            with write_atomically(path) as temporary, open(temporary, "wb") as opened:
                np.save(opened, packed, allow_pickle=False)
            part["files"][split][path.name] = sha256_of_file(path)
    return part


def _open_shard(path: Path) -> np.ndarray:
    try:
        shard = np.load(path, mmap_mode="r", allow_pickle=False)
    except (EOFError, OSError, ValueError) as error:
        raise ValueError(
            f"{path} is missing, truncated or no array ({error}); delete its folder and run again"
        ) from error
    if shard.ndim != 1 or shard.dtype.kind != "u":
        raise ValueError(f"{path} holds {shard.dtype} {shard.shape}; expected packed tokens: delete its folder")
    return shard
