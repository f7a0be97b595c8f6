"""Activations of running text, recorded once into memory-mapped files that any number of fits read."""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from topographic.recording import find_sites, longest_context, tap, weights_checksum
from topographic.recording.reading import Text, evaluating, expect_tokenizer, per_token, text_batches
from topographic.sheets.expectations import expect_whole
from topographic.storage import code_version, digest, load_json, locked, publish_folder, save_json

__all__ = ["cached_activations", "recording_of"]


def cached_activations(
    model: nn.Module,
    tokenizer: Any,
    text: str,
    sites: str | Sequence[str],
    folder: str | Path,
    *,
    n_tokens: int = 8192,
    context: int = 512,
    batch_size: int = 8,
    dtype: str = "float32",
    progress: bool = True,
) -> dict[str, np.ndarray]:
    """What the units of some sites do at every token of a running text, kept on disk.

    Parameters
    ----------
    model : nn.Module
        Any torch or Hugging Face model that takes token ids.
    tokenizer : PreTrainedTokenizerBase
        The tokenizer of that model; its beginning-of-sequence token, if it has one, is put before every window.
    text : str
        Running text.
    sites : str or sequence of str
        Names or wildcards, as `find_sites` takes them.
    folder : str or Path
        Where recordings are kept, one folder each, named by a checksum of the weights, the tokens, the sites and
        ``dtype``. One that was interrupted goes on where it was.
    n_tokens : int
        Tokens to record: the first ones of the text.
    context : int
        Tokens that the model reads at once, at most what it can read. The recording depends on it.
    batch_size : int
        Windows per forward pass. The responses depend on it by rounding alone.
    dtype : {"float16", "float32"}
        Of the files.
    progress : bool
        Show a progress bar.

    Returns
    -------
    dict of str to ndarray, shape (tokens, units)
        Read-only memory-mapped files, in the order of the text. Special tokens and padding are left out.

    Raises
    ------
    ValueError
        If the text has fewer tokens, a site gives no finite values or none that ``dtype`` holds, or a pattern matches
        nothing.

    Notes
    -----
    Values never lie in memory but for one batch: 60 sites of 50,000 tokens and 576 units are 3.5 GB of disk in
    float16.
    """
    for name, number in (("n_tokens", n_tokens), ("context", context), ("batch_size", batch_size)):
        expect_whole(name, number, 1)
    if dtype not in ("float16", "float32"):
        raise ValueError(f"dtype={dtype!r}; expected 'float16' or 'float32'")
    names = find_sites(model, sites)
    ids = _token_ids(tokenizer, text, n_tokens)
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    longest = longest_context(model, tokenizer)
    context = context if longest is None else min(context, longest - len(bos))
    about = {
        "weights": weights_checksum(model),
        "tokens": hashlib.sha256(np.array(ids, np.int64).tobytes()).hexdigest(),
        "bos": bos,
        "context": context,
        "sites": names,
        "n_tokens": n_tokens,
        "dtype": dtype,
        "code": code_version(__name__),
    }
    whole = Path(folder) / digest(about)[:16]
    with locked(whole, wait=True):
        if not whole.is_dir():
            windows = [ids[first : first + context] for first in range(0, n_tokens, context)]
            texts = [Text(bos + window, [False] * len(bos) + [True] * len(window), bool(bos)) for window in windows]
            part = whole.with_name(f"{whole.name}.partial")
            part.mkdir(parents=True, exist_ok=True)
            try:
                _record(
                    model,
                    tokenizer,
                    texts,
                    names,
                    part,
                    n_tokens=n_tokens,
                    batch_size=batch_size,
                    dtype=dtype,
                    progress=progress,
                )
            except ValueError:  # it would fail there again; an interruption leaves what it has
                shutil.rmtree(part)
                raise
            save_json(part / "recording.json", about)
            publish_folder(part, whole)
    return {site: np.load(whole / _file(site), mmap_mode="r") for site in names}


def recording_of(values: np.ndarray) -> str:
    """Checksum of what decided a recording: the name of the folder in which its memory-mapped file lies."""
    if not isinstance(values, np.memmap) or values.filename is None:
        raise TypeError(f"values are a {type(values).__name__}; expected what cached_activations returned")
    return Path(values.filename).parent.name


def _record(
    model: nn.Module,
    tokenizer: Any,
    texts: Sequence[Text],
    names: Sequence[str],
    folder: Path,
    *,
    n_tokens: int,
    batch_size: int,
    dtype: str,
    progress: bool,
) -> None:
    """Write batch after batch, going on after the last one whose values are all on the disk."""
    done = folder / "done.json"
    n_texts, first = load_json(done) if done.is_file() else (0, 0)
    files: dict[str, np.memmap] = {}
    bar = tqdm(total=n_tokens, initial=first, desc="record text", disable=not progress)
    with evaluating(model), torch.no_grad(), bar:
        while n_texts < len(texts):
            chosen = texts[n_texts : n_texts + batch_size]
            # windows are equally long but for the last, so that batches keep the order of the text
            for batch in text_batches(model, tokenizer, chosen, batch_size):
                with tap(model, names) as heard:
                    batch.run()
                n_own = int(batch.own.sum())
                for site in names:
                    tokens = per_token(site, heard.get(site), batch.own)
                    rows = _checked(site, tokens[batch.own.to(tokens.device)].cpu(), dtype)
                    if site not in files:
                        files[site] = _opened(folder / _file(site), (n_tokens, rows.shape[1]), dtype, fresh=first == 0)
                    files[site][first : first + n_own] = rows
                first += n_own
                bar.update(n_own)
            for file in files.values():
                file.flush()
            n_texts += len(chosen)
            save_json(done, [n_texts, first])
    done.unlink()


def _opened(path: Path, shape: tuple[int, int], dtype: str, *, fresh: bool) -> np.memmap:
    if fresh:
        return np.lib.format.open_memmap(path, "w+", dtype, shape)
    return np.lib.format.open_memmap(path, "r+")


def _checked(site: str, rows: Tensor, dtype: str) -> np.ndarray:
    if not rows.isfinite().all():
        raise ValueError(f"site {site!r} gives NaN or infinity; check the model's weights, or load it in float32")
    most = float(rows.abs().max())
    if most > np.finfo(dtype).max:
        raise ValueError(f"site {site!r} gives values up to {most:.3g}, more than {dtype} holds; pass dtype='float32'")
    return rows.numpy().astype(dtype)


def _token_ids(tokenizer: Any, text: str, n_tokens: int) -> list[int]:
    """First tokens of a text; a long text is not read whole for a few of them."""
    expect_tokenizer(tokenizer)
    for piece in (text[: 20 * n_tokens], text):
        ids = tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"]
        if len(ids) > n_tokens:
            return list(ids[:n_tokens])
    if len(ids) < n_tokens:
        raise ValueError(
            f"the text has {len(ids)} tokens, n_tokens={n_tokens}; give a longer one, or n_tokens={len(ids)}"
        )
    return list(ids)


def _file(site: str) -> str:
    return f"{site or 'model'}.npy"
