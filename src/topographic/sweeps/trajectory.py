"""How a model grows: every checkpoint of every series measured once, one table, and what goes with what."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from topographic.behaviour import FUNCTIONAL_TASKS
from topographic.evaluation.results import Findings, NotMeasurable, Picture, Table, plain, save_findings, save_table
from topographic.evaluation.word_readings import CONTROLS, EMBEDDING
from topographic.plots.trajectory_figures import Course, Growth, draw_courses, draw_growth
from topographic.storage import code_version, digest, load_json, locked, save_json
from topographic.sweeps.checkpoint_brain import RANDOM_TOKENS, UnitSets
from topographic.sweeps.curve_statistics import Curves, compare_explained, interval_over_series, relation_end
from topographic.sweeps.series import Checkpoint, Series
from topographic.sweeps.trajectory_parts import (
    PARTS,
    Asked,
    Watched,
    has_sheets,
    measure_part,
    shown_material,
    subject_at,
)

__all__ = ["measure_trajectories"]

_THIS = "topographic.sweeps.trajectory_parts"
_PAIRS, _FORMAL, _FUNCTIONAL = "accuracy on minimal pairs", "formal competence", "functional competence"
_NEXT, _READING, _TOPOGRAPHY = "next-word accuracy", "reading gain (nats per 1,000 words)", "I"
_HERE, _LAST, _RANDOM, _UNTRAINED = "localized here", "localized at the last", "random units", "untrained"
_RANDOM_DRAWS = 5
_POTENTIALS, _SENTENCES = "potentials r", "sentence averages r"
_ALIGNMENT = {"potentials": _POTENTIALS, "sentence averages": _SENTENCES}
_EXPLAINED = (_POTENTIALS, _READING, _SENTENCES, _TOPOGRAPHY)
_DRAWN = (_PAIRS, "SyntaxGym", "perplexity", _SENTENCES, "unit null", "overlap with last")
_OVER_SEEDS = (
    *(_POTENTIALS, f"{_POTENTIALS}, {_RANDOM}", f"{_POTENTIALS}, {EMBEDDING}", "potentials added R2", _READING),
    *(_SENTENCES, _FORMAL, _PAIRS, "SyntaxGym", _FUNCTIONAL, _NEXT, "perplexity"),
    *(_TOPOGRAPHY, "unit null", "overlap with last", "overlap with previous"),
)
_TITLES = {_POTENTIALS: "potentials, held-out r", _TOPOGRAPHY: "Moran's I"}
_RIVALS = ((_FORMAL, _NEXT), (_FORMAL, _FUNCTIONAL))


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
    ModuleNotFoundError
        If tasks of lm-evaluation-harness are asked for and it is not installed.

    Examples
    --------
    >>> measure_trajectories(series_of(["runs/small-0"]), "runs/trajectory")  # doctest: +SKIP
    """
    watched, folder = watched or Watched(), Path(folder)
    watched = replace(watched, choices=watched.choices.as_measured())
    with locked(folder):
        material = shown_material(watched)  # read once: it does not depend on the model
        rows: list[dict[str, Any]] = []
        total = sum(len(one.checkpoints) + 1 for one in series)
        with tqdm(total=total, desc="trajectory", unit="checkpoint", disable=None if progress else True) as bar:
            for one in series:
                rows += _rows(_course(one, watched, material, folder / "kept", bar), watched)
        return _collect(folder, series, rows, watched, n_bootstrap)


def _course(series: Series, watched: Watched, material: Mapping[str, str], folder: Path, bar: tqdm) -> list[_Measured]:
    """All checkpoints of a series, its untrained weights first; the last is measured first: it says the fixed units."""
    points = list(_with_control(series, watched.choices.seed))
    done: dict[str, _Measured] = {}
    for point in (points[-1], *points[:-1]):
        last = done.get(points[-1].name)
        found = _measure(series, point, watched, material, folder, None if last is None else last.found["localizer"])
        if last is not None:
            _refuse_another_kind(found, last)
        done[point.name] = found
        bar.update()
    return [done[point.name] for point in points]


def _with_control(series: Series, seed: int) -> Iterator[Checkpoint]:
    yield Checkpoint(series.checkpoints[0].source, None, seed)
    yield from series.checkpoints


