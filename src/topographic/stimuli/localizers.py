"""Localizers: our own stimulus sets, and loaders for published ones."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from topographic.stimuli.stimulus_set import StimulusSet

__all__ = ["LOCALIZERS", "load_localizer"]

_SETS = Path(__file__).parent / "sets"

_SWJN = {"S": "sentences", "W": "words", "J": "jabberwocky", "N": "nonwords"}

Row = dict[str, str]


def load_localizer(name: str = "language", folder: str | Path | None = None) -> StimulusSet:
    """Load a stimulus set, ours or a published one.

    Ours (they ship with the library; sets/SOURCE.txt says how they were made):

    - "language": 60 sentences, word lists, Jabberwocky sentences and nonword lists each, in two runs
    - "nouns_verbs": 80 nouns and 80 verbs in two runs, label ``concreteness`` (concrete, abstract)

    Published (in a folder of yours, or as `fetch_published` returns it):

    - "fedorenko2010": 240 sentences and 240 nonword lists, label ``set``; langloc_fmri_run?_stim_set?.csv
    - "fedorenko_swjn": 160 sentences, word lists, Jabberwocky and nonword lists each; fedorenko_stimuli.csv
    - "hauptman": 288 pairs of nouns and of verbs in two runs, labels ``category``, ``block``; elli_stimuli.csv
    - "moseley": 80 nouns and 80 verbs, label ``concreteness``; moseley_stimuli.csv

    Parameters
    ----------
    name : str
        Name of the set.
    folder : str or Path, optional
        For a published set: the folder that holds its files, or the one above it.

    Returns
    -------
    StimulusSet
        Conditions are called "sentences", "words", "jabberwocky", "nonwords", or "noun", "verb", in every set.

    Raises
    ------
    ValueError
        If the name is unknown, the folder is missing or not wanted, or a file is not as published.
    FileNotFoundError
        If the folder does not hold the files.

    References
    ----------
    Fedorenko et al. (2010), J Neurophysiol 104:1177. Fedorenko, Behr and Kanwisher (2011), PNAS 108:16428.
    Elli, Lane and Bedny (2019), Cerebral Cortex 29:4803. Moseley and Pulvermueller (2014), Brain and Language 132:28.
    """
    if name not in LOCALIZERS:
        raise ValueError(f"no localizer called {name!r}; expected one of {', '.join(map(repr, LOCALIZERS))}")
    localizer = LOCALIZERS[name]
    if localizer.is_own:
        if folder is not None:
            raise ValueError(f"localizer {name!r} ships with the library; leave out folder={str(folder)!r}")
        folder = _SETS
    elif folder is None:
        raise ValueError(
            f"localizer {name!r} does not ship with the library; pass folder= the one that holds "
            f"{localizer.files}, or fetch it with fetch_published where that knows its address"
        )
    rows = [row for path in _find(name, Path(folder), localizer) for row in _read(name, path, localizer)]
    if len(rows) != localizer.n_items:
        raise ValueError(
            f"localizer {name!r}: {localizer.files} in {folder} hold {len(rows)} items; expected {localizer.n_items}: "
            "a file is truncated or missing, get it again"
        )
    return localizer.build(name, rows, localizer)


class _Localizer(NamedTuple):
    """Where a set is, what its files look like, and what becomes of a row."""

    files: str
    n_items: int
    columns: tuple[str, ...]
    build: Callable[[str, list[Row], "_Localizer"], StimulusSet]
    source: str
    licence: str
    is_own: bool = False


def _find(name: str, folder: Path, localizer: _Localizer) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"localizer {name!r}: no folder at {folder}; pass the one that holds {localizer.files}")
    paths = sorted(folder.glob(localizer.files)) or sorted(folder.glob(f"*/{localizer.files}"))
    if not paths:
        raise FileNotFoundError(
            f"localizer {name!r}: no {localizer.files} in {folder} or the folders in it; pass the folder that holds it"
        )
    return paths


def _read(name: str, path: Path, localizer: _Localizer) -> list[Row]:
    try:
        with open(path, encoding="utf-8", newline="") as opened:
            reader = csv.DictReader(opened, restval="")
            rows = [{**row, "file": path.stem} for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"localizer {name!r}: {path} is not a text table ({error}); get it again") from error
    missing = [column for column in localizer.columns if column not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(
            f"localizer {name!r}: {path} has no column {missing[0]!r}; expected {', '.join(localizer.columns)}: "
            "pass the file as it was published"
        )
    return rows


def _own(name: str, rows: list[Row], localizer: _Localizer) -> StimulusSet:
    return StimulusSet(
        name=name,
        items=_column(rows, "item"),
        conditions=_column(rows, "condition"),
        runs=_column(rows, "run"),
        labels={key: _column(rows, key) for key in localizer.columns[3:]},
        source=localizer.source,
        licence=localizer.licence,
    )


def _fedorenko2010(name: str, rows: list[Row], localizer: _Localizer) -> StimulusSet:
    """Twelve words a row, in files of one run and set each; lower-cased, as TopoLM was shown them."""
    items = tuple(" ".join(row[f"stim{place}"].strip() for place in range(2, 14)).lower() for row in rows)
    runs, sets = zip(*(row["file"].removeprefix("langloc_fmri_run").split("_stim_set") for row in rows), strict=True)
    conditions = _renamed(name, _column(rows, "stim14"), {key: _SWJN[key] for key in "SN"})
    return StimulusSet(
        name, items, conditions, runs, labels={"set": sets}, source=localizer.source, licence=localizer.licence
    )


def _fedorenko_swjn(name: str, rows: list[Row], localizer: _Localizer) -> StimulusSet:
    conditions = _renamed(name, _column(rows, "condition"), _SWJN)
    return StimulusSet(name, _column(rows, "sentence"), conditions, source=localizer.source, licence=localizer.licence)


def _hauptman(name: str, rows: list[Row], localizer: _Localizer) -> StimulusSet:
    return StimulusSet(
        name,
        _column(rows, "pair"),
        _renamed(name, _column(rows, "class"), {"noun": "noun", "verb": "verb"}),
        _column(rows, "run"),
        labels={key: _column(rows, key) for key in ("category", "block")},
        source=localizer.source,
        licence=localizer.licence,
    )


def _moseley(name: str, rows: list[Row], localizer: _Localizer) -> StimulusSet:
    return StimulusSet(
        name,
        _column(rows, "word"),
        _renamed(name, _column(rows, "class"), {"noun": "noun", "verb": "verb"}),
        labels={"concreteness": _column(rows, "category")},
        source=localizer.source,
        licence=localizer.licence,
    )


def _column(rows: list[Row], key: str) -> tuple[str, ...]:
    return tuple(row[key] for row in rows)


def _renamed(name: str, conditions: tuple[str, ...], names: dict[str, str]) -> tuple[str, ...]:
    unknown = [condition for condition in conditions if condition not in names]
    if unknown:
        raise ValueError(
            f"localizer {name!r}: unknown condition {unknown[0]!r}; expected {', '.join(map(repr, names))}: "
            "pass the file as it was published"
        )
    return tuple(names[condition] for condition in conditions)


_TOPOLM = "as released with TopoLM (github.com/epflneuroailab/topolm)"

LOCALIZERS: dict[str, _Localizer] = {
    "language": _Localizer(
        files="language.csv",
        n_items=240,
        columns=("item", "condition", "run", "match", "n_words", "n_characters"),
        build=_own,
        source="Written for this library after the design of Fedorenko et al. (2010) and Fedorenko, Behr and Kanwisher "
        "(2011); see sets/SOURCE.txt",
        licence="Apache-2.0",
        is_own=True,
    ),
    "nouns_verbs": _Localizer(
        files="nouns_verbs.csv",
        n_items=160,
        columns=("item", "condition", "run", "concreteness", "n_characters"),
        build=_own,
        source="Chosen for this library after the design of Moseley and Pulvermueller (2014); see sets/SOURCE.txt",
        licence="Apache-2.0",
        is_own=True,
    ),
    "fedorenko2010": _Localizer(
        files="langloc_fmri_run?_stim_set?.csv",
        n_items=480,
        columns=tuple(f"stim{place}" for place in range(1, 15)),
        build=_fedorenko2010,
        source="Fedorenko et al. (2010), J Neurophysiol 104:1177, as released with github.com/brain-score/language",
        licence="MIT",
    ),
    "fedorenko_swjn": _Localizer(
        files="fedorenko_stimuli.csv",
        n_items=640,
        columns=("sentence", "condition"),
        build=_fedorenko_swjn,
        source=f"Design of Fedorenko, Behr and Kanwisher (2011), PNAS 108:16428, {_TOPOLM}",
        licence="none stated; research use",
    ),
    "hauptman": _Localizer(
        files="elli_stimuli.csv",
        n_items=576,
        columns=("run", "block", "class", "category", "pair"),
        build=_hauptman,
        source=f"Elli, Lane and Bedny (2019), Cerebral Cortex 29:4803, and Hauptman et al. (2024), {_TOPOLM}",
        licence="none stated; research use",
    ),
    "moseley": _Localizer(
        files="moseley_stimuli.csv",
        n_items=160,
        columns=("word", "category", "class"),
        build=_moseley,
        source=f"Moseley and Pulvermueller (2014), Brain and Language 132:28, {_TOPOLM}",
        licence="none stated; research use",
    ),
}
