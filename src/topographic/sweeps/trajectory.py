"""How a model grows: every checkpoint of every series measured once, one table, and what goes with what."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from topographic.evaluation.results import Findings, NotMeasurable, Picture, Table, plain, save_findings, save_table
from topographic.plots.trajectory_figures import Course, draw_courses
from topographic.storage import code_version, digest, load_json, locked, save_json
from topographic.sweeps.curve_statistics import Curves, compare_explained, interval_over_series
from topographic.sweeps.series import Checkpoint, Series
from topographic.sweeps.trajectory_parts import PARTS, Watched, has_sheets, measure_part, shown_material, subject_at

__all__ = ["measure_trajectories"]

_THIS = "topographic.sweeps.trajectory_parts"
_FORMAL, _NEXT = "accuracy on minimal pairs", "next-word accuracy"
_READING, _SENTENCES, _TOPOGRAPHY = "reading gain (nats per 1,000 words)", "sentence averages r", "I"
_DRAWN = (_READING, _SENTENCES, _FORMAL, _NEXT, "perplexity", _TOPOGRAPHY, "overlap with last")
_OVER_SEEDS = (*_DRAWN, "unit null", "overlap with previous", "SyntaxGym")


class _Measured(NamedTuple):
    """A checkpoint and what was found."""

    series: Series
    checkpoint: Checkpoint
    identity: Mapping[str, Any]
    found: Mapping[str, Mapping[str, Any]]


def measure_trajectories(
    series: Sequence[Series],
    folder: str | Path,
    watched: Watched | None = None,
    *,
    n_bootstrap: int = 1999,
    progress: bool = True,
) -> tuple[str, dict[str, Findings]]:
    """Measure every checkpoint that is not measured yet, and write tables and figures of all.

    Parameters
    ----------
    series : sequence of Series
        As `series_of` returns them.
    folder : str or Path
        Where each part of each checkpoint is kept, and ``trajectory.csv`` and ``.md``, a row per checkpoint.
    watched : Watched
        What is shown, and with which numbers it is measured.
    n_bootstrap : int
        Draws of the block bootstrap over checkpoints.
    progress : bool
        Show which checkpoint is being measured.

    Returns
    -------
    lead : str
        What was done.
    parts : dict of str to Findings
        For `write_findings`, each kept in ``folder/collected``.

    Raises
    ------
    ValueError
        If two checkpoints of one series differ in architecture or tokenizer.
    OSError
        If a checkpoint cannot be read; what was measured before it is kept.

    Examples
    --------
    >>> measure_trajectories(series_of(["runs/small-0"]), "runs/trajectory")  # doctest: +SKIP
    """
    watched, folder = watched or Watched(), Path(folder)
    watched = replace(watched, choices=watched.choices.as_measured())
    with locked(folder):
        points = [(one, point) for one in series for point in _with_control(one, watched.choices.seed)]
        material = shown_material(watched)  # read once: it does not depend on the model
        measured: list[_Measured] = []
        first: dict[str, Mapping[str, Any]] = {}
        for one, point in tqdm(points, desc="trajectory", unit="checkpoint", disable=None if progress else True):
            done = _measure(one, point, watched, material, folder / "kept")
            _refuse_another_kind(done, first.setdefault(one.name, done.identity))
            measured.append(done)
        rows = [row for one in series for row in _rows([entry for entry in measured if entry.series is one], watched)]
        return _collect(folder, series, rows, watched, n_bootstrap)


def _with_control(series: Series, seed: int) -> Iterator[Checkpoint]:
    yield Checkpoint(series.checkpoints[0].source, None, seed)
    yield from series.checkpoints


def _measure(
    series: Series, point: Checkpoint, watched: Watched, material: Mapping[str, str], folder: Path
) -> _Measured:
    """Load the checkpoint only if a part of it is missing."""
    loaded: list[Any] = []

    def subject() -> Any:
        if not loaded:
            loaded.append(subject_at(*point.load(), series, watched))
        return loaded[0]

    identity = _identity(series, point, subject, folder)
    found = {}
    for name, part in PARTS.items():
        if not part.wanted(watched.shown, identity["has_sheets"]):
            continue
        decided = {
            "code": code_version(_THIS),
            "part": name,
            **identity,
            "pooling": watched.shown.pooling,
            "choices": {choice: getattr(watched.choices, choice) for choice in part.choices},
            "material": {role: material[role] for role in part.material if role in material},
        }
        file = folder / identity["weights"][:16] / f"{name}-{digest(plain(decided))[:16]}.json"
        if not file.is_file():
            save_json(file, {"decided_by": plain(decided), "found": measure_part(name, subject(), watched.choices)})
        found[name] = load_json(file)["found"]
    return _Measured(series, point, identity, found)


def _identity(series: Series, point: Checkpoint, subject: Callable[[], Any], folder: Path) -> dict[str, Any]:
    """Checksums of the model, its tokenizer and sheets; noted by the checksums of its files, where it has files."""
    files = point.files()
    run = None if series.run is None else (series.run / "config.yaml").read_text(encoding="utf-8")
    file = folder / "models" / f"{digest([code_version(_THIS), files, run])[:24]}.json"
    if files is not None and file.is_file():
        return load_json(file)
    own = subject()
    sheets = {site: sheet.checksum for site, sheet in own.sheets.items()}
    n_parameters = sum(one.numel() for one in own.model.parameters())
    made = {**own.identity, "sheets": sheets, "has_sheets": has_sheets(own), "n_parameters": n_parameters}
    if files is not None:
        save_json(file, made)
    return made


def _refuse_another_kind(done: _Measured, first: Mapping[str, Any]) -> None:
    for name, word in (("architecture", "another architecture"), ("tokenizer", "another tokenizer")):
        if done.identity[name] != first[name]:
            raise ValueError(
                f"{done.checkpoint.source} has {word} than the first checkpoint of {done.series.name}; expected one "
                "model at several times: make two series of them"
            )


def _rows(measured: Sequence[_Measured], watched: Watched) -> list[dict[str, Any]]:
    """One row per checkpoint of a series, its untrained weights first."""
    maps = [{site: np.array(t, dtype=float) for site, t in one.found["localizer"]["t"].items()} for one in measured]
    flat = [np.concatenate(list(one.values())) for one in maps]
    n_units = flat[0].size
    k = min(watched.n_units, max(1, n_units // 10))
    chosen = [_top(one, k) for one in flat]
    fixed = chosen[-1]
    draw = np.random.default_rng(watched.choices.seed)
    drawn = draw.permutation(n_units)[:k]
    rows = []
    for place, one in enumerate(measured):
        found = one.found
        row: dict[str, Any] = {
            "series": one.series.name,
            "group": one.series.group,
            "checkpoint": one.checkpoint.name,
            "tokens": one.checkpoint.tokens,
            "parameters": one.identity["n_parameters"],
            **{name: found["text"].get(name) for name in ("perplexity", _NEXT)},
        }
        overall = found["pairs"].get("overall", {})
        row |= {
            _FORMAL: overall.get("accuracy"),
            "low (pairs)": overall.get("low"),
            "high (pairs)": overall.get("high"),
        }
        row |= {f"pairs: {name}": entry["accuracy"] for name, entry in found["pairs"].get("phenomena", {}).items()}
        if "syntaxgym" in found and (suites := [v for v in found["syntaxgym"].values() if isinstance(v, float)]):
            row["SyntaxGym"] = float(np.mean(suites))
        row |= found.get("topography", {})
        row |= _brain(found)
        row |= {
            "units": len(chosen[place]),
            # the first row is of untrained weights, which come before no checkpoint
            "overlap with previous": _dice(chosen[place], chosen[place - 1]) if place > 1 else None,
            "overlap with last": _dice(chosen[place], fixed),
            "overlap by chance": k / n_units,
            "t of units chosen here": float(np.nanmean(flat[place][chosen[place]])) if len(chosen[place]) else None,
            "t of units chosen at the last": float(np.nanmean(flat[place][fixed])) if len(fixed) else None,
            "t of random units": float(np.nanmean(flat[place][drawn])),
        }
        rows.append(row)
    return rows


def _top(t: np.ndarray, k: int) -> np.ndarray:
    """The k units of the largest t, as far as it is positive."""
    order = np.argsort(-np.where(np.isnan(t), -np.inf, t), kind="stable")[:k]
    return order[t[order] > 0]


def _dice(first: np.ndarray, second: np.ndarray) -> float | None:
    both = len(first) + len(second)
    return 2 * len(np.intersect1d(first, second)) / both if both else None


def _brain(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Means over corpora and measures; every one of them is among what is kept."""
    row: dict[str, Any] = {}
    gain = "gain (nats per 1,000 words)"
    gains = found.get("reading", {}).get("rows", [])
    for title, source in {_READING: "this model", "reading gain, untrained": "untrained weights"}.items():
        values = [one[gain] for one in gains if one["surprisal"] == source and one[gain] is not None]
        row |= {title: float(np.mean(values))} if values else {}
    scores = [one for one in found.get("sentences", {}).get("rows", []) if one["r"] is not None]
    kinds = {
        "sentence averages r, untrained": lambda name: name.startswith("untrained"),
        "sentence averages r, random tokens": lambda name: name.startswith("random tokens"),
        "sentence averages r, embedding layer": lambda name: name.startswith("embedding layer, last"),
        "sentence averages r, length and position": lambda name: name == "length and position",
    }
    own = [
        one["r"]
        for one in scores
        if "last token" in one["features"] and not any(is_it(one["features"]) for is_it in kinds.values())
    ]
    row |= {_SENTENCES: float(np.mean(own))} if own else {}
    for title, is_it in kinds.items():
        values = [one["r"] for one in scores if is_it(one["features"])]
        row |= {title: float(np.mean(values))} if values else {}
    return row


