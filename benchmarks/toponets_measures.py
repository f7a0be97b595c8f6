"""What smooth weights do to the models of a sweep: tables over seeds from evaluated runs.

    for run in runs/sweep/*-seed_*; do topo evaluate $run suite=toponets; done
    python benchmarks/toponets_measures.py runs/sweep

Reads run folders (of language or vision models, with several weights and seeds) and what `topo evaluate suite=toponets`
left in each; prints a row per tau, mean ± sd over its seeds.
"""

import csv
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import yaml

from topographic.storage import load_json

Rows = list[dict[str, str]]


def main(folder: str) -> None:
    """Print the tables of one sweep."""
    runs: dict[float, list[Path]] = defaultdict(list)
    for run in sorted(Path(folder).glob("*-seed_*")):
        if (run / "evaluation_toponets" / "evaluation.json").is_file():
            runs[yaml.safe_load((run / "config.yaml").read_text("utf-8"))["smoothness"]["weight"]].append(run)
    some = next(iter(runs.values()), [Path(folder)])[0] / "evaluation_toponets"
    kind = "language" if (some / "windows").is_dir() else "vision"
    for columns in TABLES[kind]:
        print(row("tau", *columns))
        print("|" + "---|" * (len(columns) + 1))
        for tau, found in sorted(runs.items()):
            print(row(f"{tau:g}", *(spread(measure(run) for run in found) for measure in columns.values())))
        print()
    counts = ", ".join(f"tau {tau:g}: {len(found)}" for tau, found in sorted(runs.items()))
    print(f"Mean ± sd over seeds ({counts}).")


def table(run: Path, name: str) -> Rows:
    with (run / "evaluation_toponets" / name).open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def cell(name: str, column: str, **wanted: str) -> Callable[[Path], float]:
    """One number of a run's evaluation: the column of the row in which other columns have these values."""

    def read(run: Path) -> float:
        rows = [one for one in table(run, name) if all(one[key].startswith(value) for key, value in wanted.items())]
        exact = [one for one in rows if all(one[key] == value for key, value in wanted.items())]
        rows = exact or rows
        if len(rows) != 1:
            raise ValueError(f"{run}: {name} has {len(rows)} rows with {wanted}; expected 1")
        return float(rows[0][column])

    return read


def compressed(method: str, place: int, measure: str = "loss") -> Callable[[Path], float]:
    """Loss after the nth share was removed; shares of pruning are those that leave as many parameters."""
    return lambda run: nth(run, "curves", measure, place, method=method)


def permuted(place: int) -> Callable[[Path], float]:
    """Loss after downsampling with the units elsewhere on their sheets, mean over draws."""
    return lambda run: nth(run, "permuted", "units permuted", place, measure="loss")


def nth(run: Path, name: str, column: str, place: int, **wanted: str) -> float:
    rows = table(run, f"compression/{name}.csv")
    return float([one for one in rows if all(one[key] == value for key, value in wanted.items())][place][column])


def record(file: str, *path: str) -> Callable[[Path], float]:
    """A number that training or the sweep left in the run."""

    def read(run: Path) -> float:
        found = load_json(run / file)
        for word in path:
            found = found[word]
        return float(found)

    return read


def spread(values: Iterable[float]) -> str:
    found = np.array(list(values))
    digits = 4 if 0 < abs(found.mean()) < 0.01 else 3
    sd = f" ± {found.std(ddof=1):.{digits}f}" if len(found) > 1 else ""
    return f"{found.mean():.{digits}f}{sd}"


def row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


SHARES = ("20 %", "50 %", "80 %")
WEIGHTS = {
    "loss of weights": cell("weights/means.csv", "loss"),
    "units permuted": cell("weights/means.csv", "unit null"),
}
TRAINED = {
    "validation loss": record("run.json", "eval_loss"),
    "minimal pairs": record("minimal_pairs.json", "overall", "accuracy"),
    **WEIGHTS,
}
SMOOTH = {
    "smoothness (TopoNets)": cell("smoothness/means.csv", "smoothness", definition="range"),
    "its unit null": cell("smoothness/means.csv", "unit null", definition="range"),
    "smoothness (TDANN)": cell("smoothness/means.csv", "smoothness", definition="rise"),
    "its unit null ": cell("smoothness/means.csv", "unit null", definition="rise"),
    "its label null": cell("smoothness/means.csv", "label null", definition="rise"),
}
DIMENSIONS = {
    "dimensionality, items": cell("dimensionality/means.csv", "dimensionality", samples="i"),
    "dimensionality, tokens or test images": cell("dimensionality/means.csv", "dimensionality", samples="t"),
}
COMPRESSED = {
    "whole": compressed("whole model", 0),
    **{f"downsampled by {share}": compressed("downsampling", place) for place, share in enumerate(SHARES)},
    **{f"permuted, by {share}": permuted(place) for place, share in enumerate(SHARES)},
    **{f"pruned like {share}": compressed("pruning", place) for place, share in enumerate(SHARES)},
}
RECOGNISED = {
    "accuracy": compressed("whole model", 0, "accuracy"),
    **{f"pruned by {share}": compressed("pruning", place, "accuracy") for place, share in enumerate(SHARES)},
    **WEIGHTS,
}


def selective(contrast: str) -> dict[str, Callable[[Path], float]]:
    columns = {"I": "I", "unit null": "unit null", "label null": "label null", "mean abs t": "mean |t|"}
    found = {name: cell("selectivity/means.csv", column, contrast=contrast) for name, column in columns.items()}
    return {f"{contrast}: {name}": read for name, read in found.items()}


WINDOWS = {
    f"{name}: {column}": cell("windows/means.csv", column, parameter=name)
    for name in ("a", "b", "c", "yoking")
    for column in ("mean of medians", "I", "unit null")
}
IN_IMAGES = {
    f"{contrast}: {name}": cell("selectivity/images.csv", column, contrast=contrast)
    for contrast in ("faces", "objects", "animate-inanimate")
    for name, column in {"mean abs t": "mean |t|", "scrambled": "scrambled images"}.items()
}
TABLES = {
    "language": (
        TRAINED,
        SMOOTH | DIMENSIONS,
        COMPRESSED,
        selective("sentences - nonwords"),
        selective("noun - verb"),
        WINDOWS,
    ),
    "vision": (
        RECOGNISED,
        SMOOTH | DIMENSIONS,
        selective("faces"),
        selective("objects"),
        selective("animate-inanimate"),
        IN_IMAGES,
    ),
}

if __name__ == "__main__":
    main(*sys.argv[1:])
