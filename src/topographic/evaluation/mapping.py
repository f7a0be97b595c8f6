"""The maps of a live model: what it is shown, how that is recorded and tested, and what is kept under which key."""

import contextlib
import functools
import json
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

import numpy as np
from transformers import PreTrainedTokenizerBase

from topographic.evaluation.choices import LANGUAGE_CONTRASTS, ContrastChoices, MapChoices
from topographic.maps.clusters import cluster_mass_test
from topographic.maps.contrasts import Conditions, contrast_name
from topographic.maps.summary import MapSummary, summarize
from topographic.recording.checksum import weights_checksum
from topographic.recording.images import IMAGE_POOLINGS, low_level_responses, record_images
from topographic.recording.preparation import Preparation
from topographic.recording.record import POOLINGS, record
from topographic.recording.responses import Responses
from topographic.recording.sites import unwrapped
from topographic.sheets import Layout, Sheet
from topographic.stimuli.categories import category_images
from topographic.stimuli.category_contrasts import CATEGORY_CONTRASTS
from topographic.stimuli.image_stimuli import ImageStimuli
from topographic.stimuli.localizers import load_localizer
from topographic.stimuli.stimulus_set import StimulusSet
from topographic.storage import code_version, digest, disk_errors, load_json, locked, publish_folder, save_json
from topographic.training.text.tokenizer import tokenizer_checksum

__all__ = [
    "KINDS",
    "Contrast",
    "Mapped",
    "ModelKind",
    "check_choices",
    "decided_by",
    "is_kept",
    "kind_for",
    "make_maps",
    "map_folder",
    "parse_contrast",
    "save_maps",
    "stimuli_with",
]

ModelKind = Literal["language", "vision"]
_CLUSTER_T = 3.0  # forms clusters; chosen before anything was looked at


class Contrast(NamedTuple):
    """Which stimulus set, and which conditions of it are compared."""

    stimuli: str
    condition: Conditions
    baseline: Conditions

    @property
    def name(self) -> str:
        """What its folder is called."""
        return contrast_name(self.condition, self.baseline)


class Mapped(NamedTuple):
    """The maps of one contrast: measured just now, or found where they were kept."""

    summary: MapSummary
    folder: Path | None
    decided_by: Mapping[str, Any]
    was_there: bool = False
    changed: str = ""  # what decided otherwise about maps that were replaced
    low_level: MapSummary | None = None