def _collect(
    folder: Path, series: Sequence[Series], rows: list[dict[str, Any]], watched: Watched, n_bootstrap: int
) -> tuple[str, dict[str, Findings]]:
    table = Table(
        "trajectory",
        "Every checkpoint",
        rows,
        "overlap: Dice of the units chosen at two checkpoints, by chance the share of units chosen. Units are chosen "
        "and their t is taken on the same items, so that t of units chosen at the last is inflated there and not "
        "elsewhere.",
        ("series", "checkpoint"),
    )
    over = Table(
        "over_seeds",
        "Over seeds",
        _over_seeds(rows),
        "low, high: 95 % interval of Student's t over seeds; none of a single one.",
        ("group", "tokens"),
    )
    relations, notes = _relations(series, rows, n_bootstrap, watched.choices.seed)
    explained = Table(
        "relations",
        "What goes with what",
        relations,
        "R2 within each series over its checkpoints, mean over series; 95 % intervals by moving blocks of a quarter of "
        "the checkpoints. Curves that rise together share much whatever drives them: the difference says which is "
        "followed more closely.",
        ("group", "explained"),
    )
    notes += _missing(rows, watched)
    figure = draw_courses({
        name: [
            Course(one.name, one.group, tokens, values)
            for one in series
            for tokens, values in [_curve(one, rows, name)]
            if len(values)
        ]
        for name in _DRAWN
        if any(row.get(name) is not None for row in rows)
    })
    pictures = [
        Picture(
            "trajectory",
            "What grows with training",
            figure,
            "Thick lines: means over seeds; thin: single series. Open circles at the left: untrained weights.",
            headline=True,
        )
    ]
    for one in (table, over, explained):
        save_table(folder, one)
    found = Findings(
        "Trajectories", "A row per checkpoint, and means over seeds.", [over, explained, table], pictures, notes
    )
    save_findings(folder / "collected" / "trajectory", found, {})
    save_json(folder / "trajectory.json", {"watched": plain(asdict(watched)), "series": [one.name for one in series]})
    lead = (
        f"{len(rows)} checkpoints of {len(series)} series, each measured alone: nothing was trained or tuned here. "
        "Everything in full: trajectory.csv, over_seeds.csv, relations.csv."
    )
    return lead, {"collected/trajectory": found}


