"""What was run, what was shown, and what repeats it."""

import datetime
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from topographic.evaluation.wording import NOTHING, count, duration, number, p_value
from topographic.maps import MapSummary
from topographic.pages.markup import Html, missing, table, tag
from topographic.pages.run_folder import RunFolder
from topographic.pages.tables import settings_table
from topographic.stimuli import StimulusSet

__all__ = ["caveats", "contrast_text", "repeat_commands", "sides", "stimuli_text", "version_text", "what_was_run"]

_EXAMPLES = 4


def what_was_run(runs: Sequence[RunFolder]) -> Html:
    """Model, text, length, machine and commands of every run, and in what the runs differ."""
    facts = {run.name: _facts(run) for run in runs}
    names = list(dict.fromkeys(name for column in facts.values() for name in column))
    said = [name for name in names if any(facts[run.name][name] for run in runs)]
    rows = [(name, *(facts[run.name][name] or NOTHING for run in runs)) for name in said]
    differing = settings_table(
        {run.name: _comparable(run) for run in runs}, caption="Settings in which the runs differ", differing=True
    )
    parts = [table(["", *(run.name for run in runs)], rows)]
    unfinished = [run for run in runs if run.record.get("status") != "finished"]
    parts += [
        missing(f"{run.name} has not finished training; this goes on with it:", f"topo train {run.word}/config.yaml")
        for run in unfinished
        if run.config
    ]
    if len(runs) > 1:
        parts.append(differing or tag("p", "The settings of the runs do not differ.", class_="note"))
    parts += [tag("h3", "Commands that repeat it"), tag("pre", "\n".join(repeat_commands(runs)))]
    return Html("".join(parts))


def _facts(run: RunFolder) -> dict[str, str]:
    """Names and values of one column; empty where the run does not say."""
    record, config = run.record, run.config
    parts = ("model", "spatial", "smoothness", "training")
    model, spatial, smoothness, training = (config.get(part) or {} for part in parts)
    corpus = record.get("corpus") or {}
    tokens, documents = corpus.get("tokens") or {}, corpus.get("documents") or {}
    preset = model.get("pretrained") or (f"preset {model['preset']}" if model.get("preset") else "")
    name = ", ".join(part for part in (model_name(run), preset) if part)
    seen, planned = record.get("steps"), training.get("max_steps")
    early = ", stopped early" if record.get("stopped_early") else ""
    return {
        "model": name,
        "parameters": count(record.get("n_parameters")),
        "weight of the spatial loss": f"{spatial['weight']:g}" if "weight" in spatial else "",
        "weight of the smoothness": f"{smoothness['weight']:g}" if smoothness.get("weight") else "",
        "text": ", ".join(part for part in (corpus["text"], corpus.get("source")) if part) if "text" in corpus else "",
        "images": f"{corpus['images']}, {corpus.get('source', '')}" if "images" in corpus else "",
        "licence": corpus.get("licence", ""),
        "training text": f"{count(tokens['train'])} tokens in {count(documents.get('train'))} documents"
        if tokens
        else "",
        "validation text": f"{count(tokens['validation'])} tokens" if tokens.get("validation") else "",
        "optimizer steps": f"{count(seen)} of {count(planned)}{early}" if seen is not None else "",
        "tokens seen": count(record["tokens_seen"]) if "tokens_seen" in record else "",
        "images seen": count(record["images_seen"]) if "images_seen" in record else "",
        "training time": duration(record.get("wall_time_s")),
        "finished": _moment(record["finished"]) if "finished" in record else record.get("status", ""),
        "machine": _machine(record),
    }


def model_name(run: RunFolder) -> str:
    """Name of a run's model."""
    recorded = (summary.provenance.get("recording") or {} for summary in run.summaries.values())
    name = run.record.get("model") or next((one["model"] for one in recorded if "model" in one), "")
    return name.removesuffix("ForCausalLM")


def _moment(text: str) -> str:
    """An ISO time to the minute."""
    return datetime.datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M %Z").strip()