def make_maps(
    model: Any,
    reader: Any,
    kind: ModelKind,
    sites: str | list[str],
    layout: Layout | Mapping[str, Sheet],
    choices: MapChoices,
    folder: str | Path | None = None,
    *,
    contrast: str | None = None,
    stimuli: StimulusSet | ImageStimuli | None = None,
    tell: Callable[[Mapped], None] = lambda _: None,
) -> list[MapSummary]:
    """Show a model contrasts, test the maps of its units and, in a folder, keep them.

    Parameters
    ----------
    model : nn.Module
        Any torch or Hugging Face model.
    reader : PreTrainedTokenizerBase or callable
        What the model reads with: the tokenizer of a language model, the preparation of a vision model's images.
    kind : {"language", "vision"}
        What it is shown.
    sites : str or list of str
        Which modules, as `find_sites` takes them.
    layout : callable or mapping
        Layout of the sites, or the sheet of each.
    choices : MapChoices
        Which maps, and how they are tested.
    folder : str or Path, optional
        Where they are kept: ``folder/<contrast>/`` with ``summary.json``, ``stimuli.json`` and one file per site, of
        images also ``clusters.json`` and ``low_level/``. Maps that are there and were decided by the same code,
        weights, reader, sheets, stimuli and choices are taken as they are; others are replaced as a whole.
    contrast : str, optional
        A contrast of one's own in place of those of the choices, by its conditions: "a-b", "a+b-c".
    stimuli : StimulusSet or ImageStimuli, optional
        What is shown for it; by default the set of the library that has these conditions.
    tell : callable, optional
        Told what became of every contrast (`Mapped`) as soon as it is there.

    Returns
    -------
    list of MapSummary
        One per contrast.

    Raises
    ------
    ValueError
        If the model cannot be asked for a choice, or as `record`, `record_images` and `summarize` say.
    FileExistsError
        If a contrast's folder holds files that are no maps.
    HeldElsewhereError
        If another process writes to the folder.

    Examples
    --------
    >>> summaries = make_maps(model, tokenizer, "language", "transformer.h.*.mlp", grid, MapChoices())  # doctest: +SKIP
    """
    check_choices(choices, kind, type(model).__name__)
    if contrast is None and stimuli is not None:
        raise ValueError("stimuli are given without a contrast; expected one of their conditions, such as 'a-b'")
    known, summaries, checksums = KINDS[kind], [], {}
    hear = functools.partial(known.record, pooling=choices.pooling, batch_size=choices.batch_size)
    wanted, own = [known.contrasts[name] for name in choices.contrasts or known.defaults], {}
    if contrast is not None:
        given = stimuli_with(contrast, kind, choices) if stimuli is None else stimuli
        items = _items_of(given)
        wanted, own = [Contrast(items.name, *parse_contrast(contrast, items))], {items.name: given}
    show = functools.cache(lambda name: own[name] if name in own else known.show(name, choices))
    heard = functools.cache(lambda name: hear(model, reader, show(name), sites, layout))
    for one in wanted:
        shown = show(one.stimuli)
        items = _items_of(shown)
        if not checksums:
            two = hear(model, reader, shown.take([0, 1]), sites, layout, progress=False)
            sheets = digest({site: heard_at.sheet.checksum for site, heard_at in two.items()})
            checksums = {**_architecture(model), **known.identify(reader), "sheets": sheets}
        decided = decided_by(checksums, items.checksum, one, choices)
        target = None if folder is None else map_folder(folder, one)
        with contextlib.nullcontext() if folder is None else locked(folder):
            if target is not None and is_kept(target, decided):
                made = Mapped(MapSummary.load(target), target, decided, was_there=True)
            else:
                changed = "" if target is None else _changed(target, decided)
                summary = _summary(heard(one.stimuli), one, choices, choices.fwhm_mm)
                low_level = _summary(known.low_level(shown), one, choices) if known.low_level else None
                made = Mapped(summary, target, decided, changed=changed, low_level=low_level)
                save_maps(made, items, choices)
        tell(made)
        summaries.append(made.summary)
    return summaries


def kind_for(reader: Any) -> ModelKind:
    """What a model is shown, by what reads for it."""
    return "language" if isinstance(reader, PreTrainedTokenizerBase) else "vision"


def parse_contrast(name: str, stimuli: StimulusSet) -> tuple[list[str], list[str]]:
    """Conditions on either side of a contrast's name, the inverse of `contrast_name`; names may hold a hyphen."""
    there = set(stimuli.condition_names)
    for place in (place for place, letter in enumerate(name) if letter == "-"):
        sides = [[one.strip() for one in side.split("+")] for side in (name[:place], name[place + 1 :])]
        if all(one in there for side in sides for one in side):
            return sides[0], sides[1]
    raise ValueError(
        f"contrast={name!r} names no two sides of {stimuli.name!r}, whose conditions are "
        f"{', '.join(stimuli.condition_names)}; expected CONDITION-BASELINE, several of them joined with +"
    )


def stimuli_with(
    contrast: str | Collection[str], kind: ModelKind, choices: ContrastChoices
) -> StimulusSet | ImageStimuli:
    """The set of the library that has these conditions, or those that a contrast's name is made of."""
    known = KINDS[kind]
    told = {}
    for name in dict.fromkeys(one.stimuli for one in known.contrasts.values()):
        shown = known.show(name, choices)
        items = _items_of(shown)
        told[name] = items.condition_names
        if isinstance(contrast, str):
            with contextlib.suppress(ValueError):
                parse_contrast(contrast, items)
                return shown
        elif set(contrast) <= set(items.condition_names):
            return shown
    asked = contrast if isinstance(contrast, str) else ", ".join(map(repr, contrast))
    sets = "; ".join(f"{name} ({', '.join(conditions)})" for name, conditions in told.items())
    raise ValueError(
        f"no stimulus set that ships has the conditions {asked}; there are {sets}: give stimuli= of your own"
    )


