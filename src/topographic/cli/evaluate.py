"""`topo evaluate`: everything a paper measures, on a trained run or on any Hugging Face model."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from topographic.evaluation.choices import Choices, Shown

if TYPE_CHECKING:
    from topographic.evaluation.results import Results

__all__ = ["EvaluateCommand", "evaluate", "evaluation_folder"]


@dataclass(frozen=True)
class _Run:  # a base of its own, so that the run comes first and the others declare their fields once
    run: str
    """A run folder, or the name, folder or .gguf file of any Hugging Face causal model; or of a classifier of
    images, for the suite toponets."""


@dataclass(frozen=True)
class EvaluateCommand(Choices, Shown, _Run):
    """Measure a model as the papers do, without the faults of their scripts, beside the published numbers."""

    suite: Literal["topolm", "toponets", "topoformer", "brain", "layout"] = "topolm"
    """What to measure; topolm: language network, clusters, profiles, word classes, minimal pairs, lesions; toponets:
    smooth weights and responses, dimensionality, pruning and downsampling, selectivity; integration windows of language
    models; topoformer: topographic statistic, eight linguistic suites and principal components of queries, keys, values
    and outputs, with data= also components shared with potentials; brain: potentials and reading times of the corpora
    in data, word by word, and recordings of Brain-Score; layout: what the sheets of a layout, or any others, are worth:
    order, reliability (other_layout), regions found in a text, lesions, steering."""
    sites: list[str] | str | None = None
    """Wildcard over module names, or several in brackets; by default the sheets a topographic model carries, or those
    its run names; for the suite toponets the layers whose weights its run makes smooth or watches (smoothness.sites and
    sheets, also of a control), else the first layer of every MLP, or the convolutions of a ResNet."""
    layout: Literal["grid", "permuted_grid"] | None = None
    """Layout of sites for which the model carries no sheet; by default as the run was trained with, or grid where sites
    are named here."""
    tokenizer: str | None = None
    """Name or folder of a tokenizer, for a model that has none beside it."""
    out: str | None = None
    """Folder for the evaluation; RUN/evaluation, or RUN/evaluation_SUITE, by default, needed for a model that is no
    run."""

    def __post_init__(self) -> None:
        """Refuse what nothing can be measured with."""
        Choices.__post_init__(self)
        Shown.__post_init__(self)

    def part(self, of: type) -> dict[str, Any]:
        """The fields that it shares with one of these."""
        return {entry.name: getattr(self, entry.name) for entry in fields(of)}


def evaluate(command: EvaluateCommand) -> Path:
    """Measure every part that is not there yet, then write the page."""
    print(f"reading {command.run}", flush=True)  # first of all: torch takes seconds to load
    from topographic.evaluation.evaluating import evaluate as measure
    from topographic.evaluation.suites import suite_for
    from topographic.layouts import is_layout
    from topographic.pages.findings import write_findings
    from topographic.runs.folder import require_finished
    from topographic.runs.loading import kind_of, load_model, load_vision_model

    run = Path(command.run)
    require_finished(run)
    kind = kind_of(command.run)  # says first of all that a source is not there
    if command.out is None and not ((run / "model").is_dir() or is_layout(run)):
        raise ValueError(f"{command.run} is no run folder (it has no model/); say where results go: --out FOLDER")
    folder = Path(command.out) if command.out is not None else run / evaluation_folder(command.suite)
    suite_for(kind, command.suite, command.run)
    model, reader = load_vision_model(command.run) if kind == "vision" else load_model(command.run, command.tokenizer)
    results = measure(
        model,
        reader,
        suite=command.suite,
        folder=folder,
        sites=command.sites,
        layout=command.layout,
        run=command.run,
        **command.part(Choices),
        **command.part(Shown),
    )
    replace(results, record={**results.record, "command": asdict(command)}).save_record(folder)
    if results.replaced:
        print(f"replaced in {folder}: {_by_reason(results.replaced)}")
    title = f"Evaluation of {run.resolve().name if run.exists() else command.run}"
    _, page = write_findings(folder, title, results.lead, results)
    for line in headlines(results):
        print(line)
    print(page)
    is_run = (run / "model").is_dir()
    print("next: " + (f"topo report {shlex.quote(command.run)}" if is_run else f"open {page}"))
    return page


def headlines(results: "Results") -> list[str]:
    """The three numbers of a suite that one looks at first, each as its table shows it."""
    from topographic.evaluation.results import cell_text

    lines = []
    for name in _FIRST[results.suite]:
        shown = [one for one in results[name].tables if one.rows and one.headline] if name in results else []
        if not shown:
            continue
        table, row = shown[0], shown[0].rows[0]
        about = ", ".join(str(row[key]) for key in table.keys if row.get(key) is not None)
        cells = [f"{key} {cell_text(key, row[key])}" for key in table.headline if row.get(key) is not None]
        lines.append(f"{results[name].title}" + (f" ({about})" if about else "") + f": {', '.join(cells[:3])}")
    return lines[:3]


# by suite, the parts whose first row comes first
_FIRST = {
    "topolm": ("clusters", "minimal_pairs", "lesions", "network"),
    "toponets": ("smoothness", "dimensionality", "compression", "selectivity"),
    "topoformer": ("topography", "components", "suites"),
    "brain": ("word_surprisal", "word_encoding", "response_assemblies", "sentence_averages"),
    "layout": ("layout_order", "found_regions", "patch_steering", "patch_lesions"),
}


def evaluation_folder(suite: str) -> str:
    """Name of the folder of an evaluation in its run."""
    return "evaluation" if suite == "topolm" else f"evaluation_{suite}"


def _by_reason(replaced: Mapping[str, str]) -> str:
    """Parts that were replaced for one reason stand together."""
    parts: dict[str, list[str]] = {}
    for name, reason in replaced.items():
        parts.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(names)} ({reason})" for reason, names in parts.items())
