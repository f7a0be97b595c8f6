"""`topo map`: the maps of a trained run, or of any Hugging Face model laid out on sheets."""

import importlib.util
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from topographic.cli.own_sheets import own_sections, trained_sites
from topographic.maps import MapSummary, summarize
from topographic.recording import IMAGE_POOLINGS, POOLINGS, record
from topographic.sheets import LAYOUTS, Layout, Sheet
from topographic.stimuli import CATEGORY_CONTRASTS, load_localizer
from topographic.training.folders import require_finished

__all__ = [
    "CONTRASTS",
    "Contrast",
    "MapCommand",
    "check_words",
    "load_model",
    "load_tokenizer",
    "map_model",
    "sites_and_layout",
]


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
DEFAULT_CONTRASTS = ("language", "nouns_verbs")
# by the kind of model: contrasts, poolings, and what the others are for
_WORDS: dict[str, tuple[Collection[str], Collection[str], str]] = {
    "language": (CONTRASTS, POOLINGS, "images"),
    "vision": (CATEGORY_CONTRASTS, IMAGE_POOLINGS, "texts"),
}


@dataclass(frozen=True)
class MapCommand:
    """Record a model's responses to contrasts and test their maps."""

    run: str
    """A run folder, or the name, folder or .gguf file of any Hugging Face causal model; or a vision model's."""
    contrasts: list[str] | None = None
    """Which contrasts: language (sentences - nonword strings), syntax (sentences - word lists), nouns_verbs; by default
    language and nouns_verbs. Of a vision model: faces, objects, characters, animals, vehicles (each against the rest),
    faces-objects, animate-inanimate, and "scrambled faces" and so on; by default faces, animate-inanimate and these two
    of scrambled images."""
    sites: list[str] | str | None = None
    """Wildcard over module names, or several in brackets; by default the sheets a topographic model carries, or those
    that its run names (spatial.sites, else smoothness.sites and sheets), or the layers of a vision model that TopoNets
    lays on sheets."""
    layout: Literal["grid", "permuted_grid"] | None = None
    """Layout of sites for which the model carries no sheet; by default as the run was trained with, or grid where sites
    are named here."""
    fwhm_mm: float = 0.0
    """Gaussian readout before the contrast, full width at half maximum; 0 for none, 2 in the TopoLM paper."""
    n_draws: int = 200
    """Draws of each of the three nulls."""
    exchangeable: list[str] = field(default_factory=lambda: ["run"])
    """Labels are permuted only among items that agree in these: run, length, or a label column."""
    pooling: Literal["mean", "last", "sum", "max", "class"] = "mean"
    """How an item's tokens become one response: mean, last or sum; of an image's places mean, max, or class token."""
    batch_size: int = 32
    """Items per forward pass."""
    seed: int = 0
    """Seed of the nulls."""
    nulls: bool = True
    """Keep the null maps beside the maps, so that anything else can be tested on them later."""
    tokenizer: str | None = None
    """Name or folder of a tokenizer, for a model that has none beside it."""
    n_images: int = 80
    """Images of each category, for a vision model."""
    image_folders: dict[str, str] | None = None
    """For mnist, fashion_mnist, cifar10 and orl_faces, folders of their files in place of the packages."""
    out: str | None = None
    """Folder for the maps; RUN/maps by default, needed for a model that is no run."""

    def __post_init__(self) -> None:
        """Refuse contrasts that do not exist."""
        unknown = [name for name in self.contrasts or () if name not in (*CONTRASTS, *CATEGORY_CONTRASTS)]
        if unknown or self.contrasts == []:
            raise ValueError(
                f"contrasts={self.contrasts}; expected one or more of {sorted(CONTRASTS)}, or of images, "
                f"{sorted(CATEGORY_CONTRASTS)}"
            )


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
    require_finished(run)
    if command.out is None and not (run / "model").is_dir():
        raise ValueError(f"{command.run} is no run folder (it has no model/); say where the maps go: --out FOLDER")
    folder = Path(command.out) if command.out is not None else run / "maps"
    if _shows_images(command):
        from topographic.cli.image_maps import map_images

        return map_images(command, folder)
    check_words(command, "language")
    model, tokenizer = load_model(command.run, command.tokenizer)
    sites, layout = sites_and_layout(model, command)
    summaries = []
    for name in command.contrasts or DEFAULT_CONTRASTS:
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


def check_words(command: MapCommand, kind: Literal["language", "vision"]) -> None:
    """Refuse what a model of one kind cannot be asked for.

    Parameters
    ----------
    command : MapCommand
        What to map.
    kind : {"language", "vision"}
        What the model is.

    Raises
    ------
    ValueError
        If a contrast or the pooling is one of the other kind.
    """
    contrasts, poolings, others = _WORDS[kind]
    for name in command.contrasts or ():
        if name not in contrasts:
            raise ValueError(
                f"{command.run} is a {kind} model and {name!r} a contrast of {others}; expected some of "
                f"{', '.join(contrasts)}"
            )
    if command.pooling not in poolings:
        raise ValueError(f"pooling={command.pooling!r} is for {others}; a {kind} model takes {', '.join(poolings)}")