def _items_of(shown: StimulusSet | ImageStimuli) -> StimulusSet:
    return shown.stimuli if isinstance(shown, ImageStimuli) else shown


def check_choices(choices: ContrastChoices, kind: ModelKind, source: str | Path) -> None:
    """Refuse what a model of one kind cannot be asked for."""
    known = KINDS[kind]
    for name in choices.contrasts or ():
        if name not in known.contrasts:
            raise ValueError(
                f"{source} is a {kind} model and {name!r} a contrast of {known.others}; expected some of "
                f"{', '.join(known.contrasts)}"
            )
    if choices.pooling not in known.poolings:
        raise ValueError(
            f"pooling={choices.pooling!r} is for {known.others}; a {kind} model takes {', '.join(known.poolings)}"
        )


def map_folder(folder: str | Path, contrast: Contrast) -> Path:
    """Where a contrast's maps lie in a folder of maps."""
    return Path(folder) / quote(contrast.name, safe=" +")


def decided_by(
    model: Mapping[str, str], stimuli_checksum: str, contrast: Contrast, choices: MapChoices
) -> dict[str, Any]:
    """Everything that the maps of a contrast depend on; of the model the checksums that `make_maps` takes."""
    chosen = {name: getattr(choices, name) for name in _CHOICES} | {"fwhm_mm": float(choices.fwhm_mm)}
    made_with = {"code": code_version(__name__), "model": dict(model), "stimuli": stimuli_checksum}
    sides = {"condition": contrast.condition, "baseline": contrast.baseline}
    return json.loads(json.dumps({**made_with, **sides, **chosen}))


def is_kept(target: Path, decided: Mapping[str, Any]) -> bool:
    """Whether a contrast's folder holds all maps that are decided by just this."""
    if not (target / "summary.json").is_file():
        return False
    content = load_json(target / "summary.json")
    return content.get("key") == digest(decided) and len(list(target.glob("*.safetensors"))) == len(content["rows"])


def _changed(target: Path, decided: Mapping[str, Any]) -> str:
    """What decided otherwise about the maps that are there; nothing where there are none."""
    if not (target / "summary.json").is_file():
        if target.exists() and any(target.iterdir()):
            raise FileExistsError(f"{target} holds files that are no maps; move them, or choose another folder")
        return ""
    content = load_json(target / "summary.json")
    if "decided_by" not in content:
        return "they do not say what decided them"
    before, now = ({**made["model"], **made} for made in (content["decided_by"], decided))
    others = [name for name in now if name != "model" and before.get(name) != now[name]]
    words = [f"{name} was {before.get(name)} and is {now[name]}" for name in others if name in _CHOICES]
    return ", ".join([*words, *(f"other {name}" for name in others if name not in _CHOICES)]) or "files were missing"


def _summary(
    responses: Mapping[str, Responses], contrast: Contrast, choices: MapChoices, fwhm_mm: float = 0.0
) -> MapSummary:
    options = {"n_draws": choices.n_draws, "exchangeable": choices.exchangeable, "seed": choices.seed}
    return summarize(responses, contrast.condition, contrast.baseline, fwhm_mm=fwhm_mm, **options)


