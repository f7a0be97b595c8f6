"""The checkpoints of the authors of TopoLM and TopoNets, in our format."""

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from topographic.models.authors_files import StoredPositions, read_checkpoint, read_positions
from topographic.models.configuration_topolm import SheetPointName, TopoLMConfig
from topographic.models.conversion import Conversion, bare_weights, load_weights, plain
from topographic.models.convert_nanogpt import convert_nanogpt
from topographic.models.modeling_topolm import TopoLMForCausalLM
from topographic.sheets import Sheet, distances
from topographic.storage import sha256_of_file

__all__ = ["convert_checkpoint"]

# what the authors call it -> what we call it
_FIELDS = {
    "n_layer": "n_layer",
    "n_head": "n_head",
    "n_embed": "n_embd",
    "block_size": "n_positions",
    "vocab_size": "vocab_size",
    "bias": "bias",
    "dropout": "dropout",
    "attn_proj": "extra_projection",
}
# of the training, not of the model; kept in the note beside the model
_OF_TRAINING = {"alpha", "position_dir", "accum", "activation_decay", "finetune"}


def convert_checkpoint(
    checkpoint: str | Path,
    positions_folder: str | Path | None = None,
    *,
    sheet_point: SheetPointName | None = None,
    n_head: int | None = None,
) -> Conversion:
    """Turn a checkpoint of the authors of TopoLM, or of nanoGPT as TopoNets releases it, into our model.

    References
    ----------
    Rathi et al., TopoLM, ICLR 2025; code epflneuroailab/topolm. Deb et al., TopoNets, ICLR 2025 (`convert_nanogpt`).

    Notes
    -----
    Of TopoLM: neighbourhood masks are left behind: blocks follow from the coordinates, and sets that are not blocks are
    described in the provenance (`scattered_neighborhoods` makes such sets on purpose). A model with ``head_loss``
    lays its heads out as tiles without weights; here that is a permutation matrix in ``attn.c_proj``, so that units
    keep the authors' order. Training on would change that matrix.
    """
    stored = read_checkpoint(checkpoint)
    settings = stored.get("model_args", {})
    if "n_embed" not in settings:  # nanoGPT spells it n_embd
        if positions_folder is not None or sheet_point is not None:
            raise ValueError(
                f"{checkpoint} is of nanoGPT, whose sheets are its weights; leave positions and sheet_point out"
            )
        return convert_nanogpt(stored, checkpoint, n_head=n_head)
    if positions_folder is None or n_head is not None:
        raise ValueError(f"{checkpoint} is of TopoLM; expected the folder of its positions, and no n_head: change that")
    unknown = sorted(set(settings) - set(_FIELDS) - _OF_TRAINING - {"head_loss", "with_resid"})
    if unknown:
        warnings.warn(f"{Path(checkpoint).name}: unknown settings {unknown} are ignored", stacklevel=2)
    if settings.get("finetune"):
        warnings.warn(
            f"{Path(checkpoint).name} was fine-tuned; the published fine-tuning attends in both directions, this "
            "decoder only backwards, so its outputs differ from those",
            stacklevel=2,
        )
    with torch.random.fork_rng():  # the initial weights are overwritten
        model = TopoLMForCausalLM(_config(settings, checkpoint, sheet_point)).eval()
    weights = bare_weights(stored["model"], checkpoint)
    if settings.get("head_loss"):
        weights |= _head_tiles(model.config)
    load_weights(model, weights, checkpoint)
    layout = read_positions(positions_folder, model.config.n_layer)
    model.set_sheets({site: _sheet(site, one, model.config.n_embd) for site, one in layout.items()})
    facts = {site: _layout_facts(one) for site, one in layout.items()}
    described = _describe(facts)
    if described:
        warnings.warn(described, stacklevel=2)
    return Conversion(model, _provenance(stored, checkpoint, positions_folder, facts, described))


def _config(settings: Mapping[str, Any], path: str | Path, sheet_point: SheetPointName | None) -> TopoLMConfig:
    if missing := sorted({"n_layer", "n_head", "n_embed", "block_size", "vocab_size", "bias"} - set(settings)):
        raise ValueError(f"{path}: model_args lacks {missing}; expected a checkpoint of TopoLM's train.py")
    said = settings.get("with_resid")
    point: SheetPointName | None = sheet_point
    if said is not None:
        point = "post_residual" if said else "pre_residual"
    if point is None:
        raise ValueError(
            f"{path} does not say where its sheets lie (no with_resid); give sheet_point='pre_residual' for the "
            "paper's model or 'post_residual' for code older than that setting"
        )
    if sheet_point not in (None, point):
        raise ValueError(
            f"{path} says {point} (with_resid={said}); sheet_point={sheet_point!r} was given: leave it out"
        )
    fields = {ours: settings[theirs] for theirs, ours in _FIELDS.items() if theirs in settings}
    return TopoLMConfig(**fields, sheet_point=point)


