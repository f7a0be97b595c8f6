"""What was run, what was shown, and what repeats it, as words for the columns and lines of a page."""

import datetime
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from topographic.evaluation.wording import NOTHING, count, duration
from topographic.maps import MapSummary
from topographic.pages.render import link
from topographic.pages.run_folder import RunFolder
from topographic.pages.tables import Cells
from topographic.stimuli import StimulusSet

__all__ = ["examples", "files", "model_name", "repeat_commands", "trained", "versions_and_seeds", "what_was_run"]

_EXAMPLES = 4
_TERMS = {
    "smoothness": "the smoothness",
    "neighbor_weights": "like weights of neighbours",
    "neighbor_activations": "like responses of neighbours",
    "wiring": "the length of wires",
}


def trained(run: RunFolder) -> dict[str, str] | None:
    """The model, the weights of what makes it topographic, and how much of what it saw; None if not trained here."""
    weights = {term: (run.config.get(term) or {}).get("weight") for term in ("spatial", "smoothness")}
    seen = next((unit for unit in ("tokens", "images") if run.record.get(f"{unit}_seen") is not None), None)
    if weights["spatial"] is None or seen is None:
        return None
    corpus = run.record.get("corpus") or {}
    return {
        "model": model_name(run) or "a model",
        **{term: f"{weight:g}" if weight else "" for term, weight in weights.items()},
        "condition": _condition(run),
        "amount": f"{count(run.record[f'{seen}_seen'])} {seen}",
        "source": corpus.get("text") or corpus.get("images") or "its text",
    }


def model_name(run: RunFolder) -> str:
    """Name of a run's model."""
    recorded = (summary.provenance.get("recording") or {} for summary in run.summaries.values())
    name = run.record.get("model") or next((one["model"] for one in recorded if "model" in one), "")
    return name.removesuffix("ForCausalLM")


def what_was_run(runs: Sequence[RunFolder]) -> Cells:
    """Model, text, length and machine of every run."""
    facts = {run.name: _facts(run) for run in runs}
    names = [name for name in _facts(runs[0]) if any(column[name] for column in facts.values())]
    return Cells(["", *facts], [(name, *(column[name] or NOTHING for column in facts.values())) for name in names])


def _facts(run: RunFolder) -> dict[str, str]:
    """Names and values of one column; empty where the run does not say."""
    record, config = run.record, run.config
    parts = ("model", "spatial", "training")
    model, spatial, training = (config.get(part) or {} for part in parts)
    corpus = record.get("corpus") or {}
    tokens, documents = corpus.get("tokens") or {}, corpus.get("documents") or {}
    named = model.get("preset") and not run.makes_images  # whose shape is said otherwise
    preset = model.get("pretrained") or (f"preset {model['preset']}" if named else "")
    early, processes = record.get("stopped_early"), record.get("n_processes", 1)
    steps = f"{count(record.get('steps'))} of {count(training.get('max_steps'))}{', stopped early' if early else ''}"
    return {
        "model": _listed(model_name(run), preset),
        "told the class by": _condition(run),
        "parameters": count(record.get("n_parameters")),
        "weight of the spatial loss": f"{spatial['weight']:g}" if "weight" in spatial else "",
        **{
            f"weight of {name}": f"{section['weight']:g}" if (section := config.get(key) or {}).get("weight") else ""
            for key, name in _TERMS.items()
        },
        "text": _listed(corpus["text"], corpus.get("source")) if "text" in corpus else "",
        "images": _listed(corpus["images"], corpus.get("source")) if "images" in corpus else "",
        "licence": corpus.get("licence", ""),
        "training text": f"{count(tokens['train'])} tokens in {count(documents.get('train'))} documents"
        if tokens
        else "",
        "validation text": f"{count(tokens['validation'])} tokens" if tokens.get("validation") else "",
        "optimizer steps": steps if record.get("steps") is not None else "",
        "tokens seen": count(record["tokens_seen"]) if "tokens_seen" in record else "",
        "images seen": count(record["images_seen"]) if "images_seen" in record else "",
        "training time": duration(record.get("wall_time_s")),
        "finished": _finished(run) if record else "",
        "machine": _listed(record.get("device"), f"{processes} processes" if processes > 1 else ""),
    }


def _condition(run: RunFolder) -> str:
    """What tells a model that makes images the class; empty for others."""
    if not run.makes_images:
        return ""
    said = run.config["diffusion"]
    if said["condition"] == "regular":
        return "a table that starts at random"
    control = {"shuffled": " of other classes", "random": ", random ones"}.get(said.get("prototypes_as", ""), "")
    length = ", as long as random rows" if said.get("prototypes_scaled") else ""
    return f"{said['condition']} prototypes{control}{length}"


def _listed(*words: str | None) -> str:
    return ", ".join(word for word in words if word)


def _finished(run: RunFolder) -> str:
    """When, to the minute; how far training has come where it has not."""
    if run.status != "finished" or "finished" not in run.record:
        return run.status
    return datetime.datetime.fromisoformat(run.record["finished"]).strftime("%Y-%m-%d %H:%M %Z").strip()


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


def examples(shown: StimulusSet) -> dict[str, list[str]]:
    """Some items of every condition, spread over the whole list."""
    found = {}
    for condition in shown.condition_names:
        items = [item for item, own in zip(shown.items, shown.conditions, strict=True) if own == condition]
        found[condition] = items[:: max(1, len(items) // _EXAMPLES)][:_EXAMPLES]
    return found


def versions_and_seeds(run: RunFolder) -> dict[str, Any]:
    """Versions, seeds and checksums that are known."""
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


def files(run: RunFolder, place: Path) -> dict[str, dict[str, str]]:
    """Names and addresses, as seen from the page, of the files that are there."""

    def links(*patterns: str) -> dict[str, str]:
        found = [path for pattern in patterns for path in sorted(run.folder.glob(pattern))]
        return {path.relative_to(run.folder).as_posix(): link(path, place) for path in found}

    own = ("config.yaml", "run.json", "metrics.jsonl", "model", "maps/*/summary.json", "maps/*/stimuli.json")
    return {"files": links(*own), "maps": links("maps/*/*.safetensors")}