def _machine(record: Mapping[str, Any]) -> str:
    processes = record.get("n_processes", 1)
    return f"{record.get('device', '')}{f', {processes} processes' if processes > 1 else ''}"


def _comparable(run: RunFolder) -> dict[str, Any]:
    """The configuration without the name of the folder, which always differs."""
    return {key: value for key, value in run.config.items() if key not in ("run", "overwrite")}


def repeat_commands(runs: Sequence[RunFolder]) -> list[str]:
    """Commands that train, map and report again, in folders of their own."""
    lines, copies = [], []
    for run in runs:
        copies.append(shlex.quote(f"{run.folder}-again"))
        lines += [f"topo train {run.word}/config.yaml run={copies[-1]}"] if run.config else []
        mapped: dict[str, list[str]] = {}
        for contrast, summary in run.summaries.items():
            mapped.setdefault(_map_settings(summary), []).append(contrast)
        lines += [f"topo map {copies[-1]} {words}  # {', '.join(names)}" for words, names in mapped.items()]
    return [*lines, f"topo report {' '.join(copies)}"]


def _map_settings(summary: MapSummary) -> str:
    """What `topo map` was told."""
    given = summary.provenance
    words = [f"fwhm_mm={given['fwhm_mm']:g}", f"n_draws={given['n_draws']}", f"seed={given['seed']}"]
    if "exchangeable" in given:
        words.append(f"exchangeable=[{','.join(given['exchangeable'])}]")
    pooling = (given.get("recording") or {}).get("pooling")
    words += [f"pooling={pooling}"] if pooling else []
    return " ".join(map(shlex.quote, words))


def sides(summary: MapSummary, between: str) -> str:
    """Both sides of a contrast in words."""
    return between.join(" and ".join(summary.provenance[side]) for side in ("condition", "baseline"))


def contrast_text(summary: MapSummary) -> Html:
    """One paragraph: what was compared, and how."""
    given = summary.provenance
    first, second = (" and ".join(given[side]) for side in ("condition", "baseline"))
    readout = (
        f"through a Gaussian readout of {given['fwhm_mm']:g} mm FWHM" if given["fwhm_mm"] else "without any smoothing"
    )
    within = " and ".join(given.get("exchangeable") or []) or "nothing"
    draws = f" Each null has {given['n_draws']} draws (seed {given['seed']}); labels were exchanged within {within}."
    return tag(
        "p",
        f"Each unit's responses to {given['n_condition']} items ({first}) are compared with those to "
        f"{given['n_baseline']} items ({second}) by Welch's t, {readout}. Red units prefer {first}, blue units "
        f"prefer {second}.",
        draws if given["n_draws"] else " No nulls were drawn.",
    )


def stimuli_text(summary: MapSummary, shown: StimulusSet | None, *, run: RunFolder) -> Html:
    """Where the stimuli come from, with examples of every condition."""
    given = summary.provenance
    lengths = given.get("n_tokens")
    about = f"Stimulus set {given['stimuli']['name']} (checksum {given['stimuli']['checksum'][:12]})."
    if lengths:
        first, second = (" and ".join(given[side]) for side in ("condition", "baseline"))
        about += (
            f" An item has {number(lengths['condition'], 1)} tokens on average in {first} and "
            f"{number(lengths['baseline'], 1)} in {second} (p {p_value(lengths['p'], sign=True)})."
        )
    if shown is None:
        lacking = (
            f"The items themselves were not kept with {run.name} (maps/{summary.contrast}/stimuli.json). Map again:"
        )
        return Html(tag("p", about) + missing(lacking, f"topo map {run.word}"))
    parts = (shown.source, f"Licence: {shown.licence}" if shown.licence else "")
    origin = " ".join(f"{part.rstrip('.')}." for part in parts if part)
    blocks = [
        tag("div", tag("h4", f"{condition} ({shown.conditions.count(condition)} items)"), _examples(shown, condition))
        for condition in shown.condition_names
    ]
    return Html(tag("p", f"{about} {origin}") + tag("div", *blocks, class_="panels"))


