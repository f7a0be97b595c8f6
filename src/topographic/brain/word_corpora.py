"""Corpora that were read or heard word by word: what the brain or the eye did at every word, and the texts."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, no_type_check

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from topographic.recording.alignment import align_words
from topographic.storage import digest, read_text

__all__ = [
    "ERP_COMPONENTS",
    "SentenceCorpus",
    "WordCorpus",
    "length_and_position",
    "load_sentence_corpora",
    "load_word_corpora",
    "load_word_corpus",
]

ERP_COMPONENTS = ("ELAN", "LAN", "N400", "EPNP", "P600", "PNP")
_READING = {
    "self_paced_reading_time": "self-paced reading time (ms)",
    "RTfirstfix": "first fixation (ms)",
    "RTfirstpass": "first-pass time (ms)",
    "RTrightbound": "right-bounded time (ms)",
    "RTgopast": "go-past time (ms)",
}
_ABOUT = ("text_id", "position", "word", "log_freq", "length")  # columns of a corpus that are no measure


@no_type_check  # lists are welcome: __post_init__ converts and checks what the fields then hold
@dataclass(frozen=True, eq=False)
class WordCorpus:
    """Texts, and one or more measures of some of their words.

    Parameters
    ----------
    name : str
        Name.
    texts : sequence of str
        Texts or sentences as they were read; words are what white space separates.
    text : ndarray of int, shape (words,)
        Text of every measured word, from 0.
    position : ndarray of int, shape (words,)
        Place of every measured word in its text, from 0.
    measures : mapping of str to ndarray, shape (words,)
        What was measured; NaN where it was not.
    log_frequencies : ndarray, shape (words,)
        Log frequency of every word; one that is missing (NaN) becomes the lowest of the others.
    surprisal : mapping of str to ndarray, shape (words,)
        Surprisal that came with the data, by the model it is of.

    Raises
    ------
    ValueError
        If lengths differ, or a word does not exist.
    """

    name: str
    texts: tuple[str, ...]
    text: Int[np.ndarray, " words"]
    position: Int[np.ndarray, " words"]
    measures: Mapping[str, Float[np.ndarray, " words"]]
    log_frequencies: Float[np.ndarray, " words"]
    surprisal: Mapping[str, Float[np.ndarray, " words"]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Convert, then refuse words that are not there."""
        object.__setattr__(self, "texts", tuple(self.texts))
        for name in ("text", "position"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.int64))
        frequencies = np.asarray(self.log_frequencies, dtype=np.float64)
        known = np.isfinite(frequencies)
        # a word that the list of frequencies does not have is as rare as its rarest
        rarest = frequencies[known].min() if known.any() else 0.0
        object.__setattr__(self, "log_frequencies", np.where(known, frequencies, rarest))
        for name in ("measures", "surprisal"):
            kept = {key: np.asarray(values, dtype=np.float64) for key, values in getattr(self, name).items()}
            object.__setattr__(self, name, kept)
        columns = {"position": self.position, "log_frequencies": self.log_frequencies, **self.measures}
        for name, values in {**columns, **self.surprisal}.items():
            if values.shape != self.text.shape:
                raise ValueError(
                    f"corpus {self.name!r}: {name!r} has {len(values)} entries for {len(self.text)} words; expected "
                    "one per word"
                )
        if not self.measures or not len(self.text):
            raise ValueError(f"corpus {self.name!r} has no measured word; expected one or more")
        n_words = np.array([len(text.split()) for text in self.texts])
        absent = (self.text < 0) | (self.text >= len(n_words))
        absent |= (self.position < 0) | (self.position >= n_words[np.where(absent, 0, self.text)])
        if absent.any():
            row = int(absent.argmax())
            raise ValueError(
                f"corpus {self.name!r}: row {row} names word {self.position[row]} of text {self.text[row]}, which "
                "does not exist; positions count words from 0, texts too"
            )

    def __len__(self) -> int:
        """Number of measured words."""
        return len(self.text)

    def __repr__(self) -> str:
        """One line."""
        n_texts = len(np.unique(self.text))
        return f"WordCorpus({self.name!r}: {len(self)} words in {n_texts} texts, {', '.join(self.measures)})"

    @property
    def words(self) -> tuple[str, ...]:
        """The measured words as they stand in their texts."""
        split = [text.split() for text in self.texts]
        return tuple(split[text][place] for text, place in zip(self.text, self.position, strict=True))

    @property
    def types(self) -> tuple[str, ...]:
        """The words in lower case, without punctuation."""
        return tuple(_bare(word) for word in self.words)

    @property
    def checksum(self) -> str:
        """Of everything in it."""
        arrays = [self.text, self.position, self.log_frequencies, *self.measures.values(), *self.surprisal.values()]
        kept = [one.tolist() for one in np.nan_to_num(np.stack(arrays), nan=-1e9)]
        return digest([self.name, list(self.texts), list(self.measures), list(self.surprisal), kept])

    def controls(self, spill_over: int = 0, tokenizer: Any = None) -> dict[str, Float[np.ndarray, " words"]]:
        """Length, log frequency, punctuation of every word and of the words before it, and the place in its text.

        Punctuation says whether a mark follows the word: readers pause at the ends of clauses and sentences, and a
        model has one token more there, so that even the surprisal of an untrained one tells these words from others.

        With the tokenizer of a model that reads the texts also into how many tokens words fall (`AlignedWords`):
        surprisal is summed over them, and the state after a word tells how many there were, whatever they say.

        A word before the first of its text has none (NaN), nor has the frequency of a word form that was nowhere
        measured; those rows cannot be used with this much spill-over.
        """
        frequency_of = dict(zip(self.types, self.log_frequencies, strict=True))
        words = [text.split() for text in self.texts]
        split = [[_bare(word) for word in text] for text in words]
        marked = [np.array([not word[-1].isalnum() for word in text], dtype=np.float64) for text in words]
        counts = None
        if tokenizer is not None:
            counts = [align_words(tokenizer, text.split(), text).n_tokens.astype(np.float64) for text in self.texts]
        found: dict[str, np.ndarray] = {"position": self.position.astype(np.float64)}
        for back in range(spill_over + 1):
            rows = list(zip(self.text, self.position - back, strict=True))
            forms = [split[text][place] if place >= 0 else None for text, place in rows]
            of = f" of word {back} before" if back else ""
            found[f"length{of}"] = np.array([np.nan if one is None else len(one) for one in forms])
            given = self.log_frequencies if back == 0 else [frequency_of.get(one or "", np.nan) for one in forms]
            found[f"log frequency{of}"] = np.asarray(given, dtype=np.float64)
            found[f"punctuation{of}"] = self.shifted(marked, back)
            if counts is not None:
                found[f"tokens{of}"] = self.shifted(counts, back)
        return found

    def per_word(self, values: Sequence[np.ndarray]) -> Float[np.ndarray, " words"]:
        """Of values of all words of all texts, those of the measured words."""
        return np.array([values[text][place] for text, place in zip(self.text, self.position, strict=True)])

    def shifted(self, values: Sequence[np.ndarray], back: int) -> Float[np.ndarray, " words"]:
        """The values of the word so many places before; NaN where there is none."""
        rows = zip(self.text, self.position - back, strict=True)
        return np.array([values[text][place] if place >= 0 else np.nan for text, place in rows])