def _measure(
    series: Series,
    point: Checkpoint,
    watched: Watched,
    material: Mapping[str, str],
    folder: Path,
    fixed: Mapping[str, Any] | None,
) -> _Measured:
    """Load the checkpoint only if a part of it is missing; the localizer says which units others read."""
    loaded: list[Any] = []

    def subject() -> Any:
        if not loaded:
            loaded.append(subject_at(*point.load(), series, watched))
        return loaded[0]

    identity = _identity(series, point, subject, folder)
    found: dict[str, Mapping[str, Any]] = {}
    for name, part in PARTS.items():
        if not part.wanted(watched, identity["has_sheets"]):
            continue
        here = found.get("localizer")
        asked = Asked(watched)
        if part.reads_units and here is not None:
            asked = Asked(watched, _unit_sets(here, fixed or here, watched))
        decided = {
            "code": code_version(_THIS),
            "part": name,
            **identity,
            "pooling": watched.shown.pooling,
            "choices": {choice: getattr(watched.choices, choice) for choice in part.choices},
            "material": {role: material[role] for role in part.material if role in material},
            "units": {kind: [one.tolist() for one in some] for kind, some in asked.units.chosen.items()},
        }
        file = folder / identity["weights"][:16] / f"{name}-{digest(plain(decided))[:16]}.json"
        if not file.is_file():
            save_json(file, {"decided_by": plain(decided), "found": measure_part(name, subject(), asked)})
        found[name] = load_json(file)["found"]
    return _Measured(series, point, identity, found)


def _unit_sets(here: Mapping[str, Any], fixed: Mapping[str, Any], watched: Watched) -> UnitSets:
    """As many units of every kind: of the largest t here, of the largest t at the last checkpoint, at random."""
    t = _flat(here)
    n_units, k = t.size, _n_chosen(t.size, watched)
    draw = np.random.default_rng(watched.choices.seed)
    random = [draw.permutation(n_units)[:k] for _ in range(_RANDOM_DRAWS)]
    return UnitSets(here["sites"], {_HERE: [_largest(t, k)], _LAST: [_largest(_flat(fixed), k)], _RANDOM: random})


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


def _refuse_another_kind(done: _Measured, last: _Measured) -> None:
    for name, word in (("architecture", "another architecture"), ("tokenizer", "another tokenizer")):
        if done.identity[name] != last.identity[name]:
            raise ValueError(
                f"{done.checkpoint.source} has {word} than {last.checkpoint.source}, the last checkpoint of "
                f"{done.series.name}; expected one model at several times: make two series of them"
            )


def _rows(measured: Sequence[_Measured], watched: Watched) -> list[dict[str, Any]]:
    """One row per checkpoint of a series, its untrained weights first."""
    flat = [_flat(one.found["localizer"]) for one in measured]
    n_units = flat[0].size
    k = _n_chosen(n_units, watched)
    chosen = [_top(one, k) for one in flat]
    fixed = chosen[-1]
    generator = np.random.default_rng(watched.choices.seed)
    drawn = generator.permutation(n_units)[:k]
    rows: list[dict[str, Any]] = []
    for place, one in enumerate(measured):
        row: dict[str, Any] = {
            "series": one.series.name,
            "group": one.series.group,
            "checkpoint": one.checkpoint.name,
            "tokens": one.checkpoint.tokens,
            "parameters": one.identity["n_parameters"],
            "features": k,
            **_alignment(one.found),
            **_competence(one.found),
            **one.found.get("topography", {}),
            "units": len(chosen[place]),
            # the first row is of untrained weights, which come before no checkpoint
            "overlap with previous": _dice(chosen[place], chosen[place - 1]) if place > 1 else None,
            "overlap with last": _dice(chosen[place], fixed),
            "overlap by chance": k / n_units,
            "t of units chosen here": float(np.nanmean(flat[place][chosen[place]])) if len(chosen[place]) else None,
            "t of units chosen at the last": float(np.nanmean(flat[place][fixed])) if len(fixed) else None,
            "t of random units": float(np.nanmean(flat[place][drawn])),
        }
        for title in (*_ALIGNMENT.values(), _READING):  # the same untrained weights stand beside all checkpoints
            if (first := rows[0] if rows else row).get(title) is not None:
                row[f"{title}, {_UNTRAINED}"] = first[title]
        rows.append(row)
    return rows


def _flat(localizer: Mapping[str, Any]) -> np.ndarray:
    """The t of all units, site after site."""
    return np.concatenate([np.array(localizer["t"][site], dtype=float) for site in localizer["sites"]])


