"""Minimal pairs: a sentence, and the same sentence made ungrammatical."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from topographic.stimuli.stimulus_set import StimulusSet
from topographic.storage import read_text

__all__ = ["load_minimal_pairs"]

OWN = Path(__file__).parent / "sets" / "minimal_pairs_own.jsonl"
HUB = {"blimp": "nyu-mll/blimp"}  # by name, the dataset with a configuration for every paradigm


def load_minimal_pairs(source: str | Path = "own", *, n_per_paradigm: int | None = None) -> StimulusSet:
    """Minimal pairs of BLiMP (Warstadt et al., 2020), or from JSON Lines in its layout.

    Parameters
    ----------
    source : str or Path
        "blimp": all 67 paradigms, which ``datasets`` fetches and keeps. A folder of ``.jsonl`` files (read in the
        order of their names), one such file, or "own": the 64 pairs that ship with the library. Every line is an
        object with ``sentence_good`` and ``sentence_bad``, and optionally ``UID``, the paradigm, and
        ``linguistics_term``, the phenomenon; where one is missing it is named like the other, where both are, like the
        file. Other fields are ignored.
    n_per_paradigm : int, optional
        Keep only the first pairs of each paradigm, for a quick look; all by default.

    Returns
    -------
    StimulusSet
        Two items per pair, the good one first, with conditions "good" and "bad" and the labels ``pair``
        (unique over the set; what was sampled), ``paradigm`` and ``phenomenon``.

    Raises
    ------
    FileNotFoundError
        If the source does not exist or holds no ``.jsonl`` file.
    ValueError
        If a line is no JSON object, or a field is missing or blank; the message names file and line. If a set of the
        hub cannot be had.
    ImportError
        If a set of the hub is named and ``datasets`` is missing.

    Notes
    -----
    Seven of BLiMP's 67,000 pairs hold the same sentence twice (two in passive_1, five in principle_A_case_2).
    They are kept, as in every published number; no model can get them right, see `MinimalPairScores.n_ties`.
    """
    if n_per_paradigm is not None and n_per_paradigm < 1:
        raise ValueError(f"n_per_paradigm={n_per_paradigm}; expected at least 1 pair per paradigm, or None for all")
    items: list[str] = []
    labels: dict[str, list[str]] = {"pair": [], "paradigm": [], "phenomenon": []}
    n_pairs: Counter[str] = Counter()
    for pair, otherwise in _hub_pairs(str(source)) if _is_hub(source) else _file_pairs(source):
        phenomenon = str(pair.get("linguistics_term") or pair.get("UID") or otherwise)
        paradigm = str(pair.get("UID") or phenomenon)
        if n_per_paradigm is not None and n_pairs[paradigm] >= n_per_paradigm:
            continue
        items += [pair["sentence_good"], pair["sentence_bad"]]
        labels["pair"] += [f"{paradigm}/{n_pairs[paradigm]}"] * 2
        labels["paradigm"] += [paradigm] * 2
        labels["phenomenon"] += [phenomenon] * 2
        n_pairs[paradigm] += 1
    if not items:
        raise ValueError(f"{source} holds no minimal pair; expected one JSON object per line")
    own = str(source) == "own"
    return StimulusSet(
        name="own minimal pairs" if own else Path(source).stem,
        items=tuple(items),
        conditions=("good", "bad") * (len(items) // 2),
        labels={key: tuple(column) for key, column in labels.items()},
        source="written for this library" if own else str(source),
        licence="Apache-2.0" if own else "",
        sampled_by="pair",
    )


def _is_hub(source: str | Path) -> bool:
    return str(source) in HUB and not Path(source).exists()


def _hub_pairs(name: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Pairs of all configurations of a dataset, each with the name of its paradigm."""
    try:
        import datasets
        from datasets.exceptions import DatasetsError
    except ImportError as error:
        raise ImportError(
            f"minimal pairs {name!r} need datasets; run `pip install 'topographic[train]'`, or give a folder of "
            ".jsonl files"
        ) from error
    try:
        for paradigm in datasets.get_dataset_config_names(HUB[name]):
            for number, row in enumerate(datasets.load_dataset(HUB[name], paradigm, split="train"), start=1):
                yield _checked(dict(row), f"{HUB[name]}, {paradigm}, row {number}"), paradigm
    except (OSError, DatasetsError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"dataset {HUB[name]} cannot be had ({reason}); check the network, or give a folder of .jsonl files in "
            "BLiMP's layout"
        ) from error


def _file_pairs(source: str | Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Pairs of files, each with the name of its file."""
    for path in _files(source):
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            if line.strip():
                yield _pair(line, f"{path}, line {number}"), path.stem


def _files(source: str | Path) -> list[Path]:
    if str(source) == "own":
        return [OWN]
    path = Path(source)
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise FileNotFoundError(
            f"no minimal pairs at {str(source)!r}; expected a folder of .jsonl files in BLiMP's layout, "
            'one such file, "blimp", or "own"'
        )
    return files


def _pair(line: str, place: str) -> dict[str, Any]:
    try:
        pair = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place} is not JSON ({error.msg}); expected one object per line") from error
    if not isinstance(pair, dict):
        raise ValueError(f"{place} holds a {type(pair).__name__}; expected an object with the two sentences")
    return _checked(pair, place)


def _checked(pair: dict[str, Any], place: str) -> dict[str, Any]:
    """The pair, if it holds two sentences and names that are names."""
    for key in ("sentence_good", "sentence_bad"):
        if key not in pair:
            raise ValueError(f"{place} has no {key!r}; it has {sorted(pair)}: name the sentences as BLiMP does")
        if not isinstance(pair[key], str) or not pair[key].strip():
            raise ValueError(f"{place}: {key} is {pair[key]!r}; expected a sentence")
    for key in ("UID", "linguistics_term"):
        if not isinstance(pair.get(key) or "", (str, int)):
            raise ValueError(f"{place}: {key} is {pair[key]!r}; expected a name: give it one, or leave {key} out")
    return pair