@no_type_check
@dataclass(frozen=True, eq=False)
class SentenceCorpus:
    """Sentences, one number for each, and the passage or topic that each belongs to."""

    name: str
    sentences: tuple[str, ...]
    groups: tuple[str, ...]
    response: Float[np.ndarray, " sentences"]

    def __post_init__(self) -> None:
        """Convert, then refuse lengths that differ."""
        object.__setattr__(self, "response", np.asarray(self.response, dtype=np.float64))
        if not len(self.sentences) == len(self.groups) == len(self.response):
            raise ValueError(
                f"corpus {self.name!r}: {len(self.sentences)} sentences, {len(self.groups)} groups, "
                f"{len(self.response)} responses; expected as many"
            )

    def __len__(self) -> int:
        """Number of sentences."""
        return len(self.sentences)

    @property
    def checksum(self) -> str:
        """Of everything in it."""
        return digest([self.name, list(self.sentences), list(self.groups), self.response.tolist()])

    def controls(self) -> dict[str, Float[np.ndarray, " sentences"]]:
        """Numbers of words and of letters, and the place in its group."""
        return length_and_position(self.sentences, self.groups)


def length_and_position(texts: Sequence[str], groups: Sequence[str]) -> dict[str, Float[np.ndarray, " texts"]]:
    """Numbers of words and of letters of texts, and the place of each among those of its group."""
    seen: dict[str, int] = {}
    place = []
    for group in groups:
        seen[group] = seen.get(group, -1) + 1
        place.append(seen[group])
    return {
        "words": np.array([len(one.split()) for one in texts], dtype=np.float64),
        "letters": np.array([len(one) for one in texts], dtype=np.float64),
        "position": np.array(place, dtype=np.float64),
    }


def load_word_corpora(folder: str | Path) -> dict[str, WordCorpus]:
    """Every corpus below a folder that was measured word by word.

    Parameters
    ----------
    folder : str or Path
        Below it ``NAME.csv`` beside ``NAME_texts.txt`` (`load_word_corpus`), or ``all_measures.csv`` of the UCL corpus
        (de Varda, Marelli & Amenta 2023), with event-related potentials.

    Returns
    -------
    dict of str to WordCorpus
        By name, the potentials first.

    Raises
    ------
    FileNotFoundError
        If the folder is not there.
    ValueError
        If a file cannot be read.

    References
    ----------
    Frank et al. 2013, 2015; de Varda, Marelli & Amenta 2023, Behav. Res. Methods; de Varda & Marelli 2024 (CMCL).
    """
    folder = _folder(folder)
    found = {}
    for file in sorted(folder.rglob("all_measures.csv")):
        found["ucl_erp"] = _load_ucl(file)
    for texts in sorted(folder.rglob("*_texts.txt")):
        file = texts.with_name(texts.name.removesuffix("_texts.txt") + ".csv")
        if file.is_file():
            found[file.stem] = load_word_corpus(file)
    return found


