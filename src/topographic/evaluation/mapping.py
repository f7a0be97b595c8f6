"""`topo map`: the maps of a trained run, or of any Hugging Face model laid out on sheets."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from topographic.maps import MapSummary, summarize
from topographic.recording import IMAGE_POOLINGS, POOLINGS, record
from topographic.runs.folder import require_finished
from topographic.runs.loading import kind_of, load_model, sites_and_layout
from topographic.stimuli import CATEGORY_CONTRASTS, load_localizer

__all__ = ["CONTRASTS", "Contrast", "MapCommand", "check_words", "map_model"]


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
    """Record, contrast, test and store."""
    run = Path(command.run)
    require_finished(run)
    if command.out is None and not (run / "model").is_dir():
        raise ValueError(f"{command.run} is no run folder (it has no model/); say where the maps go: --out FOLDER")
    folder = Path(command.out) if command.out is not None else run / "maps"
    if _shows_images(command):
        from topographic.evaluation.image_mapping import map_images

        return map_images(command, folder)
    check_words(command, "language")
    model, tokenizer = load_model(command.run, command.tokenizer)
    sites, layout = sites_and_layout(model, command.run, command.sites, command.layout)
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
    """Refuse what a model of one kind cannot be asked for."""
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
    if kind_of(command.run) == "vision":
        return True
    asked = bool(command.contrasts and set(command.contrasts) & set(CATEGORY_CONTRASTS))
    return asked and not Path(command.run).exists()