def _n_chosen(n_units: int, watched: Watched) -> int:
    return min(watched.n_units, max(1, n_units // 10))


def _largest(t: np.ndarray, k: int) -> np.ndarray:
    return np.argsort(-np.where(np.isnan(t), -np.inf, t), kind="stable")[:k]


def _top(t: np.ndarray, k: int) -> np.ndarray:
    """The k units of the largest t, as far as it is positive."""
    order = _largest(t, k)
    return order[t[order] > 0]


def _dice(first: np.ndarray, second: np.ndarray) -> float | None:
    both = len(first) + len(second)
    return 2 * len(np.intersect1d(first, second)) / both if both else None


def _alignment(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Reading gain, and correlations with potentials and averages of fMRI; every number is among what is kept."""
    row: dict[str, Any] = {}
    for one in found.get("alignment", {}).get("rows", []):
        title = _ALIGNMENT[one["of"]]
        if one["features"] == _HERE:
            row |= _with_ends(title, one["r"], one["low"], one["high"])
            row |= {f"{title} (types)": one["r (types)"]} if "r (types)" in one else {}
            added = f"{one['of']} added R2"
            row |= _with_ends(added, one["added R2"], one["low (R2)"], one["high (R2)"])
        else:
            row[f"{title}, {one['features']}"] = one["r"]
            row |= {f"{title} (types), {one['features']}": one["r (types)"]} if "r (types)" in one else {}
        if one["features"] == _RANDOM:
            ends = (one["low (first - this)"], one["high (first - this)"])
            row |= _with_ends(f"{one['of']} r - {_RANDOM}", one["first - this"], *ends)
    if "gain" in (reading := found.get("reading", {})):
        row |= _with_ends(_READING, reading["gain"], reading["low"], reading["high"])
    return row


def _competence(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Formal, functional, and of next words; what is missing has no number."""
    overall = found["pairs"].get("overall", {})
    row: dict[str, Any] = _with_ends(_PAIRS, overall.get("accuracy"), overall.get("low"), overall.get("high"))
    if suites := [value for value in found.get("syntaxgym", {}).values() if isinstance(value, float)]:
        row["SyntaxGym"] = float(np.mean(suites))
    formal = [row[name] for name in (_PAIRS, "SyntaxGym") if row.get(name) is not None]
    row[_FORMAL] = float(np.mean(formal)) if formal else None
    tasks = {one["task"]: one["value"] for one in found.get("functional", {}).get("rows", [])}
    row |= {f"task: {FUNCTIONAL_TASKS[name].title}": value for name, value in tasks.items()}
    if measured := [value for value in tasks.values() if value is not None]:
        row[_FUNCTIONAL] = float(np.mean(measured))
    row |= {name: found["text"].get(name) for name in (_NEXT, "perplexity")}
    return row | {f"pairs: {name}": entry["accuracy"] for name, entry in found["pairs"].get("phenomena", {}).items()}


def _with_ends(name: str, value: float | None, low: float | None, high: float | None) -> dict[str, float | None]:
    return {name: value, f"low ({name})": low, f"high ({name})": high}


def _collect(
    folder: Path, series: Sequence[Series], rows: list[dict[str, Any]], watched: Watched, n_bootstrap: int
) -> tuple[str, dict[str, Findings]]:
    table = Table(
        "trajectory",
        "Every checkpoint",
        rows,
        "overlap: Dice of the units chosen at two checkpoints, by chance the share of units chosen. Units are chosen "
        "and their t is taken on the same items, so that t of units chosen at the last is inflated there and not "
        "elsewhere. low, high: 95 % over sentences, texts, topics or minimal pairs of one checkpoint.",
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
        ("group", "explained", "first", "second"),
    )
    ended = Table(
        "ends",
        "Where the relation with next-word prediction ends",
        _ends(series, rows, n_bootstrap, watched.choices.seed),
        "One slope for all series of a group up to one checkpoint, none after it; p against a slope that never ends, "
        "of residuals as alike from checkpoint to checkpoint as those found. Where p is large, no end was found.",
        ("group", "explained"),
    )
    sizes = Table(
        "sizes",
        "Size, at the last checkpoint",
        _sizes(series, rows),
        "As many features of every size only where features says the same number. low, high: over seeds.",
        ("group",),
    )
    tasks = Table(
        "functional",
        "Functional competence",
        _tasks(rows),
        "Accuracy at the last checkpoint, mean over seeds. What is missing has no number.",
        ("task",),
    )
    tables = [over, explained, ended, sizes, tasks, table]
    for one in tables:
        save_table(folder, one)
    notes += _missing(rows, watched)
    found = Findings(
        "Trajectories", "A row per checkpoint, and means over seeds.", tables, _pictures(series, rows), notes
    )
    save_findings(folder / "collected" / "trajectory", found, {})
    save_json(folder / "trajectory.json", {"watched": plain(asdict(watched)), "series": [one.name for one in series]})
    lead = (
        f"{len(rows)} checkpoints of {len(series)} series, each measured alone: nothing was trained or tuned here. "
        "Everything in full: trajectory.csv, over_seeds.csv, relations.csv, ends.csv, sizes.csv, functional.csv."
    )
    return lead, {"collected/trajectory": found}


def _pictures(series: Sequence[Series], rows: Sequence[Mapping[str, Any]]) -> list[Picture]:
    growth = draw_growth(_sizes_grown(series, rows))
    rest = draw_courses({
        name: courses
        for name in _DRAWN
        if (courses := _courses(series, rows, name)) and any(one.values for one in courses)
    })
    return [
        Picture(
            "growth",
            "Alignment, competence and topography",
            growth,
            "A row per size. Thick lines: means over seeds; thin: single series; grey: controls, means over all series "
            "of the size. Open circles at the left: untrained weights.",
            headline=True,
        ),
        Picture(
            "trajectory",
            "What else grows with training",
            rest,
            "Thick lines: means over seeds; thin: single series. Open circles at the left: untrained weights.",
        ),
    ]


def _sizes_grown(series: Sequence[Series], rows: Sequence[Mapping[str, Any]]) -> list[Growth]:
    """By size what is drawn: alignment with its controls, competence, topography with its null."""
    parameters = {one.name: next(row["parameters"] for row in rows if row["series"] == one.name) for one in series}
    beside = {
        _POTENTIALS: [f"{_POTENTIALS}, {name}" for name in (_RANDOM, EMBEDDING, RANDOM_TOKENS, _UNTRAINED, CONTROLS)],
        _READING: [f"{_READING}, {_UNTRAINED}"],
        _TOPOGRAPHY: ["unit null"],
    }
    wanted = [_POTENTIALS, _READING, _FORMAL, _FUNCTIONAL, _NEXT, _TOPOGRAPHY]
    shown = [name for name in wanted if any(row.get(name) is not None for row in rows)]
    made = []
    for size in sorted(set(parameters.values())):
        own = [one for one in series if parameters[one.name] == size]
        panels = {_TITLES.get(name, name): _courses(own, rows, name) for name in shown}
        controls = {
            _TITLES.get(name, name): {
                title.removeprefix(f"{name}, "): courses for title in titles if (courses := _courses(own, rows, title))
            }
            for name, titles in beside.items()
            if name in shown
        }
        made.append(Growth(f"{size:,} parameters", panels, controls))
    return made


def _courses(series: Sequence[Series], rows: Sequence[Mapping[str, Any]], name: str) -> list[Course]:
    """A number over the tokens of every series that has it, untrained weights first."""
    made = []
    for one in series:
        own = [row for row in rows if row["series"] == one.name and row.get(name) is not None]
        if own:
            made.append(Course(one.name, one.group, [row["tokens"] for row in own], [row[name] for row in own]))
    return made


def _over_seeds(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    made = []
    for group, checkpoint, tokens in dict.fromkeys((row["group"], row["checkpoint"], row["tokens"]) for row in rows):
        same = [row for row in rows if (row["group"], row["checkpoint"]) == (group, checkpoint)]
        line: dict[str, Any] = {"group": group, "checkpoint": checkpoint, "tokens": tokens, "series": len(same)}
        for name in _OVER_SEEDS:
            line |= _mean_of(same, name)
        made.append(line)
    return made


def _mean_of(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, float | None]:
    """Mean and interval over the rows that have a number, or nothing."""
    values = [row[name] for row in rows if row.get(name) is not None]
    return _with_ends(name, *interval_over_series(np.array(values, dtype=float))) if values else {}


def _relations(
    series: Sequence[Series], rows: Sequence[Mapping[str, Any]], n_draws: int, seed: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """R2 on formal and functional competence and on next-word prediction, of alignment and of topography."""
    made, notes = [], []
    for group in dict.fromkeys(one.group for one in series):
        for explained in _EXPLAINED:
            for rivals in _RIVALS:
                curves = [Curves(*one) for one in _whole_curves(series, rows, group, (explained, *rivals))]
                if not curves:
                    continue
                try:
                    found = compare_explained(curves, n_draws=n_draws, seed=seed)
                except NotMeasurable as reason:
                    notes.append(f"{group}, {explained}, {' against '.join(rivals)}: no comparison of R2 ({reason}).")
                    continue
                line: dict[str, Any] = {"group": group, "explained": explained, "first": rivals[0]}
                line |= {"second": rivals[1], "series": found.n_series}
                line |= {"checkpoints": found.n_checkpoints, "block": found.block}
                titles = {"R2 on first": found.first, "R2 on second": found.second, "difference": found.difference}
                for title, three in titles.items():
                    line |= _with_ends(title, *three)
                made.append({**line, "p": found.p})
    return made, notes


def _ends(series: Sequence[Series], rows: Sequence[Mapping[str, Any]], n_draws: int, seed: int) -> list[dict[str, Any]]:
    """After which checkpoint alignment no longer follows next-word accuracy, seeds of a group together."""
    made = []
    for group in dict.fromkeys(one.group for one in series):
        tokens = [[point.tokens for point in one.checkpoints] for one in series if one.group == group]
        for explained in _EXPLAINED:
            curves = _whole_curves(series, rows, group, (explained, _NEXT))
            if not curves or len({len(one[0]) for one in curves}) > 1 or any(one != tokens[0] for one in tokens):
                continue
            line: dict[str, Any] = {"group": group, "explained": explained, "series": len(curves)}
            try:
                found = relation_end(*map(np.array, zip(*curves, strict=True)), n_draws=n_draws, seed=seed)
            except NotMeasurable as reason:
                made.append({**line, "not measured": str(reason)})
                continue
            at = {"tokens at its end": found.place, "low (tokens)": found.low, "high (tokens)": found.high}
            line |= {title: tokens[0][place] for title, place in at.items()}
            made.append({**line, "slope up to it": found.slope, "R2": found.r_squared, "p": found.p})
    return made


def _whole_curves(
    series: Sequence[Series], rows: Sequence[Mapping[str, Any]], group: str, names: Sequence[str]
) -> list[list[np.ndarray]]:
    """Of every series of a group that has all of them at all its checkpoints, these numbers in order."""
    found = []
    for one in series:
        own = [row for row in rows if row["series"] == one.name and row["tokens"] is not None]
        if one.group == group and own and all(row.get(name) is not None for row in own for name in names):
            found.append([np.array([row[name] for row in own], dtype=float) for name in names])
    return found


def _sizes(series: Sequence[Series], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every group at its last checkpoint, the smallest first."""
    made = []
    for group in dict.fromkeys(one.group for one in series):
        last = [[row for row in rows if row["series"] == one.name][-1] for one in series if one.group == group]
        line: dict[str, Any] = {"group": group, "parameters": last[0]["parameters"], "features": last[0]["features"]}
        line["series"] = len(last)
        for name in (
            _POTENTIALS,
            "potentials added R2",
            _READING,
            _SENTENCES,
            _FORMAL,
            _FUNCTIONAL,
            _NEXT,
            _TOPOGRAPHY,
        ):
            line |= _mean_of(last, name)
        made.append(line)
    return sorted(made, key=lambda line: line["parameters"])


def _tasks(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every task of functional competence: measured, or missing."""
    last = {row["series"]: row for row in rows}.values()
    made = []
    for name, about in FUNCTIONAL_TASKS.items():
        title = f"task: {about.title}"
        line: dict[str, Any] = {"task": about.title, "name": name, "chance": about.chance}
        line["state"] = "measured" if any(row.get(title) is not None for row in rows) else "missing"
        for group in dict.fromkeys(row["group"] for row in last):
            line |= {group: _mean_of([row for row in last if row["group"] == group], title).get(title)}
        made.append(line)
    return made


def _missing(rows: Sequence[Mapping[str, Any]], watched: Watched) -> list[str]:
    """What could be measured and was not, by name."""
    notes = []
    names = [one.title for one in FUNCTIONAL_TASKS.values()]
    if missing := [one for one in names if not any(row.get(f"task: {one}") is not None for row in rows)]:
        where = "no task definitions given (functional=FOLDER)" if watched.functional is None else watched.functional
        reason = where if watched.functional is None else f"not defined in {where}"
        notes.append(f"Functional competence, missing: {', '.join(missing)}: {reason}.")
    if watched.shown.data is None:
        notes.append("Reading times, potentials and averages of fMRI: not measured: data not given (data=FOLDER).")
    if watched.shown.syntaxgym is None:
        notes.append("SyntaxGym: not measured: no suites given (syntaxgym=FOLDER); formal competence is of the pairs.")
    if watched.shown.text is None:
        notes.append(
            "Perplexity and next-word accuracy are of the good sentences of the minimal pairs; give text=FILE."
        )
    if not all(row.get(_TOPOGRAPHY) is not None for row in rows):
        notes.append("Topography: not measured where a model has no sheets.")
    return notes