def _head_tiles(config: TopoLMConfig) -> dict[str, Tensor]:
    """Projection that only moves units: head ``h``, unit ``j`` of the concatenated heads to its tile's place."""
    heads, units = math.isqrt(config.n_head), math.isqrt(config.n_embd // config.n_head)
    if heads**2 != config.n_head or units**2 * config.n_head != config.n_embd:
        raise ValueError(f"head_loss with {config.n_head} heads of {config.n_embd} units; expected squares of both")
    order = rearrange(torch.arange(config.n_embd), "(a b r c) -> (a r b c)", a=heads, b=heads, r=units)
    weights = {}
    for layer in range(config.n_layer):
        weights[f"transformer.h.{layer}.attn.c_proj.weight"] = torch.eye(config.n_embd)[order]
        if config.bias:
            weights[f"transformer.h.{layer}.attn.c_proj.bias"] = torch.zeros(config.n_embd)
    return weights


def _sheet(site: str, stored: StoredPositions, n_units: int) -> Sheet:
    if len(stored.coordinates) != n_units:
        raise ValueError(f"site {site!r}: {len(stored.coordinates)} places for {n_units} units; give its own positions")
    # the readout of the paper puts lattice steps 1 mm apart
    side = max(math.isqrt(n_units), 1)
    extent = tuple(max(float(side), float(span) + 1) for span in np.ptp(stored.coordinates, axis=0))
    return Sheet(name=site, positions_mm=torch.from_numpy(stored.coordinates), extent_mm=extent)


def _layout_facts(stored: StoredPositions) -> dict[str, Any]:
    """How far a layout is a bijection, and how far its stored neighbourhoods are blocks."""
    places, taken = np.unique(stored.coordinates, axis=0, return_counts=True)
    facts: dict[str, Any] = {
        "units": len(stored.coordinates),
        "distinct_places": len(places),
        "coincident_pairs": int((taken * (taken - 1) // 2).sum()),
    }
    if stored.masks is None or not len(stored.masks):
        return facts
    positions = torch.from_numpy(stored.coordinates)
    sizes = stored.masks.sum(1)
    # a block of radius r holds (2 r - 1)^2 units
    radius = (math.isqrt(int(sizes[0])) + 1) // 2
    blocks = {row.tobytes() for row in (distances(positions, norm="linf") < radius).numpy()}
    masks = stored.masks.astype(np.float64)
    within = (masks @ distances(positions).numpy() * masks).sum(1) / np.maximum(sizes * (sizes - 1), 1)
    return facts | {
        "neighborhoods": len(masks),
        "units_per_neighborhood": sorted({int(size) for size in sizes}),
        "neighborhoods_that_are_blocks": sum(row.tobytes() in blocks for row in stored.masks),
        "mean_distance_within_neighborhood": float(within.mean()),
    }


def _describe(facts: Mapping[str, dict[str, Any]]) -> str:
    """One line about layouts that are no bijections or whose neighbourhoods are no blocks; empty if all are."""

    def span(key: str, sites: list[str]) -> str:
        values = sorted(facts[site][key] for site in sites)
        low, high = (f"{value:.4g}" for value in (values[0], values[-1]))
        return low if low == high else f"{low} to {high}"

    shared = [site for site, fact in facts.items() if fact["distinct_places"] < fact["units"]]
    masked = [site for site, fact in facts.items() if "neighborhoods" in fact]
    scattered = [s for s in masked if facts[s]["neighborhoods_that_are_blocks"] < facts[s]["neighborhoods"]]
    parts = []
    if shared:
        parts.append(
            f"on {len(shared)} of {len(facts)} sheets units share places ({span('distinct_places', shared)} places for "
            f"{span('units', shared)} units, {span('coincident_pairs', shared)} coincident pairs): the layout is no "
            "bijection, so local_neighborhoods is not defined on it"
        )
    if scattered:
        parts.append(
            f"on {len(scattered)} of {len(facts)} sheets the stored neighbourhoods are scattered sets, not blocks "
            f"({span('neighborhoods_that_are_blocks', scattered)} of {span('neighborhoods', scattered)} are; mean "
            f"distance within one {span('mean_distance_within_neighborhood', scattered)} steps)"
        )
    if not parts:
        return ""
    return "; ".join(parts) + ". The released TopoLM was trained on such a layout; the coordinates are kept as they are"


def _provenance(
    stored: Mapping[str, Any],
    checkpoint: str | Path,
    positions_folder: str | Path,
    facts: dict[str, Any],
    described: str,
) -> dict[str, Any]:
    files = [Path(checkpoint), *sorted(Path(positions_folder).glob("*.pkl"))]
    dropped = sorted(str(entry) for entry in stored if entry not in ("model", "model_args", "iter_num"))
    return {
        "format": "TopoLM, authors' checkpoint",
        "sha256": {file.name: sha256_of_file(file) for file in files},
        "model_args": {name: plain(value) for name, value in stored["model_args"].items()},
        "iter_num": plain(stored.get("iter_num")),
        "dropped": [*dropped, "neighborhood masks", "lm_head.weight (tied to transformer.wte.weight)"],
        "layout": facts,
        "layout_warning": described,
    }
