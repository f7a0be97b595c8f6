"""Words with their onsets, from the files in which stories come."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from topographic.stimuli.stimulus_set import StimulusSet
from topographic.storage import read_text

__all__ = ["load_words", "read_textgrid"]

# what stands in TextGrids for no word: pauses, breaths, noise
_NO_WORD = {"", "sp", "sil", "<sil>", "{br}", "{lg}", "{ls}", "{cg}", "{ns}", "br", "lg", "ls", "ns", "<p>", "spn", "#"}
_WORD_COLUMNS = ("word", "text", "trial_type", "value")
_ONSET_COLUMNS = ("onset_s", "onset", "start")


def load_words(
    source: str | Path,
    *,
    tier: str = "word",
    word_column: str | None = None,
    onset_column: str | None = None,
    run_column: str | None = None,
    run: str | None = None,
    name: str | None = None,
) -> StimulusSet:
    r"""Words of a story with their onsets in seconds.

    Parameters
    ----------
    source : str or Path
        ``.TextGrid`` (Praat, long and short form), BIDS ``_events.tsv``, or a ``.csv`` or ``.tsv`` table; ``.csv``
        files without a header in the form of the Gentle aligner (word, aligned word, onset, offset) as well.
    tier : str
        TextGrid: the interval tier of the words, by its name or the beginning of it, whatever its case.
    word_column, onset_column : str, optional
        Table: columns of the words and their onsets; by default the first there is of "word", "text", "trial_type",
        "value", and of "onset_s", "onset", "start".
    run_column : str, optional
        Table: column of the runs, where onsets begin anew; "run" where there is one.
    run : str, optional
        Name of the run, for files of one run; by default that of the table's column, else the name of the file
        without its endings.
    name : str, optional
        Name of the set; that of the file by default.

    Returns
    -------
    StimulusSet
        Items are words in order of onset, with ``onset_s``; intervals of silence and noise are left out, rows of a
        table without a word, and rows of a Gentle table that were not aligned.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, tier or column, no word, or an onset is missing, negative or out of order.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "sub-1_task-tale_events.tsv"
    ...     _ = path.write_text("onset\tduration\ttrial_type\n0.4\t0.2\tonce\n0.7\t0.3\tupon\n")
    ...     load_words(path).onset_s
    (0.4, 0.7)
    """
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"no file of words at {path}; give a .TextGrid, .tsv or .csv file")
    kind = path.suffix.lower()
    if kind not in READERS:
        raise ValueError(f"{path} ends in {kind or 'nothing'}; expected one of {list(READERS)}")
    table = READERS[kind](path, tier=tier, word_column=word_column, onset_column=onset_column, run_column=run_column)
    if not len(table):
        raise ValueError(f"{path} holds no words; check the tier or column it was read from")
    if run is not None or "run" not in table:
        table["run"] = path.name.split(".")[0] if run is None else run
    _check_onsets(path, table)
    return StimulusSet(
        name or path.name.split(".")[0],
        tuple(table["word"].tolist()),
        ("word",) * len(table),
        tuple(table["run"].tolist()),
        onset_s=tuple(table["onset_s"]),
        labels={key: tuple(table[key].tolist()) for key in table if key not in ("word", "run", "onset_s")},
        source=path.name,
    )


def _check_onsets(path: Path, table: pd.DataFrame) -> None:
    for run, part in table.groupby("run", sort=False):
        onsets = part["onset_s"].to_numpy(dtype=float)
        bad = np.flatnonzero(~np.isfinite(onsets) | (onsets < 0))
        if len(bad):
            raise ValueError(
                f"{path}: word {bad[0]} of run {run!r} ({part['word'].iloc[bad[0]]!r}) has the onset "
                f"{onsets[bad[0]]:g}; expected seconds from 0 on: correct it or leave the row out"
            )
        backward = np.flatnonzero(np.diff(onsets) < 0)
        if len(backward):
            at = backward[0] + 1
            raise ValueError(
                f"{path}: onsets of run {run!r} are out of order: {onsets[at]:g} s ({part['word'].iloc[at]!r}) follows "
                f"{onsets[at - 1]:g} s; sort the rows, or give each run its name in a column run"
            )


def read_textgrid(path: str | Path) -> dict[str, pd.DataFrame]:
    """Interval tiers of a Praat TextGrid, each a table of "text", "start_s", "end_s"."""
    path = Path(path)
    raw = path.read_bytes() if path.is_file() else b""
    text = raw.decode("utf-16") if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else read_text(path).removeprefix("\ufeff")
    # both forms are the same tokens in the same order; the long one has names between them
    pieces = re.findall(r'"((?:[^"]|"")*)"|<(exists)>|(?<![\w\[.])(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(?![\w\].])', text)
    tokens = [(string.replace('""', '"'), number) for string, _, number in pieces]
    tiers: dict[str, pd.DataFrame] = {}
    try:
        at = next(place for place, (string, _) in enumerate(tokens) if string == "TextGrid") + 1
        at += 3  # the times of the file, and that there are tiers
        n_tiers, at = int(tokens[at][1]), at + 1
        for _ in range(n_tiers):
            kind, name, n = tokens[at][0], tokens[at + 1][0], int(tokens[at + 4][1])
            at += 5
            if kind == "IntervalTier":
                rows = [
                    (tokens[place + 2][0], float(tokens[place][1]), float(tokens[place + 1][1]))
                    for place in range(at, at + 3 * n, 3)
                ]
                tiers[name] = pd.DataFrame(rows, columns=["text", "start_s", "end_s"])
                at += 3 * n
            elif kind == "TextTier":
                at += 2 * n
            else:
                raise ValueError(kind)
    except (StopIteration, IndexError, ValueError) as error:
        raise ValueError(f"{path} is truncated or no TextGrid of Praat; save it again as a text file") from error
    return tiers


def _from_textgrid(path: Path, *, tier: str, **_: str | None) -> pd.DataFrame:
    tiers = read_textgrid(path)
    chosen = [one for one in tiers if one.strip().lower() == tier.lower()]
    chosen = chosen or [one for one in tiers if one.strip().lower().startswith(tier.lower())]
    if not chosen:
        raise ValueError(f"{path} has no interval tier {tier!r}; it has {list(tiers)}: name one of these with tier=")
    table = tiers[chosen[0]]
    table = table[[one.strip().lower() not in _NO_WORD for one in table["text"]]]
    return pd.DataFrame({
        "word": [one.strip() for one in table["text"]],
        "onset_s": table["start_s"].to_numpy(),
        "duration_s": (table["end_s"] - table["start_s"]).round(6).to_numpy(),
    })


def _from_table(
    path: Path, *, word_column: str | None, onset_column: str | None, run_column: str | None, **_: str | None
) -> pd.DataFrame:
    delimiter = "\t" if "\t" in read_text(path).split("\n", 1)[0] else ","
    options = {"sep": delimiter, "keep_default_na": False, "dtype": str}  # "null" and "nan" are words
    read = pd.read_csv(path, **options)
    if _is_gentle(read.columns):
        return _from_gentle(pd.read_csv(path, header=None, **options))
    columns = {}
    asked_for = (("word", word_column, _WORD_COLUMNS), ("onset_s", onset_column, _ONSET_COLUMNS))
    for role, asked, names in asked_for:
        found = [one for one in ([asked] if asked else names) if one in read]
        if not found:
            raise ValueError(
                f"{path} has no column {asked or ' or '.join(names)}; it has {list(read.columns)}: say which one with "
                f"{role.removesuffix('_s')}_column="
            )
        columns[role] = read[found[0]]
    columns["onset_s"] = pd.to_numeric(columns["onset_s"], errors="coerce")
    if run_column is not None:
        if run_column not in read:
            raise ValueError(f"{path} has no column {run_column!r}; it has {list(read.columns)}: name the one of runs")
        columns["run"] = read[run_column]
    others = {one: read[one] for one in read if not any(read[one] is used for used in columns.values())}
    taken = {one for names in (_WORD_COLUMNS, _ONSET_COLUMNS) for one in names} | {word_column, onset_column}
    taken |= set(columns)
    table: Any = pd.DataFrame(columns | {one: column for one, column in others.items() if one not in taken})
    return table[table["word"].str.strip() != ""].reset_index(drop=True)


def _is_gentle(columns: pd.Index) -> bool:
    """Whether what was read as a header is a row of words and times."""
    return len(columns) == 4 and all(re.fullmatch(r"\d+(\.\d+)?(\.\d+)?|Unnamed.*", one) for one in columns[2:])


def _from_gentle(table: pd.DataFrame) -> pd.DataFrame:
    onsets: Any = pd.to_numeric(table[2], errors="coerce")
    ends: Any = pd.to_numeric(table[3], errors="coerce")
    there = onsets.notna()
    return pd.DataFrame({
        "word": table[0][there],
        "onset_s": onsets[there],
        "duration_s": (ends - onsets)[there].round(6),
    }).reset_index(drop=True)


READERS: dict[str, Callable[..., pd.DataFrame]] = {
    ".textgrid": _from_textgrid,
    ".tsv": _from_table,
    ".csv": _from_table,
}