def _shows_images(command: MapCommand) -> bool:
    """Whether it is a vision model: by its folder, or by the contrasts of one that is on the hub."""
    from topographic.cli.image_maps import is_vision_model

    if is_vision_model(command.run):
        return True
    asked = bool(command.contrasts and set(command.contrasts) & set(CATEGORY_CONTRASTS))
    return asked and not Path(command.run).exists()


def load_model(run: str | Path, tokenizer: str | None = None) -> tuple[Any, Any]:
    """Model and tokenizer of a run folder, or any Hugging Face causal model.

    Parameters
    ----------
    run : str or Path
        Run folder, model folder, hub name, or a .gguf file of a kind that transformers can read.
    tokenizer : str, optional
        Name or folder of a tokenizer, for models that have none beside them.

    Returns
    -------
    model, tokenizer
        The model in float32 and evaluation mode, on the accelerator if there is one. Weights of a .gguf file are
        de-quantized: they are numbers of few bits, kept in many.

    Raises
    ------
    ValueError
        If the run is not finished, the folder holds no model, the model has no tokenizer, or the tokenizer knows more
        tokens than the model.
    FileNotFoundError, ImportError
        If the .gguf file is not there, or the extra that reads it is missing.
    """
    import torch
    from torch import nn
    from transformers import AutoModelForCausalLM

    from topographic.models import register

    register()
    run = Path(run)
    if run.is_dir() and not (run / "config.json").exists() and not (run / "model").is_dir():
        raise ValueError(f"{run} holds no model; finish its training first: topo train {run / 'config.yaml'} run={run}")
    source = str(run / "model") if (run / "model").is_dir() else str(run)
    options: dict[str, Any] = {}
    if run.suffix == ".gguf":
        _require_gguf(run)
        source, options = str(run.parent), {"gguf_file": run.name}
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, **options).eval()
    found = load_tokenizer(tokenizer, model.config.vocab_size) if tokenizer else load_tokenizer(source, **options)
    return nn.Module.to(model, "cuda" if torch.cuda.is_available() else "cpu"), found


def load_tokenizer(source: str, n_tokens: int | None = None, **options: Any) -> Any:
    """A tokenizer, perhaps one that has to fit a model it does not come with.

    Parameters
    ----------
    source : str
        Name or folder of the tokenizer, or the folder of the model that it should lie in.
    n_tokens : int, optional
        How many tokens the model knows, for a tokenizer that does not come with it.
    **options
        For ``AutoTokenizer.from_pretrained``.

    Returns
    -------
    PreTrainedTokenizerBase
        The tokenizer.

    Raises
    ------
    ValueError
        If there is none, or it knows more tokens than the model.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
    except (OSError, ValueError, KeyError) as error:  # what is raised depends on which files are missing
        raise ValueError(
            f"no tokenizer can be read from {source} ({' '.join(str(error).split())[:120]} ...); name the one that the "
            "model was trained with: --tokenizer FOLDER_OR_NAME"
        ) from error
    if n_tokens is not None and len(tokenizer) > n_tokens:
        raise ValueError(
            f"tokenizer {source} knows {len(tokenizer)} tokens and the model {n_tokens}; give the one it was trained "
            "with"
        )
    return tokenizer


def _require_gguf(file: Path) -> None:
    if not file.is_file():
        raise FileNotFoundError(f"no file at {file}; expected a model in GGUF format")
    missing = [name for name in ("gguf", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"reading {file.name} needs {' and '.join(missing)}; run `pip install 'topographic[gguf]'`")


def sites_and_layout(
    model: Any, command: MapCommand, default: Callable[[Any], list[str]] | None = None
) -> tuple[str | list[str], Layout | Mapping[str, Sheet]]:
    """Sites and layout a command asks for, or the sheets the model carries, or those its run was trained with.

    Parameters
    ----------
    model : PreTrainedModel
        Any model.
    command : MapCommand
        With ``run``, ``sites`` and ``layout``.
    default : callable, optional
        Sites of a model for which nobody says.

    Returns
    -------
    sites : str or list of str
        Names or wildcards.
    layout : callable or mapping
        As `record` takes it.

    Raises
    ------
    ValueError
        If no sites are named, the model carries no sheets, its run names none and there is no default.
    """
    named = LAYOUTS[command.layout or "grid"]
    if command.sites is not None:
        return command.sites, named
    sheets = model.sheets() if hasattr(model, "sheets") else {}
    if sheets:
        return list(sheets), sheets
    own = trained_sites(model, own_sections(command.run))
    if own is not None:
        return own if command.layout is None else (own[0], named)
    if default is not None:
        return default(model), named
    raise ValueError(
        f"{type(model).__name__} carries no sheets; say which modules to lay out, for example "
        "sites='transformer.h.*.attn' layout=grid"
    )
