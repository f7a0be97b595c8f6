import csv
import gzip
import json
import sys

import numpy as np
import pytest

from topographic.training.finetuning.glue import TASKS
from topographic.training.finetuning.labelled import (
    READERS,
    LabelledDataConfig,
    LabelledItems,
    load_labelled,
    read_labelled,
)

PAIRS = [
    ("The cat sat.", "A cat, sitting.", "entailment"),
    ('He said "no".', "He agreed", "not_entailment"),
    ("It rains ", " It is wet", "entailment"),
]
READ = [tuple(text.strip() for text in pair[:2]) for pair in PAIRS]


def write(path, rows, header=()):
    """Rows of texts and a label, in the form the suffix says."""
    opener = gzip.open if path.suffix == ".gz" else open
    kind = path.suffixes[0]
    with opener(path, "wt", encoding="utf-8", newline="") as opened:
        if kind == ".jsonl":
            names = header or ("sentence1", "sentence2", "label")
            opened.writelines(json.dumps(dict(zip(names, row, strict=True))) + "\n\n" for row in rows)
        elif kind == ".tsv":
            opened.writelines("\t".join(map(str, row)) + "\n" for row in ([header] if header else []) + list(rows))
        else:
            csv.writer(opened).writerows(([header] if header else []) + list(rows))
    return path


@pytest.mark.parametrize("suffix", [*READERS, *(f"{suffix}.gz" for suffix in READERS)])
@pytest.mark.parametrize("header", [(), ("sentence1", "sentence2", "label")])
def test_every_kind_of_file_gives_the_same_items(tmp_path, suffix, header):
    items = read_labelled(write(tmp_path / f"rte{suffix}", PAIRS, header), TASKS["rte"])
    assert items.texts == tuple(READ)
    assert items.labels.tolist() == [0, 1, 0]
    assert items.labels.dtype == np.int64
    assert len(items) == 3


def test_columns_are_found_by_their_names(tmp_path):
    rows = [(7, label, second, first) for first, second, label in PAIRS]
    path = write(tmp_path / "rte.tsv", rows, ("index", "gold", "hypothesis", "premise"))
    items = read_labelled(path, TASKS["rte"], ["premise", "hypothesis"], "gold")
    assert items.texts == tuple(READ)


def test_labels_are_numbers_names_or_scores(tmp_path):
    numbers = write(tmp_path / "a.jsonl", [("x", "y", 1), ("x", "y", "0"), ("x", "y", "entailment")])
    assert read_labelled(numbers, TASKS["rte"]).labels.tolist() == [1, 0, 0]
    scores = write(tmp_path / "b.tsv", [("x", "y", "3.75"), ("x", "y", "0"), ("x", "y", "5")])
    read = read_labelled(scores, TASKS["stsb"])
    assert read.labels.tolist() == [3.75, 0, 5]
    assert read.labels.dtype == np.float32


def test_the_checksum_is_that_of_texts_and_labels(tmp_path):
    one, two = (read_labelled(write(tmp_path / name, PAIRS), TASKS["rte"]) for name in ("a.tsv", "b.csv"))
    assert one.checksum == two.checksum
    assert one.checksum != one.take([1, 0, 2]).checksum
    assert one.take([1, 0, 2]).take(np.array([1, 0, 2])).checksum == one.checksum
    assert one.checksum != LabelledItems(one.texts, 1 - one.labels, "").checksum


@pytest.mark.parametrize(("file", "n_items", "first"), [("sent_train", 6920, 1), ("sent_dev", 872, 0)])
def test_sst2_as_it_lies_on_the_disk(shared, file, n_items, first):
    """Text, tab, label; no header."""
    path = shared / "data" / "corpora" / "sst2" / f"{file}.tsv"
    items = read_labelled(path, TASKS["sst2"])
    assert len(items) == n_items
    assert items.labels[0] == first
    assert items.labels.sum() == sum(line.rstrip().endswith("1") for line in path.read_text().splitlines())


def test_a_task_is_found_by_its_pattern(tmp_path):
    for split in ("train", "validation_matched", "validation_mismatched"):
        write(tmp_path / f"mnli-{split}.tsv", [(split, "second", "neutral"), (split, "second", 0)])
    pattern = str(tmp_path / "{task}-{split}.tsv")
    found = load_labelled("mnli", LabelledDataConfig(train=pattern, validation=pattern))
    assert {name: items.texts[0][0] for name, items in found.items()} == {
        "train": "train",
        "mnli-m": "validation_matched",
        "mnli-mm": "validation_mismatched",
    }
    assert found["mnli-m"].labels.tolist() == [1, 0]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A data set in the hub's form, one configuration per task, in a folder."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "glue"
    configs = []
    for task, splits in {"sst2": ("train", "validation"), "mnli": ("train", *TASKS["mnli"].splits.values())}.items():
        (folder / task).mkdir(parents=True)
        files = []
        for split in splits:
            names = (*TASKS[task].texts, "label", "idx")
            rows = [(*(f"{task} {split} {name}" for name in names[:-2]), k % 2, k) for k in range(4)]
            write(folder / task / f"{split}.jsonl", rows, names)
            files.append(f"  - split: {split}\n    path: {task}/{split}.jsonl")
        configs.append(f"- config_name: {task}\n  data_files:\n" + "\n".join(files))
    (folder / "README.md").write_text("---\nconfigs:\n" + "\n".join(configs) + "\n---\n", encoding="utf-8")
    return str(folder)


