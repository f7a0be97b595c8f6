"""Tokenizers: one trained on the corpus, or any of Hugging Face's."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from topographic.storage import digest, locked, write_folder_atomically
from topographic.training.config import DataConfig
from topographic.training.text.corpus import Corpus, open_corpus

__all__ = ["END_OF_TEXT", "load_tokenizer", "tokenizer_checksum", "train_tokenizer"]

END_OF_TEXT = "<|endoftext|>"
MASK, PAD = "<|mask|>", "<|pad|>"


def load_tokenizer(config: DataConfig) -> PreTrainedTokenizerBase:
    """Load the tokenizer that the configuration names, training it first where it says "train".

    Parameters
    ----------
    config : DataConfig
        ``tokenizer`` is "train", a folder, or a name on the hub. A trained one is kept in the cache folder.

    Returns
    -------
    PreTrainedTokenizerBase
        A tokenizer with an end-of-text token; with a mask where tokens are to be found, and with a pad that is no other
        token where whole documents are labelled.

    Raises
    ------
    ValueError
        If the tokenizer cannot be loaded or has no end-of-text token.
    """
    name = config.tokenizer
    if name == "train":
        name = str(_trained_folder(config))
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"no tokenizer at {name!r} ({reason}); set data.tokenizer to 'train', to a tokenizer's folder, or to a "
            "Hugging Face name"
        ) from error
    if tokenizer.eos_token_id is None:
        raise ValueError(
            f"tokenizer {name!r} has no end-of-text token, which parts the documents; choose another, or set its "
            "eos_token and save it"
        )
    if config.objective == "masked_tokens" and tokenizer.mask_token is None:
        tokenizer.add_special_tokens({"mask_token": MASK})
    if config.objective == "labels" and tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
        tokenizer.add_special_tokens({"pad_token": PAD})
    return tokenizer


def _trained_folder(config: DataConfig) -> Path:
    corpus = open_corpus(**config.where())
    settings = [
        corpus.identity,
        config.vocab_size,
        config.tokenizer_characters,
        config.seed,
        config.validation_fraction,
    ]
    folder = config.cache() / "tokenizers" / digest(settings)[:16]
    if not folder.is_dir():
        with locked(folder, wait=True):
            if not folder.is_dir():
                trained = train_tokenizer(_training_texts(config, corpus), config.vocab_size)
                with write_folder_atomically(folder) as staging:
                    trained.save_pretrained(staging)
    return folder


def _training_texts(config: DataConfig, corpus: Corpus) -> Iterator[str]:
    """Documents of the training split, or the text before the part that is held out, until they are enough."""
    limit, held_out = config.tokenizer_characters, config.is_validation
    if (border := _border(config, corpus)) is not None:
        limit, held_out = min(limit, border), lambda _: False
    read = 0
    with tqdm(desc="reading text for the tokenizer", unit=" characters", unit_scale=True, leave=False) as bar:
        for document in corpus.documents():
            if held_out(document):
                continue
            kept = document if border is None else document[: limit - read]
            yield kept
            read += len(kept)
            bar.update(len(kept))
            if read >= limit:
                return


def _border(config: DataConfig, corpus: Corpus) -> int | None:
    """Characters before the last part, where all documents fall to one side of the split; None where both get some."""
    sides, read, used, share = set(), 0, None, 1 - config.validation_fraction
    for document in corpus.documents() if share < 1 else ():
        sides.add(config.is_validation(document))
        read += len(document)
        if used is None and read >= config.tokenizer_characters:
            used = read  # where training texts end that are whole documents
        before = sides == {False} and used is not None and used <= read * share  # wherever the last part begins
        if before or len(sides) == 2:
            return None
    return int(read * share) if sides else None


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerBase:
    """Train a byte-level BPE; any text can be written with it and read back unchanged.

    Parameters
    ----------
    texts : iterable of str
        The documents.
    vocab_size : int
        Entries at most: 256 bytes, the end-of-text token, and merges. A small text may yield fewer.

    Returns
    -------
    PreTrainedTokenizerFast
        Its only special token, ``<|endoftext|>``, serves as beginning, end and pad.

    Raises
    ------
    ValueError
        If ``vocab_size`` is below 257.
    """
    if vocab_size < 257:
        raise ValueError(f"vocab_size={vocab_size}; expected at least 257: 256 bytes and the end-of-text token")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, pad_token=END_OF_TEXT
    )


def tokenizer_checksum(tokenizer: PreTrainedTokenizerBase) -> str:
    """SHA-256 of what decides how text is cut into tokens."""
    content = {"vocabulary": sorted(tokenizer.get_vocab().items()), "end": tokenizer.eos_token_id}
    if tokenizer.is_fast:
        rust: Any = tokenizer.backend_tokenizer
        backend = json.loads(rust.to_str())
        content = {key: part for key, part in backend.items() if key not in {"truncation", "padding"}} | content
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