def _examples(shown: StimulusSet, condition: str) -> Html:
    """Some items of a condition, spread over the whole list."""
    items = [item for item, own in zip(shown.items, shown.conditions, strict=True) if own == condition]
    chosen = items[:: max(1, len(items) // _EXAMPLES)][:_EXAMPLES]
    return tag("ul", *(tag("li", item) for item in chosen))


def caveats(runs: Sequence[RunFolder], summaries: Sequence[MapSummary]) -> Html:
    """What the page cannot say."""
    sentences = []
    if len(runs) > 1:
        sentences.append(
            "Every run is one training with one seed. The references say whether one map could be chance; they do not "
            "say how far two trainings differ by chance. A comparison of models takes several seeds of each."
        )
    if any(summary.provenance["n_draws"] for summary in summaries):
        fewest = min(summary.provenance["n_draws"] for summary in summaries if summary.provenance["n_draws"])
        sentences.append(
            f"With {fewest} draws no p can be smaller than {p_value(1 / (fewest + 1))}; the p of single sheets are not "
            "corrected for the number of sheets."
        )
    sentences += [
        "t and the share of significant units grow with the number of items. Cohen's d does not, and says how strong "
        "the preference of a unit is.",
        "A contrast separates its conditions by anything in which they differ: length, frequency and familiarity of "
        "the words as well as what its name says.",
        "Effective dimensionality and correlation against distance describe the responses to these stimuli, and can be "
        "compared only between models that saw the same ones.",
    ]
    return tag("ul", *(tag("li", sentence) for sentence in sentences))


def version_text(runs: Sequence[RunFolder], place: Path) -> Html:
    """Versions, seeds, checksums, and links to the files."""
    columns = {run.name: _versions_and_seeds(run) for run in runs}
    recorded = settings_table(columns, caption="From run.json, config.yaml and the maps")
    return Html("".join([recorded or "", *(tag("h3", f"Files of {run.name}") + _links(run, place) for run in runs)]))


def _versions_and_seeds(run: RunFolder) -> dict[str, Any]:
    record, model = run.record, run.config.get("model") or {}
    corpus = record.get("corpus") or {}
    found = {f"version of {name}": version for name, version in (record.get("versions") or {}).items()}
    commit, changed, _ = (record.get("git_commit") or "").partition("+")
    found["git commit"] = commit[:12] + (" with changes" if changed else "")
    found |= {f"seed of {name}": seed for name, seed in (record.get("seeds") or {}).items()}
    found |= {"seed of initial weights": model.get("seed"), "seed of layout": model.get("layout_seed")}
    found |= {f"seed of nulls, {name}": summary.provenance["seed"] for name, summary in run.summaries.items()}
    found |= {f"SHA-256 of {what}": corpus.get(f"{what}_sha256", "")[:16] for what in ("text", "tokenizer")}
    found["resumed at step"] = ", ".join(str(one["step"]) for one in record.get("resumed") or [])
    return {name: entry for name, entry in found.items() if entry not in (None, "")}


def _links(run: RunFolder, place: Path) -> Html:
    """Links to what is there, relative to the page."""

    def links(*patterns: str) -> Html:
        found = [path for pattern in patterns for path in sorted(run.folder.glob(pattern))]
        targets = {path: quote(os.path.relpath(path, place).replace(os.sep, "/")) for path in found}
        anchors = [tag("a", path.relative_to(run.folder).as_posix(), href=target) for path, target in targets.items()]
        return tag("ul", *(tag("li", anchor) for anchor in anchors), class_="files")

    files = links("config.yaml", "run.json", "metrics.jsonl", "model", "maps/*/summary.json", "maps/*/stimuli.json")
    maps = links("maps/*/*.safetensors")
    return Html(files + tag("details", tag("summary", "maps, one file per sheet"), maps))