def load_word_corpus(file: str | Path) -> WordCorpus:
    """Read a corpus of one's own.

    Parameters
    ----------
    file : str or Path
        ``NAME.csv`` with a row per measured word: ``text_id`` (line of the text, from 0), ``position`` (of the word in
        it, from 0), ``word``, ``log_freq``; every other column but ``length`` is a measure. Beside it
        ``NAME_texts.txt``, one text a line.

    Returns
    -------
    WordCorpus
        Named as the file.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file or column is missing, or a word is not where its row says.
    """
    file = Path(file)
    lines = file.with_name(f"{file.stem}_texts.txt")
    for needed in (file, lines):
        if not needed.is_file():
            raise FileNotFoundError(f"no {needed}; expected NAME.csv beside NAME_texts.txt, one text a line")
    rows = _rows(file, ("text_id", "position", "word", "log_freq"))
    texts = tuple(read_text(lines).rstrip("\n").split("\n"))
    names = [name for name in rows[0] if name not in _ABOUT]
    corpus = WordCorpus(
        file.stem,
        texts,
        np.array([int(float(row["text_id"])) for row in rows]),
        np.array([int(float(row["position"])) for row in rows]),
        {f"{name} (ms)" if name == "rt" else name: _column(rows, name) for name in names},
        _column(rows, "log_freq"),
    )
    for row, word in enumerate(corpus.words):
        if _bare(word) != _bare(rows[row]["word"]):
            raise ValueError(
                f"{file}: row {row} says {rows[row]['word']!r} where its text has {word!r}; positions count words "
                "from 0"
            )
    return corpus


def load_sentence_corpora(folder: str | Path) -> dict[str, SentenceCorpus]:
    """Sentences with one response each: averages over the language network of Pereira et al. 2018, by experiment.

    Parameters
    ----------
    folder : str or Path
        Below it ``pereira2018_langnet_avg.csv`` with ``experiment``, ``story``, ``sentence``, ``effect_size``.

    Returns
    -------
    dict of str to SentenceCorpus
        By experiment; empty where there is no such file.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder is not there, or a column is missing.
    """
    found = {}
    for file in sorted(_folder(folder).rglob("pereira2018_langnet_avg.csv")):
        table = pd.DataFrame(_rows(file, ("experiment", "story", "sentence", "effect_size")))
        for name, part in table.groupby("experiment", sort=True):
            response = part["effect_size"].astype(float).to_numpy()
            found[str(name)] = SentenceCorpus(
                str(name), tuple(part["sentence"].tolist()), tuple(part["story"].tolist()), response
            )
    return found


def _load_ucl(file: Path) -> WordCorpus:
    needed = ("sentence", "sent_id", "context_length", "word", "Subtlex_log10", *ERP_COMPONENTS)
    rows = _rows(file, needed)
    order = sorted(range(len(rows)), key=lambda row: (int(rows[row]["sent_id"]), int(rows[row]["context_length"])))
    rows = [rows[row] for row in order]
    text_of = {sentence: index for index, sentence in enumerate(dict.fromkeys(row["sentence"] for row in rows))}
    measures = {name: _column(rows, name) for name in ERP_COMPONENTS}
    measures |= {title: _column(rows, name) for name, title in _READING.items() if name in rows[0]}
    given = {name.removeprefix("s_").replace("_", "-"): name for name in rows[0] if name.startswith("s_GPT")}
    given |= {"cloze": "cloze_s", "trigrams": "trigram", "recurrent network": "rnn"}
    return WordCorpus(
        "ucl_erp",
        tuple(text_of),
        np.array([text_of[row["sentence"]] for row in rows]),
        np.array([int(row["context_length"]) for row in rows]),
        measures,
        _column(rows, "Subtlex_log10"),
        {title: _column(rows, name) for title, name in given.items() if name in rows[0]},
    )


def _rows(file: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    with open(file, encoding="utf-8-sig", newline="") as opened:
        rows = list(csv.DictReader(opened))
    if missing := [name for name in needed if not rows or name not in rows[0]]:
        raise ValueError(f"{file} has no column {missing[0]!r}; expected {', '.join(needed)} and a row per item")
    return rows


def _column(rows: Sequence[Mapping[str, str]], name: str) -> Float[np.ndarray, " words"]:
    try:
        return np.array([float(row[name]) if row[name].strip() not in ("", "NA") else np.nan for row in rows])
    except ValueError as error:
        raise ValueError(f"column {name!r}: {error}; a measure is a number, or empty where there is none") from error


def _bare(word: str) -> str:
    return re.sub(r"[^\w]|_", "", word).lower()


def _folder(folder: str | Path) -> Path:
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"no folder {folder}; give one with corpora below it")
    return Path(folder)
