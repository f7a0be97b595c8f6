"""`topo map`: the maps of a trained run, or of any Hugging Face model laid out on sheets."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from topographic.maps import MapSummary, summarize
from topographic.recording import record
from topographic.sheets import LAYOUTS, Layout, Sheet
from topographic.stimuli import load_localizer

__all__ = ["CONTRASTS", "Contrast", "MapCommand", "load_model", "map_model", "sites_and_layout"]


class Contrast(NamedTuple):
    """Which of our stimulus sets, and which conditions of it are compared."""

    stimuli: str
    condition: str
    baseline: str


CONTRASTS = {
    "language": Contrast("language", "sentences", "nonwords"),
    "syntax": Contrast("language", "sentences", "words"),
    "nouns_verbs": Contrast("nouns_verbs", "noun", "verb"),
}


@dataclass(frozen=True)
class MapCommand:
    """Record a model's responses to contrasts and test their maps."""

    run: str
    """A run folder, or the name or folder of any Hugging Face causal model."""
    contrasts: list[str] = field(default_factory=lambda: ["language", "nouns_verbs"])
    """Which contrasts: language (sentences - nonword strings), syntax (sentences - word lists), nouns_verbs."""
    sites: str | list[str] | None = None
    """Wildcards over module names; by default the sheets a topographic model carries."""
    layout: Literal["grid", "permuted_grid"] = "grid"
    """Layout of sites for which the model carries no sheet."""
    fwhm_mm: float = 0.0
    """Gaussian readout before the contrast, full width at half maximum; 0 for none, 2 in the TopoLM paper."""
    n_draws: int = 200
    """Draws of each of the three nulls."""
    exchangeable: list[str] = field(default_factory=lambda: ["run"])
    """Labels are permuted only among items that agree in these: run, length, or a label column."""
    pooling: Literal["mean", "last", "sum"] = "mean"
    """How an item's tokens become one response."""
    batch_size: int = 32
    """Items per forward pass."""
    seed: int = 0
    """Seed of the nulls."""
    nulls: bool = True
    """Keep the null maps beside the maps, so that anything else can be tested on them later."""
    out: str | None = None
    """Folder for the maps; RUN/maps by default, needed for a model that is no run."""

    def __post_init__(self) -> None:
        """Refuse contrasts that do not exist."""
        unknown = [name for name in self.contrasts if name not in CONTRASTS]
        if unknown or not self.contrasts:
            raise ValueError(f"contrasts={self.contrasts}; expected one or more of {sorted(CONTRASTS)}")


def map_model(command: MapCommand) -> list[MapSummary]:
    """Record, contrast, test and store.

    Parameters
    ----------
    command : MapCommand
        What to map.

    Returns
    -------
    list of MapSummary
        One per contrast, also written to ``maps/<contrast>/``.
    """
    run = Path(command.run)
    if command.out is None and not (run / "model").is_dir():
        raise ValueError(f"{command.run} is no run folder (it has no model/); say where the maps go: --out FOLDER")
    folder = Path(command.out) if command.out is not None else run / "maps"
    model, tokenizer = load_model(command.run)
    sites, layout = sites_and_layout(model, command)
    summaries = []
    for name in command.contrasts:
        contrast = CONTRASTS[name]
        stimuli = load_localizer(contrast.stimuli)
        responses = record(
            model, tokenizer, stimuli, sites, layout, pooling=command.pooling, batch_size=command.batch_size
        )
        summary = summarize(
            responses,
            contrast.condition,
            contrast.baseline,
            fwhm_mm=command.fwhm_mm,
            n_draws=command.n_draws,
            exchangeable=command.exchangeable,
            seed=command.seed,
        )
        kept = summary.save(folder, nulls=command.nulls)
        stimuli.save(kept / "stimuli.json")
        print(f"{summary.contrast}: {kept}")
        summaries.append(summary)
    return summaries


def load_model(run: str | Path) -> tuple[Any, Any]:
    """Model and tokenizer of a run folder, or any Hugging Face causal model.

    Parameters
    ----------
    run : str or Path
        Run folder, model folder or hub name.

    Returns
    -------
    model, tokenizer
        The model in float32 and evaluation mode, on the accelerator if there is one.

    Raises
    ------
    ValueError
        If the run is not finished or the folder holds no model.
    """
    import torch
    from torch import nn
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from topographic.models import register

    register()
    run = Path(run)
    if run.is_dir() and not (run / "config.json").exists() and not (run / "model").is_dir():
        raise ValueError(f"{run} holds no model; finish its training first: topo train {run / 'config.yaml'} run={run}")
    source = str(run / "model") if (run / "model").is_dir() else str(run)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    model = nn.Module.to(model, "cuda" if torch.cuda.is_available() else "cpu")
    return model, AutoTokenizer.from_pretrained(source)


def sites_and_layout(model: Any, command: MapCommand) -> tuple[str | list[str], Layout | Mapping[str, Sheet]]:
    """Sites and layout a command asks for, or the sheets the model carries.

    Parameters
    ----------
    model : PreTrainedModel
        Any model.
    command : MapCommand
        With ``sites`` and ``layout``.

    Returns
    -------
    sites : str or list of str
        Names or wildcards.
    layout : callable or mapping
        As `record` takes it.

    Raises
    ------
    ValueError
        If the model carries no sheets and no sites are named.
    """
    if command.sites is not None:
        return command.sites, LAYOUTS[command.layout]
    sheets = model.sheets() if hasattr(model, "sheets") else {}
    if not sheets:
        raise ValueError(
            f"{type(model).__name__} carries no sheets; say which modules to lay out, for example "
            "sites='transformer.h.*.attn' layout=grid"
        )
    return list(sheets), sheets