def save_maps(made: Mapped, stimuli: StimulusSet, choices: MapChoices) -> None:
    """Write a contrast's folder beside its place; nothing of an older one stays."""
    if made.folder is None:
        return
    with disk_errors(made.folder):
        made.folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(".partial", f".{made.folder.name}.", made.folder.parent) as staging:
            kept = made.summary.save(staging, nulls=choices.nulls)
            stimuli.save(kept / "stimuli.json")
            if made.low_level is not None:
                made.low_level.save(kept / "low_level", nulls=choices.nulls)
                if choices.n_draws:
                    save_json(kept / "clusters.json", _clusters(made.summary))
            key = {"key": digest(made.decided_by), "decided_by": made.decided_by}
            save_json(kept / "summary.json", {**made.summary.to_json(), **key})
            publish_folder(kept, made.folder)


def _clusters(summary: MapSummary) -> dict[str, Any]:
    numbers = ("n_units", "mass", "peak_unit", "peak_value", "p_mass", "p_size")
    found: dict[str, Any] = {"threshold": _CLUSTER_T}
    tests = cluster_mass_test(summary.maps, threshold=_CLUSTER_T, sign="both")
    for sign in ("positive", "negative"):
        found[sign] = [
            {
                "site": test.selection.site,
                **{name: getattr(test, name) for name in numbers},
                "units": np.flatnonzero(test.selection.mask).tolist(),
            }
            for test in tests
            if (test.peak_value > 0) == (sign == "positive")
        ]
    return found


def _architecture(model: Any) -> dict[str, str]:
    """Weights, and what they do not say: heads, activations, the code of a model of ours."""
    inner: Any = unwrapped(model)
    config = json.loads(inner.config.to_json_string()) if hasattr(inner, "config") else {}
    kept = {key: entry for key, entry in config.items() if key not in _NOT_ARCHITECTURE}
    code = code_version(type(inner).__module__) if type(inner).__module__.startswith("topographic.") else ""
    return {"architecture": digest([type(inner).__name__, kept, code]), "weights": weights_checksum(inner)}


def _preparation(prepare: Callable[[np.ndarray], Any]) -> dict[str, str]:
    """One of ours by its numbers, any other by what it makes of one picture."""
    if isinstance(prepare, Preparation):
        return {"preparation": digest(prepare.to_json())}
    picture = (np.arange(1024) % 251).astype(np.uint8).reshape(1, 32, 32, 1)
    return {"preparation": digest(np.asarray(prepare(picture)).tolist())}


class Kind(NamedTuple):
    """What tells the maps of language models from those of vision models."""

    contrasts: Mapping[str, Contrast]
    defaults: tuple[str, ...]
    poolings: Collection[str]
    others: str  # what the contrasts and poolings of the other kind are for
    show: Callable[[str, ContrastChoices], Any]
    record: Callable[..., Mapping[str, Responses]]
    identify: Callable[[Any], dict[str, str]]  # what the model reads with
    low_level: Callable[[Any], Mapping[str, Responses]] | None = None  # the same contrasts before any model


# differ between a model and what is loaded from its folder, or between versions; weights have their dtype themselves
_NOT_ARCHITECTURE = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version")
_CHOICES = ("fwhm_mm", "n_draws", "exchangeable", "pooling", "batch_size", "seed", "nulls")
KINDS: dict[ModelKind, Kind] = {
    "language": Kind(
        contrasts={name: Contrast(*about) for name, about in LANGUAGE_CONTRASTS.items()},
        defaults=("language", "nouns_verbs"),
        poolings=POOLINGS,
        others="images",
        show=lambda stimuli, _: load_localizer(stimuli),
        record=record,
        identify=lambda tokenizer: {"tokenizer": tokenizer_checksum(tokenizer)},
    ),
    "vision": Kind(
        contrasts={name: Contrast("categories", *sides) for name, sides in CATEGORY_CONTRASTS.items()},
        defaults=("faces", "animate-inanimate", "scrambled faces", "scrambled animate-inanimate"),
        poolings=IMAGE_POOLINGS,
        others="texts",
        show=lambda _, choices: category_images(choices.n_images, folders=choices.image_folders, seed=choices.seed),
        record=lambda model, prepare, images, *where, **options: record_images(
            model, images, *where, prepare=prepare, **options
        ),
        identify=_preparation,
        low_level=low_level_responses,
    ),
}