def _curve(series: Series, rows: Sequence[Mapping[str, Any]], name: str) -> tuple[list[int | None], list[float]]:
    """A number over the tokens of a series, untrained weights first."""
    own = [row for row in rows if row["series"] == series.name and row.get(name) is not None]
    return [row["tokens"] for row in own], [row[name] for row in own]


def _over_seeds(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    made = []
    for group, checkpoint, tokens in dict.fromkeys((row["group"], row["checkpoint"], row["tokens"]) for row in rows):
        same = [row for row in rows if (row["group"], row["checkpoint"]) == (group, checkpoint)]
        line: dict[str, Any] = {"group": group, "checkpoint": checkpoint, "tokens": tokens, "series": len(same)}
        for name in dict.fromkeys(_OVER_SEEDS):
            values = [row[name] for row in same if row.get(name) is not None]
            if values:
                mean, low, high = interval_over_series(np.array(values, dtype=float))
                line |= {name: mean, f"low ({name})": low, f"high ({name})": high}
        made.append(line)
    return made


def _relations(
    series: Sequence[Series], rows: Sequence[Mapping[str, Any]], n_draws: int, seed: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """R2 on formal competence and on next-word prediction, of whatever was measured of alignment and topography."""
    made, notes = [], []
    for group in dict.fromkeys(one.group for one in series):
        for explained in (_READING, _SENTENCES, _TOPOGRAPHY):
            names = (explained, _FORMAL, _NEXT)
            curves = []
            for one in series:
                own = [row for row in rows if row["series"] == one.name and row["tokens"] is not None]
                if one.group == group and own and all(row.get(name) is not None for row in own for name in names):
                    curves.append(Curves(*(np.array([row[name] for row in own], dtype=float) for name in names)))
            if not curves:
                continue
            try:
                found = compare_explained(curves, n_draws=n_draws, seed=seed)
            except NotMeasurable as reason:
                notes.append(f"{group}, {explained}: no comparison of R2 ({reason}).")
                continue
            line: dict[str, Any] = {"group": group, "explained": explained, "series": found.n_series}
            line |= {"checkpoints": found.n_checkpoints, "block": found.block}
            titles = {f"R2 on {_FORMAL}": found.first, f"R2 on {_NEXT}": found.second, "difference": found.difference}
            for title, three in titles.items():
                line |= dict(zip((title, f"low ({title})", f"high ({title})"), three, strict=True))
            made.append({**line, "p": found.p})
    return made, notes


def _missing(rows: Sequence[Mapping[str, Any]], watched: Watched) -> list[str]:
    """What could be measured and was not, by name."""
    notes = ["Functional competence: not measured (tasks of lm-evaluation-harness are no part of this command)."]
    if watched.shown.data is None:
        notes.append("Reading times, potentials and averages of fMRI: not measured: data not given (data=FOLDER).")
    if watched.shown.syntaxgym is None:
        notes.append("SyntaxGym: not measured: no suites given (syntaxgym=FOLDER).")
    if watched.shown.text is None:
        notes.append(
            "Perplexity and next-word accuracy are of the good sentences of the minimal pairs; give text=FILE."
        )
    if not all(row.get("I") is not None for row in rows):
        notes.append("Topography: not measured where a model has no sheets.")
    return notes
