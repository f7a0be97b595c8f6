"""Sheets for any model in one call: running text recorded once, every site laid out, each judged on held-out text."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from topographic.layouts.adaptors import Adaptor, Adaptors, ModelSource, to_sheet
from topographic.layouts.assignment import fit_assignment
from topographic.layouts.blocks import fitting_neighborhoods
from topographic.layouts.cache import cached_activations, recording_of
from topographic.layouts.contiguous import contiguous_sheet, fit_contiguous
from topographic.layouts.population import Scale, least_samples, moments
from topographic.layouts.rotation import fit_linear, fit_rotation
from topographic.losses import spatial_correlation_loss
from topographic.recording import find_sites, weights_checksum
from topographic.recording.placement import AnyLayout, settled_layout
from topographic.sheets import Sheet
from topographic.sheets.expectations import expect_whole
from topographic.storage import code_version, digest

__all__ = ["METHODS", "fit_layout"]

_TOKENS_A_UNIT = 14  # on which rotations of 576 units were measured
_HELD_OUT = 4  # one token is held out for so many that are fitted
_MOST_HELD_OUT = 4096
_PROBED = 8


def fit_layout(
    model: nn.Module,
    tokenizer: Any,
    text: str,
    *,
    sites: str | Sequence[str] = "resid",
    method: str = "rotation",
    layout: AnyLayout = None,
    n_tokens: int | None = None,
    scale: Scale = "unit",
    steps: int = 100,
    seed: int = 0,
    context: int = 512,
    batch_size: int = 8,
    folder: str | Path | None = None,
    source: str | None = None,
    tokenizer_source: str | None = None,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> Adaptors:
    """Lay the sites of a model out on sheets, without changing what it computes.

    The model reads ``text`` once; every site then gets its own rotation, assignment or linear map, fitted on the first
    ``n_tokens`` and judged on the text that follows: ``provenance`` holds ``loss_before`` (units in their own order)
    and ``loss`` of each, the spatial loss over all neighbourhoods on tokens it has not seen.

    Parameters
    ----------
    model : nn.Module
        Any torch or Hugging Face model that takes token ids.
    tokenizer : PreTrainedTokenizerBase
        The tokenizer of that model.
    text : str
        Running text, which should not be what maps are made with later.
    sites : str or sequence of str
        Names, wildcards or an alias ("resid", "attn", "mlp"), as `find_sites` takes them.
    method : {"rotation", "assigned", "linear", "contiguous"}
        `fit_rotation`, `fit_assignment`, `fit_linear`; or rotations that `fit_contiguous` finds together: the sheets
        of all sites lie side by side in the order of depth, and neighbourhoods cross from one to the next.
    layout : callable or mapping of str to Sheet, optional
        Where the places of each site lie; the most nearly square grid of its width by default.
    n_tokens : int, optional
        Tokens to fit on, at least 2 for each unit; 14 for each unit of the widest site by default. A quarter as many
        again, 4,096 at most, are held out.
    scale : {"unit", "overall"}
        As in `fit_rotation`.
    steps : int
        Of rotations and linear maps.
    seed : int
        With the name of the site it decides the start of each fit, so that sites do not share one.
    context, batch_size
        As in `cached_activations`.
    folder : str or Path, optional
        Where the recording and every finished site are kept, so that an interrupted fit goes on, and another method or
        seed reads the same recording. By default a temporary folder.
    source, tokenizer_source : str, optional
        Where the model and its tokenizer come from, as `topographic.load` finds them: with it the saved folder can be
        loaded, mapped and evaluated.
    device : str or torch.device
        Where rotations are fitted.
    progress : bool
        Show progress bars.

    Returns
    -------
    Adaptors
        One `Adaptor` per site, for `rebased` and ``save``.

    Raises
    ------
    ValueError
        If the method does not exist, tokens or text are too few, a unit is constant, sheets that should lie side by
        side differ, or as `cached_activations` and the fits say; the message names the site.
    RuntimeError
        If a rotation does not converge.

    Notes
    -----
    Whether a map is *about* a contrast, a fit cannot tell: compare with one of `shuffled_within_units`, and permute
    labels.

    Examples
    --------
    >>> adaptors = fit_layout(model, tokenizer, text, sites="resid")  # doctest: +SKIP
    >>> with rebased(model, adaptors):  # doctest: +SKIP
    ...     maps = contrast(model, tokenizer, "sentences", "nonwords")
    """
    if method not in (*METHODS, "contiguous"):
        raise ValueError(f"method={method!r}; expected one of {', '.join(METHODS)}, contiguous")
    expect_whole("seed", seed)
    names = find_sites(model, sites)
    placed = settled_layout(model, names, layout, relayout=True)
    reading = {"context": context, "batch_size": batch_size, "progress": progress}
    with contextlib.ExitStack() as stack:
        kept = Path(stack.enter_context(tempfile.TemporaryDirectory()) if folder is None else folder)
        sheets = {site: placed(width, site) for site, width in _widths(model, tokenizer, text, names, reading).items()}
        n_fitted = _n_fitted(sheets, n_tokens)
        n_held_out = min(n_fitted // _HELD_OUT, _MOST_HELD_OUT)
        recorded = cached_activations(
            model, tokenizer, text, names, kept, n_tokens=n_fitted + max(n_held_out, 2), **reading
        )
        weights = weights_checksum(model, contents=False)
        about = {
            "weights": weights,
            "method": method,
            "scale": scale,
            "n_tokens": n_fitted,
            "steps": steps,
            "seed": seed,
        }
        if method == "contiguous":
            found = _fitted_together(kept, recorded, sheets, about, device, progress=progress)
        else:
            found = []
            with tqdm(sheets.items(), desc=f"lay out ({method})", unit="site", disable=not progress) as bar:
                for site, sheet in bar:
                    bar.set_postfix_str(site)
                    found.append(_fitted_once(kept, site, recorded[site], sheet, about, device))
        own = None if source is None else ModelSource(source, weights, tokenizer_source)
        return Adaptors(found, own)


def _assigned(values: np.ndarray, sheet: Sheet, *, seed: int, **_: Any) -> Tensor:
    return fit_assignment(values, sheet, seed=seed)


METHODS: dict[str, Callable[..., Tensor]] = {"rotation": fit_rotation, "assigned": _assigned, "linear": fit_linear}


def _widths(model: nn.Module, tokenizer: Any, text: str, names: list[str], reading: dict[str, Any]) -> dict[str, int]:
    """How many units a site has, which only its output tells."""
    with tempfile.TemporaryDirectory() as folder:
        probed = cached_activations(
            model, tokenizer, text, names, folder, n_tokens=_PROBED, **{**reading, "progress": False}
        )
        return {site: values.shape[1] for site, values in probed.items()}


def _n_fitted(sheets: dict[str, Sheet], n_tokens: int | None) -> int:
    widest = max(sheets, key=lambda site: sheets[site].n_units)
    n_units = sheets[widest].n_units
    if n_tokens is None:
        return _TOKENS_A_UNIT * n_units
    expect_whole("n_tokens", n_tokens, 1)
    if n_tokens < least_samples(n_units):  # before anything is recorded
        raise ValueError(
            f"n_tokens={n_tokens} and site {widest!r} has {n_units} units; expected at least {least_samples(n_units)} "
            f"tokens to fit on, and better {_TOKENS_A_UNIT * n_units}"
        )
    return n_tokens


def _fitted_once(
    folder: Path, site: str, recorded: np.ndarray, sheet: Sheet, about: dict[str, Any], device: str | torch.device
) -> Adaptor:
    """The adaptor of a site, from the folder where it lies there already."""
    about = {**about, "recording": recording_of(recorded)}  # which names weights, tokens and all that was read
    key = digest({**about, "site": site, "sheet": sheet.checksum, "code": _code()})
    path = _kept_at(folder, key)
    if path.is_file():
        return Adaptor.load(path)
    one = _fitted(site, recorded, sheet, {**about, "key": key}, device)
    path.parent.mkdir(parents=True, exist_ok=True)
    one.save(path)
    return one


def _code() -> list[str]:
    names = ("fitting", "rotation", "assignment", "population", "contiguous")
    return [code_version(f"topographic.layouts.{name}") for name in names]


def _kept_at(folder: Path, key: str) -> Path:
    return folder / "fitted" / f"{key[:32]}.safetensors"


def _fitted_together(
    folder: Path,
    recorded: Mapping[str, np.ndarray],
    sheets: dict[str, Sheet],
    about: dict[str, Any],
    device: str | torch.device,
    *,
    progress: bool,
) -> list[Adaptor]:
    """Adaptors of sheets that lie side by side, from the folder where all of them lie there already."""
    first, *others = sheets.values()
    differing = [one.name for one in others if one.checksum != first.checksum]
    if differing:
        raise ValueError(
            f"the sheets {first.name!r} and {differing[0]!r} differ; on one contiguous sheet all sites need the same "
            "width and layout: choose such sites"
        )
    joint = contiguous_sheet(first, len(sheets))
    about = {**about, "recording": [recording_of(recorded[site]) for site in sheets], "side_by_side": list(sheets)}
    keys = {site: digest({**about, "site": site, "sheet": joint.checksum, "code": _code()}) for site in sheets}
    paths = {site: _kept_at(folder, key) for site, key in keys.items()}
    if all(path.is_file() for path in paths.values()):
        return [Adaptor.load(path) for path in paths.values()]
    parts = {site: _parts(recorded[site], about) for site in sheets}
    choices = {"seed": about["seed"], "steps": about["steps"], "scale": about["scale"], "device": device}
    matrices = fit_contiguous({site: own for site, (own, _) in parts.items()}, joint, **choices, progress=progress)
    found = [
        _judged(site, recorded[site], sheet, matrices[site], "rotation", {**about, "key": keys[site]})
        for site, sheet in sheets.items()
    ]
    shown = [one.to_sheet(parts[one.site][1]) for one in found]
    together = {"loss_side_by_side": _loss(torch.cat(shown, dim=1), joint)}
    found = [replace(one, provenance={**one.provenance, **together}) for one in found]
    (folder / "fitted").mkdir(parents=True, exist_ok=True)
    for one in found:
        one.save(paths[one.site])
    return found


def _fitted(
    site: str, recorded: np.ndarray, sheet: Sheet, about: dict[str, Any], device: str | torch.device
) -> Adaptor:
    fitted, method = _parts(recorded, about)[0], about["method"]
    start = int(digest([about["seed"], site])[:7], 16)
    with _naming(site):
        matrix = METHODS[method](fitted, sheet, seed=start, steps=about["steps"], scale=about["scale"], device=device)
        return _judged(site, recorded, sheet, matrix, method, about)


def _parts(recorded: np.ndarray, about: dict[str, Any]) -> tuple[np.ndarray, Tensor]:
    """Tokens that are fitted, and those that judge."""
    n_tokens = about["n_tokens"]
    return recorded[:n_tokens], torch.from_numpy(np.array(recorded[n_tokens:], np.float32))


def _judged(site: str, recorded: np.ndarray, sheet: Sheet, matrix: Tensor, kind: str, about: dict[str, Any]) -> Adaptor:
    """The adaptor that a fit gives, and its loss on tokens held out, beside that of units in their own order."""
    fitted, held_out = _parts(recorded, about)
    mean, scale = moments(fitted, about["scale"])
    told = {**about, "loss_before": _loss(held_out, sheet), "n_held_out": len(held_out)}
    told["loss"] = _loss(to_sheet(held_out, mean, scale, matrix), sheet)
    return Adaptor(site, mean, scale, matrix, sheet, kind, provenance=told)


@contextlib.contextmanager
def _naming(site: str) -> Iterator[None]:
    """Errors of a fit begin with the site."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise type(error)(f"site {site!r}: {error}") from error


def _loss(z: Tensor, sheet: Sheet) -> float:
    every = fitting_neighborhoods(sheet)
    return float(spatial_correlation_loss(z, sheet.positions_mm, every, period_mm=sheet.period_mm))