def test_hub_names(hub):
    found = load_labelled("sst2", LabelledDataConfig(hub=hub))
    assert list(found) == ["train", "sst2"]
    assert found["sst2"].texts[0] == ("sst2 validation sentence",)
    assert found["train"].labels.tolist() == [0, 1, 0, 1]
    both = load_labelled("mnli", LabelledDataConfig(hub=hub))
    assert both["mnli-mm"].texts[0] == ("mnli validation_mismatched premise", "mnli validation_mismatched hypothesis")
    assert both["mnli-mm"].source == f"{hub}, configuration mnli, split validation_mismatched"


def test_what_a_hub_cannot_give(hub):
    with pytest.raises(ValueError, match=r"could not load .*configuration cola.*or give files: data\.train="):
        load_labelled("cola", LabelledDataConfig(hub=hub))
    with pytest.raises(ValueError, match=r"no column 'text', it has \['sentence', 'label', 'idx'\]"):
        load_labelled("sst2", LabelledDataConfig(hub=hub, text_columns=["text"]))


def test_without_datasets_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"need datasets; run `pip install 'topographic\[train\]'`"):
        load_labelled("sst2", LabelledDataConfig())


def test_unknown_task():
    with pytest.raises(ValueError, match="no task 'glue'; expected one of cola"):
        load_labelled("glue", LabelledDataConfig())


@pytest.mark.parametrize(
    ("task", "name", "content", "message"),
    [
        (
            "rte",
            "a.tsv",
            "one\ttwo\t2\n",
            r"line 1 has the label '2'; expected 0 \(entailment\) or 1 \(not_entai",
        ),
        ("rte", "a.tsv", "one\ttwo\t-1\n", r"label '-1'; expected 0"),
        ("rte", "a.tsv", "a\tb\t0\none\ttwo\tperhaps\n", r"line 2 has the label 'perhaps'"),
        ("stsb", "a.tsv", "one\ttwo\t5.5\n", r"label '5.5'; expected a score of 0 to 5"),
        ("stsb", "a.tsv", "one\ttwo\tnan\n", r"label 'nan'; expected a score of 0 to 5"),
        ("stsb", "a.tsv", "one\ttwo\thigh\n", r"label 'high'; expected a score of 0 to 5"),
        ("rte", "a.tsv", "one\t0\n", r"a.tsv has 2 columns and no header that names sentence1, sentence2, label; set"),
        ("rte", "a.tsv", "sentence1\tsentence2\tgold\nx\ty\t0\n", r"line 1 has the label 'gold'; .*data.label_column"),
        ("sst2", "a.tsv", "fine\t1\nalso fine\n", r"line 2 has 1 columns; expected 2 \(sentence, label\)"),
        ("sst2", "a.tsv", "  \t1\n", r"line 1 holds \['  '\]; expected 1 texts with words in them"),
        ("sst2", "a.tsv", "\n\n", "a.tsv is empty; expected labelled texts"),
        (
            "sst2",
            "a.jsonl",
            '{"text": "x", "label": 1}\n',
            r"no column 'sentence', it has \['text', 'label'\]; set data",
        ),
        ("sst2", "a.jsonl", '{"sentence": 3, "label": 1}\n', r"line 1 holds \[3\]; expected 1 texts"),
        ("sst2", "a.jsonl", '{"sentence": "x", "label": true}\n', r"has the label True; expected 0 \(negative\)"),
        ("sst2", "a.jsonl", '{"sentence": "x"\n', "line 1 is not JSON"),
        ("sst2", "a.jsonl", '["x", 1]\n', "line 1 holds a list; expected an object per line"),
        ("sst2", "a.parquet", "x", "a.parquet is none of .tsv, .csv, .jsonl"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, task, name, content, message):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        read_labelled(path, TASKS[task])
    assert "\n" not in str(caught.value)


def test_damaged_and_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no labelled texts at .*none.tsv; correct data.train"):
        read_labelled(tmp_path / "none.tsv", TASKS["sst2"])
    whole = gzip.compress("".join(f"text number {k}\t1\n" for k in range(500)).encode())
    (tmp_path / "a.tsv.gz").write_bytes(whole[:-40])
    with pytest.raises(ValueError, match=r"a.tsv.gz is truncated or damaged"):
        read_labelled(tmp_path / "a.tsv.gz", TASKS["sst2"])
    (tmp_path / "b.tsv").write_bytes(b"caf\xe9\t1\n")
    with pytest.raises(ValueError, match=r"b.tsv is not UTF-8 text"):
        read_labelled(tmp_path / "b.tsv", TASKS["sst2"])
    with pytest.raises(ValueError, match=r"data.text_columns=\['a'\]; the task has 2 texts per item"):
        read_labelled(write(tmp_path / "c.tsv", PAIRS), TASKS["rte"], ["a"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": "a.tsv"}, r"data.train=a.tsv with data.validation=None; give both files, or neither"),
        ({"separator": ""}, "data.separator is empty"),
        ({"max_tokens": 7}, "data.max_tokens=7; expected at least 8"),
        ({"train_items": 0}, "data.train_items=0; expected at least 1"),
        ({"stopping_fraction": 1.0}, "data.stopping_fraction=1.0; expected 0 to below 1"),
    ],
)
def test_configurations_that_cannot_be_met(options, message):
    with pytest.raises(ValueError, match=message):
        LabelledDataConfig(**options)
