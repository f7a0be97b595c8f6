"""An evaluation: a suite of analyses of a live model, kept part by part under keys that name all that decided them."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

import topographic
from topographic.evaluation.choices import Choices, Shown
from topographic.evaluation.mapping import kind_for
from topographic.evaluation.published_numbers import published_checksum
from topographic.evaluation.results import (
    Findings,
    NotMeasurable,
    Results,
    kept_key,
    load_findings,
    plain,
    save_findings,
)
from topographic.evaluation.subject import LanguageSubject, Subject, VisionSubject
from topographic.evaluation.suites import Part, Suite, suite_for
from topographic.evaluation.wording import counted
from topographic.objectives.config import SmoothnessConfig
from topographic.recording import find_sites, own_layout, suggested_sites
from topographic.runs.loading import sites_and_layout
from topographic.runs.own_sheets import OwnSections, own_sections, own_weight_sheets, smooth_sites
from topographic.sheets import LAYOUTS, Layout, Sheet
from topographic.storage import code_version, locked
from topographic.training.config import ImageConfig

__all__ = ["evaluate", "evaluate_subject", "subject_of"]

_EVERYTHING = Choices()


def evaluate(
    model: Any,
    reader: PreTrainedTokenizerBase | Callable[[Any], Any],
    *,
    suite: str = "topolm",
    quick: bool = False,
    folder: str | Path | None = None,
    sites: str | Sequence[str] | None = None,
    layout: str | Layout | Mapping[str, Sheet] | None = None,
    run: str | Path | None = None,
    progress: bool = True,
    **choices: Any,
) -> Results:
    """Measure a model in memory as a paper does, without the faults of its scripts, beside the published numbers.

    Parameters
    ----------
    model, reader, suite, sites, layout, run
        As in `subject_of`.
    quick : bool
        Few draws, one lesion, few sequences: a look, not a result.
    folder : str or Path, optional
        Where each part is kept as soon as it is finished, as in `evaluate_subject`; nothing is written by default.
    progress : bool
        Show which part is being measured.
    **choices
        Fields of `Choices` (``n_draws``, ``lesion_draws``, ``seed`` ...) and of `Shown` (``pairs``, ``text``,
        ``n_images`` ...).

    Returns
    -------
    Results
        The findings of every part by its name: ``results["lesions"].to_frame()``, ``results.save(folder)``.

    Raises
    ------
    TypeError
        If a choice does not exist.
    ValueError
        As `subject_of` and `evaluate_subject`.

    Examples
    --------
    >>> results = evaluate(model, tokenizer, suite="topolm", quick=True)  # doctest: +SKIP
    >>> results["lesions"].to_frame()  # doctest: +SKIP
    """
    fields_of = {of: {entry.name for entry in fields(of)} for of in (Choices, Shown)}
    unknown = sorted(set(choices) - fields_of[Choices] - fields_of[Shown])
    if unknown:
        known = ", ".join(sorted(fields_of[Choices] | fields_of[Shown]))
        raise TypeError(f"evaluate has no choice {unknown[0]!r}; expected some of {known}")
    chosen = Choices(quick=quick, **{name: choices[name] for name in fields_of[Choices] & set(choices)})
    subject = subject_of(
        model,
        reader,
        suite=suite,
        sites=sites,
        layout=layout,
        run=run,
        cache_folder=None if folder is None else Path(folder) / "networks",
        seed=chosen.seed,
        **{name: choices[name] for name in fields_of[Shown] & set(choices)},
    )
    return evaluate_subject(subject, suite, chosen, folder=folder, progress=progress)


def evaluate_subject(
    subject: Subject,
    suite: str = "topolm",
    choices: Choices = _EVERYTHING,
    *,
    folder: str | Path | None = None,
    progress: bool = True,
) -> Results:
    """`evaluate` of a subject that is made already: its parts, kept in a folder if there is one.

    Parameters
    ----------
    subject : LanguageSubject or VisionSubject
        A model in memory, its sheets, and what it is shown (`subject_of`).
    suite : {"topolm", "toponets", "topoformer", "brain", "layout"}
        What to measure.
    choices : Choices
        With which numbers.
    folder : str or Path, optional
        Where to keep each part as soon as it is finished. A part that lies there is taken from there, if all that
        decided it is as it was: its code, the weights, what reads for the model, the sheets, what was shown, every
        choice it reads. Other settings replace it when the new one is finished, and not before.
    progress : bool
        Show which part is being measured, and what is read for it.

    Returns
    -------
    Results
        The findings of every part; with a folder as they lie there, without figures and null maps. A part that cannot
        be measured says why in its notes.

    Raises
    ------
    ValueError
        If the suite is for another kind of model, nothing can be measured with what is shown, or lesions are to be
        filled with responses that are summed over tokens.
    HeldElsewhereError
        If another process writes to the folder.

    Examples
    --------
    >>> results = evaluate_subject(subject_of(model, tokenizer), "topolm", Choices(quick=True))  # doctest: +SKIP
    >>> results["lesions"].to_frame()  # doctest: +SKIP
    """
    found = suite_for(subject.kind, suite, subject.source)
    subject = replace(subject, progress=progress)  # a copy knows nothing of weights that have since changed
    chosen = choices.as_measured()
    wanted = {name: part for name, part in found.parts.items() if not _is_left_out(part, subject)}
    if not wanted:
        needed = sorted({str(part.option) for part in found.parts.values()})
        raise ValueError(f"suite={suite!r} has nothing to measure; give {' or '.join(f'{one}=...' for one in needed)}")
    if "lesions" in wanted and chosen.lesion_mode != "zero" and subject.shown.pooling == "sum":
        raise ValueError(
            f"pooling='sum' with lesion_mode={chosen.lesion_mode!r}: what takes the place of a unit's activity has the "
            "scale of one token; use pooling='mean' or 'last', or lesion_mode='zero'"
        )
    material = subject.material()
    keys = {name: _key(subject, suite, name, part, chosen, material) for name, part in wanted.items()}
    parts: dict[str, Findings] = {}
    replaced: dict[str, str] = {}
    with contextlib.nullcontext() if folder is None else locked(folder):
        bar = tqdm(wanted.items(), desc="evaluate", unit="part", disable=None if progress else True)
        for name, part in bar:
            bar.set_postfix_str(name)
            kept = None if folder is None else load_findings(Path(folder) / name, keys[name])
            parts[name] = _measure(name, part, subject, chosen) if kept is None else kept
            if folder is not None and kept is None:
                place = Path(folder) / name
                before = kept_key(place)
                save_findings(place, parts[name], keys[name])
                parts[name] = load_findings(place, keys[name]) or parts[name]
                replaced |= {} if before is None else {name: _difference(before, keys[name])}
        lead = _lead(subject, found, choices)
        results = Results(suite, lead, parts, keys, _record(subject, suite, choices, material), replaced)
        if folder is not None:
            results.save_record(folder)
    return results


def subject_of(
    model: Any,
    reader: PreTrainedTokenizerBase | Callable[[Any], Any],
    *,
    suite: str = "topolm",
    sites: str | Sequence[str] | None = None,
    layout: str | Layout | Mapping[str, Sheet] | None = None,
    run: str | Path | None = None,
    cache_folder: str | Path | None = None,
    seed: int = 0,
    **shown: Any,
) -> LanguageSubject | VisionSubject:
    """A model that can be evaluated: its sites and their sheets, and what it is shown.

    Parameters
    ----------
    model
        Any Hugging Face causal model, or classifier of images; for the suite topoformer also one of masked words or of
        texts.
    reader : tokenizer or callable
        The tokenizer of a language model; how images become what a vision model takes (`Preparation`).
    suite : {"topolm", "toponets", "topoformer", "brain", "layout"}
        For which suite: some look at sites of their own where none are named.
    sites : str or sequence of str, optional
        Which modules to record, as `find_sites` takes them; by default the sheets that the model carries, or those its
        run names, or those of the suite.
    layout : str, callable or mapping, optional
        Where units of modules lie for which the model carries no sheet: "grid" by default, or as its run says.
    run : str or Path, optional
        The run folder that the model comes from, whose ``config.yaml`` says what it was trained with; or its name.
    cache_folder : str or Path, optional
        Where networks are kept.
    seed : int
        Chooses the images that a vision model is shown.
    **shown
        Fields of `Shown`: what it is shown, pooling, batch size.

    Returns
    -------
    LanguageSubject or VisionSubject
        What `evaluate_subject` takes.

    Raises
    ------
    ValueError
        If no sites are named and nobody says which there are, or nothing can be shown.

    Examples
    --------
    >>> subject_of(model, tokenizer, sites="transformer.h.*.attn", text="passages.txt")  # doctest: +SKIP
    """
    of = LanguageSubject if kind_for(reader) == "language" else VisionSubject
    chosen = suite_for(of.kind, suite, str(run or ""))
    sections = OwnSections() if run is None else own_sections(run)
    own = sections.smoothness
    weight_sheets = [] if own is None else own_weight_sheets(model, own)
    remarks = []
    if str(run).endswith(".gguf"):
        remarks.append("Its weights are numbers of few bits, read from a .gguf file.")
    if sites is not None:
        wanted = find_sites(model, sites if isinstance(sites, str) else list(sites))
        weight_sheets = [one for one in weight_sheets if one.sites in wanted]
    elif chosen.sites is not None and any(one.kind != "input" for one in weight_sheets):
        remarks.append("The layers are the run's own: those its config.yaml names in the section smoothness.")
    where, placed = _sites_and_layout(model, chosen, own, sites, layout, run)
    about = {"model": model, "sites": where, "layout": placed, "weight_sheets": tuple(weight_sheets)}
    about |= {"source": str(run or ""), "remarks": tuple(remarks)}
    if of is VisionSubject:
        return VisionSubject(
            **about, prepare=reader, shown=_with_own_images(Shown(**shown), sections.images), seed=seed
        )
    folder = None if cache_folder is None else Path(cache_folder)
    return LanguageSubject(**about, tokenizer=reader, shown=Shown(**shown), cache_folder=folder)


def _sites_and_layout(
    model: Any,
    suite: Suite,
    own: SmoothnessConfig | None,
    sites: str | Sequence[str] | None,
    layout: str | Layout | Mapping[str, Sheet] | None,
    run: str | Path | None,
) -> tuple[str | Sequence[str], Layout | Mapping[str, Sheet]]:
    """What is named, or what a suite looks at: layers the run makes smooth or watches, or those of the paper."""
    named = own_layout(model, LAYOUTS[layout or "grid"]) if layout is None or isinstance(layout, str) else layout
    if sites is not None:
        return sites, named
    if suite.sites is not None:
        smooth = None if own is None else smooth_sites(model, own)
        if smooth is None:
            return suite.sites(model), named
        return smooth if layout is None else (smooth[0], named)
    sheets = model.sheets() if hasattr(model, "sheets") else {}
    if not sheets and run is None:  # of no run, and nobody says
        raise ValueError(
            f"{type(model).__name__} carries no sheets; say which modules to lay out, for example "
            f"sites={suggested_sites(model)!r}"
        )
    where, placed = (list(sheets), sheets) if sheets else sites_and_layout(model, str(run))
    return where, placed if sheets or layout is None else named


def _with_own_images(shown: Shown, own: ImageConfig | None) -> Shown:
    """With the images that a run was trained on, where no others are named."""
    if own is None or own.name is None:
        return shown
    folders = {**({own.name: own.folder} if own.folder else {}), **(shown.image_folders or {})}
    return replace(shown, test_set=shown.test_set or own.name, image_folders=folders or None)


def _measure(name: str, part: Part, subject: Subject, choices: Choices) -> Findings:
    try:
        return part.measure(subject, choices)
    except NotMeasurable as reason:
        return Findings(name.replace("_", " ").capitalize(), "", notes=[f"Not measured: {reason}."])


def _is_left_out(part: Part, subject: Subject) -> bool:
    return part.option is not None and getattr(subject.shown, part.option) is None


def _key(
    subject: Subject, suite: str, name: str, part: Part, choices: Choices, material: Mapping[str, str]
) -> dict[str, Any]:
    """Everything the numbers of a part depend on."""
    there = {**material, "published": published_checksum(f"{suite}_{subject.kind}")}
    key = {
        "part": name,
        "code": code_version(part.measure.__module__),
        **subject.identity,
        "pooling": subject.shown.pooling,
        "sites": list(subject.sheets),
        "sheets": {site: sheet.checksum for site, sheet in subject.sheets.items()},
        "choices": {choice: getattr(choices, choice) for choice in part.choices},
        "material": {role: there[role] for role in part.material if role in there},
    }
    return plain(key)


def _difference(before: Mapping[str, Any], key: Mapping[str, Any]) -> str:
    """Why a part was measured again."""
    if not before:
        return "made by an earlier version"
    changed = [name for name in key if name not in ("choices", "material") and before.get(name) != key[name]]
    for within in ("choices", "material"):
        old, new = before.get(within, {}), key[within]
        changed += [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return f"{', '.join(changed)} changed" if changed else "a file of it was gone"


def _record(subject: Subject, suite: str, choices: Choices, material: Mapping[str, str]) -> dict[str, Any]:
    asked = {"run": subject.source, "suite": suite, **asdict(subject.shown), **asdict(choices)}
    return {**subject.identity, "version": topographic.__version__, "material": dict(material), "command": asked}


def _lead(subject: Subject, suite: Suite, choices: Choices) -> str:
    """Of which model, and what to know when reading it."""
    sizes = sorted({sheet.n_units for sheet in subject.sheets.values()})
    is_published = any("published" in part.material for part in suite.parts.values())
    left_out = [f"{name} (--{part.option})" for name, part in suite.parts.items() if _is_left_out(part, subject)]
    sentences = [
        f"{type(subject.model).__name__}, weights {subject.identity['weights'][:12]}, "
        f"{counted(len(subject.sheets), 'sheet')} of {' or '.join(map(str, sizes))} units, {subject.in_words()}.",
        *subject.remarks,
        f"Not measured, because not asked for: {', '.join(left_out)}." if left_out else "",
        f"{'Published numbers are those of' if is_published else 'Measures after'} {suite.paper}.",
        "A quick look: few draws, so p values are coarse." if choices.quick else "",
    ]
    return " ".join(filter(None, sentences))
