"""Localizers: our own stimulus sets, and loaders for published ones."""

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from topographic.stimuli.stimulus_set import StimulusSet
from topographic.stimuli.tables import complete, read_table
from topographic.storage import load_json

__all__ = ["LOCALIZERS", "load_localizer"]

_SETS = Path(__file__).parent / "sets"


def load_localizer(name: str = "language", folder: str | Path | None = None) -> StimulusSet:
    """Load a stimulus set, ours or a published one.

    Ours (they ship with the library; sets/SOURCE.txt says how they were made):

    - "language": 60 sentences, word lists, Jabberwocky sentences and nonword lists each, in two runs
    - "nouns_verbs": 80 nouns and 80 verbs in two runs, label ``concreteness`` (concrete, abstract)
    - "suites": 60 pairs in each of eight suites (label ``suite``), a run each: intact and scrambled sentences, animate
      and inanimate, concrete and abstract, visual and motor nouns, plausible and implausible objects, agreement,
      licensing of "ever", garden paths

    Published (in a folder of yours, or as `fetch_published` returns it):

    - "fedorenko2010": 240 sentences and 240 nonword lists, label ``set``; langloc_fmri_run?_stim_set?.csv
    - "fedorenko_swjn": 160 sentences, word lists, Jabberwocky and nonword lists each; fedorenko_stimuli.csv
    - "hauptman": 288 pairs of nouns and of verbs in two runs, labels ``category``, ``block``; elli_stimuli.csv.
      Pairs of 144 words that share them within 8 categories, so that categories count as sampled
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
    frames = [_read(name, path, localizer) for path in _find(name, Path(folder), localizer)]
    rows = pd.concat(frames)
    if len(rows) != localizer.n_items:
        raise ValueError(
            f"localizer {name!r}: {localizer.files} in {folder} hold {len(rows)} items; expected {localizer.n_items}: "
            "a file is truncated or missing, get it again"
        )
    unknown = [condition for condition in rows[localizer.condition] if condition not in localizer.names]
    if unknown:
        raise ValueError(
            f"localizer {name!r}: unknown condition {unknown[0]!r}; expected {', '.join(map(repr, localizer.names))}: "
            "pass the file as it was published"
        )
    return StimulusSet(
        name=name,
        items=tuple(rows[localizer.text]),
        conditions=tuple(rows[localizer.condition].map(localizer.names)),
        runs=() if localizer.run is None else tuple(rows[localizer.run]),
        labels={label: tuple(rows[column]) for label, column in localizer.labels.items()},
        source=localizer.source,
        licence=localizer.licence,
        sampled_by=localizer.sampled_by,
    )


class _Localizer(NamedTuple):
    """Where a set is, and which columns of its files say what."""

    files: str
    n_items: int
    text: str
    condition: str
    names: dict[str, str]  # of the conditions there and here
    labels: dict[str, str]  # label here and column there
    source: str
    licence: str
    run: str | None = None
    is_own: bool = False
    columns: tuple[str, ...] = ()  # of a file, where they are not the ones above
    sampled_by: str | None = None  # label whose entries were sampled, where items share one


def _find(name: str, folder: Path, localizer: _Localizer) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"localizer {name!r}: no folder at {folder}; pass the one that holds {localizer.files}")
    paths = sorted(folder.glob(localizer.files)) or sorted(folder.glob(f"*/{localizer.files}"))
    if not paths:
        raise FileNotFoundError(
            f"localizer {name!r}: no {localizer.files} in {folder} or the folders in it; pass the folder that holds it"
        )
    return paths


def _read(name: str, path: Path, localizer: _Localizer) -> pd.DataFrame:
    read = (localizer.text, localizer.condition, *([] if localizer.run is None else [localizer.run]))
    columns = list(localizer.columns or (*read, *localizer.labels.values()))
    try:
        frame = read_table(path, columns, "pass the file as it was published")
        frame = complete(frame.filter(columns), str(path))
    except ValueError as error:
        raise ValueError(f"localizer {name!r}: {error}") from error
    return _twelve_words(frame, path) if "stim1" in columns else frame


def _twelve_words(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Twelve words a row, in files of one run and set each; lower-cased, as TopoLM was shown them."""
    words = [frame[f"stim{place}"].str.strip() for place in range(2, 14)]
    run, part = path.stem.removeprefix("langloc_fmri_run").split("_stim_set")
    return frame.assign(text=words[0].str.cat(words[1:], sep=" ").str.lower(), run=run, set=part)


LOCALIZERS: dict[str, _Localizer] = {
    name: _Localizer(**about) for name, about in load_json(_SETS / "localizers.json").items()
}
