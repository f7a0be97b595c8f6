"""Tables of stimuli: files and data frames, in which nothing may be missing without a word."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from topographic.stimuli.stimulus_set import StimulusSet

__all__ = ["complete", "read_table", "stimuli_from"]

_RUN = "run"
# how Python and pandas write that there is nothing; words such as "none" or "null" are words
_NOTHING = ("", "nan", "NaN", "None", "NaT", "<NA>")


def stimuli_from(
    frame_or_path: pd.DataFrame | StimulusSet | str | Path,
    text: str = "text",
    condition: str = "condition",
    run: str | None = None,
    *,
    name: str | None = None,
    sampled_by: str | None = None,
) -> StimulusSet:
    """A table of one's own as a stimulus set, one row per item.

    Parameters
    ----------
    frame_or_path : DataFrame, str, Path or StimulusSet
        The table, or a comma- or tab-separated file with a header, in UTF-8; or a ``.json`` file that
        `StimulusSet.save` wrote. A stimulus set comes back as it is.
    text : str
        Column of the items.
    condition : str
        Column of their conditions.
    run : str, optional
        Column of their runs; by default the column "run" where there is one, else all items are of one run.
    name : str, optional
        Name of the set; that of the file, or "stimuli", by default.
    sampled_by : str, optional
        Further column (word, category, passage, speaker, pair) whose entries were sampled; see `StimulusSet`. By
        default what the table has in ``attrs["sampled_by"]``, as `StimulusSet.to_frame` makes it.

    Returns
    -------
    StimulusSet
        Every further column becomes a label, but for "onset_s", the onsets in seconds, and for a column without
        a name, which is the index that pandas writes.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a column is missing, or a cell: NaN or None, in a file an empty cell or one that reads "nan", "NaN",
        "None", "NaT" or "<NA>". The message names the row, in a file its line.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"text": ["a dog", "to run"], "condition": ["noun", "verb"], "length": [2, 2]})
    >>> stimuli_from(frame)
    StimulusSet('stimuli': 1 noun, 1 verb)
    """
    if isinstance(frame_or_path, StimulusSet):
        return frame_or_path
    is_frame = isinstance(frame_or_path, pd.DataFrame)
    if not is_frame and Path(frame_or_path).suffix == ".json":
        return StimulusSet.load(frame_or_path)
    place = "the table" if is_frame else str(frame_or_path)
    wanted = [text, condition, *([] if run is None else [run])]
    advice = "rename its columns, or say with text=, condition= and run= what they are called"
    frame = _with(wanted, frame_or_path, place, advice) if is_frame else read_table(frame_or_path, wanted, advice)
    frame = complete(frame.drop(columns=[column for column in frame.columns if not str(column)]), place)
    if run is None and _RUN in frame.columns and _RUN not in wanted:
        run = _RUN
        wanted.append(run)
    onsets = None
    if "onset_s" in frame.columns:
        onsets = tuple(frame[["onset_s"]].apply(pd.to_numeric, errors="coerce")["onset_s"])
    return StimulusSet(
        name=name or ("stimuli" if is_frame else Path(frame_or_path).stem),
        items=tuple(frame[text]),
        conditions=tuple(frame[condition]),
        runs=() if run is None else tuple(frame[run]),
        onset_s=onsets,
        labels={str(key): tuple(frame[key]) for key in frame.columns if key not in (*wanted, "onset_s")},
        source="a table" if is_frame else place,
        sampled_by=frame.attrs.get("sampled_by") if sampled_by is None else sampled_by,
    )


def read_table(path: str | Path, columns: Sequence[str], advice: str) -> pd.DataFrame:
    """Text table with these columns at least: strings, None where there is nothing, and the lines as index."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no table at {path}; give a .csv or .tsv file")
    try:
        with open(path, encoding="utf-8-sig", newline="") as opened:
            has_tabs = "\t" in opened.readline()
            opened.seek(0)
            reader = csv.reader(opened, delimiter="\t" if has_tabs else ",", strict=True)
            rows = [(reader.line_num, row) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a text table ({error}); save it as CSV in UTF-8") from error
    header = rows[0][1] if rows else []
    for line, row in rows:
        if len(row) != len(header):
            raise ValueError(
                f"{path}, line {line} has {len(row)} cells and the header {len(header)}; quote cells that hold commas"
            )
    cells = [[None if cell.strip() in _NOTHING else cell for cell in row] for _, row in rows[1:]]
    lines = pd.Index([line for line, _ in rows[1:]], name="line")
    return _with(columns, pd.DataFrame(cells, index=lines, columns=header, dtype=object), str(path), advice)


def complete(frame: pd.DataFrame, place: str) -> pd.DataFrame:
    """The table, or an error that names the first cell in which there is nothing."""
    absent = frame.isna().to_numpy()
    if absent.any():
        row, column = np.argwhere(absent)[0]
        raise ValueError(
            f"{place}, {frame.index.name or 'row'} {frame.index[row]}: there is nothing in column "
            f"{frame.columns[column]!r}; fill it in, or leave out the row or the column"
        )
    return frame


def _with(columns: Sequence[str], frame: pd.DataFrame, place: str, advice: str) -> pd.DataFrame:
    there = [str(column) for column in frame.columns]
    missing = [column for column in columns if column not in there]
    if missing:
        has = ", ".join(map(repr, there)) or "none"
        raise ValueError(f"{place} has no column {', '.join(map(repr, missing))}; it has {has}: {advice}")
    double = sorted({column for column in there if there.count(column) > 1})
    if double:
        raise ValueError(f"{place} has two columns {double[0]!r}; expected different names: rename one")
    return frame
