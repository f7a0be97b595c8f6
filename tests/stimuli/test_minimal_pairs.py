import json
import sys

import pytest

from topographic.stimuli import minimal_pairs
from topographic.stimuli.minimal_pairs import load_minimal_pairs
from topographic.stimuli.stimulus_set import StimulusSet


def write(path, *pairs):
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    return path


def pair(good="The dog runs.", bad="The dog run.", **further):
    return {"sentence_good": good, "sentence_bad": bad, **further}


def test_own_set_is_whole():
    own = load_minimal_pairs()
    assert isinstance(own, StimulusSet)
    assert own.conditions == ("good", "bad") * 64
    assert len(set(own.items)) == 128
    for label in own.labels.values():
        assert label[::2] == label[1::2]
    assert len(set(own.labels["pair"])) == 64
    phenomena = own.labels["phenomenon"][::2]
    names = ["anaphor_agreement", "determiner_noun_agreement", "npi_licensing", "subject_verb_agreement"]
    assert [(name, phenomena.count(name)) for name in sorted(set(phenomena))] == [(name, 16) for name in names]
    assert len(set(own.labels["paradigm"])) == 8
    # the words around the changed ones are shared: no pair differs in most of its words
    for good, bad in zip(own.items[::2], own.items[1::2], strict=True):
        changed = set(good.split()) ^ set(bad.split())
        assert 0 < len(changed) <= 4, (good, bad)
    assert own.select(phenomenon="npi_licensing", condition="bad").items[0] == "Somebody has ever climbed that hill."


def test_folder_is_read_in_the_order_of_its_names(tmp_path):
    write(tmp_path / "b.jsonl", pair("B good", "B bad", UID="second", linguistics_term="x", field="syntax"))
    write(tmp_path / "a.jsonl", pair("A good", "A bad", UID="first", linguistics_term="y", pairID="7"))
    (tmp_path / "notes.txt").write_text("not read")
    both = load_minimal_pairs(tmp_path)
    assert both.items == ("A good", "A bad", "B good", "B bad")
    assert both.labels["pair"] == ("first/0", "first/0", "second/0", "second/0")
    assert both.labels["paradigm"] == ("first", "first", "second", "second")
    assert both.labels["phenomenon"] == ("y", "y", "x", "x")
    assert both.name == tmp_path.name


def test_labels_stand_in_for_one_another(tmp_path):
    file = write(
        tmp_path / "mine.jsonl", pair(), pair(UID="only_uid"), pair(linguistics_term="only_term"), pair(UID="", bad="x")
    )
    mine = load_minimal_pairs(str(file))
    assert mine.labels["paradigm"][::2] == ("mine", "only_uid", "only_term", "mine")
    assert mine.labels["phenomenon"][::2] == ("mine", "only_uid", "only_term", "mine")
    assert mine.labels["pair"][::2] == ("mine/0", "only_uid/0", "only_term/0", "mine/1")


def test_first_pairs_of_each_paradigm(tmp_path):
    few = load_minimal_pairs(n_per_paradigm=3)
    assert len(few) == 2 * 3 * 8
    whole = load_minimal_pairs()
    assert few.items[6:8] == whole.items[16:18]
    with pytest.raises(ValueError, match="n_per_paradigm=0; expected at least 1"):
        load_minimal_pairs(n_per_paradigm=0)


def test_identical_sentences_are_kept(tmp_path):
    """BLiMP has seven such pairs; dropping them silently would change every number."""
    file = write(tmp_path / "p.jsonl", pair(bad="The dog runs."))
    assert load_minimal_pairs(file).items == ("The dog runs.", "The dog runs.")


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ('{"sentence_good": "A."}', r"pairs.jsonl, line 3 has no 'sentence_bad'; it has \['sentence_good'\]"),
        ('{"good": "A.", "bad": "B."}', "line 3 has no 'sentence_good'"),
        ('{"sentence_good": " ", "sentence_bad": "B."}', "line 3: sentence_good is ' '; expected a sentence"),
        ('{"sentence_good": "A.", "sentence_bad": 3}', "line 3: sentence_bad is 3; expected a sentence"),
        ('["A.", "B."]', "line 3 holds a list; expected an object"),
        ('{"sentence_good": "A.",', "line 3 is not JSON .*; expected one object per line"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, match):
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(pair()) + "\n\n" + line + "\n")
    with pytest.raises(ValueError, match=match) as raised:
        load_minimal_pairs(file)
    assert "\n" not in str(raised.value)


def test_missing_and_empty_sources(tmp_path):
    for source in (tmp_path / "nowhere", tmp_path, tmp_path / "no.jsonl"):
        with pytest.raises(FileNotFoundError, match=r"expected a folder of \.jsonl files in BLiMP's layout"):
            load_minimal_pairs(source)
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="holds no minimal pair"):
        load_minimal_pairs(tmp_path)


def test_blimp_loads_whole(shared):
    blimp = load_minimal_pairs(shared / "data/stimuli/blimp")
    assert len(blimp) == 2 * 67000
    assert len(set(blimp.labels["paradigm"])) == 67
    assert len(set(blimp.labels["phenomenon"])) == 13
    assert len(set(blimp.labels["pair"])) == 67000
    identical = [
        paradigm
        for good, bad, paradigm in zip(blimp.items[::2], blimp.items[1::2], blimp.labels["paradigm"][::2], strict=True)
        if good == bad
    ]
    assert sorted(identical) == ["passive_1"] * 2 + ["principle_A_case_2"] * 5


@pytest.mark.parametrize("key", ["sentence_good", "sentence_bad", "UID", "linguistics_term"])
def test_nothing_is_not_a_word(tmp_path, key):
    """JSON of Python may hold NaN, which once became a paradigm called "nan"."""
    write(tmp_path / "mine.jsonl", pair(), pair(**{key: float("nan")}))
    with pytest.raises(ValueError, match=rf"mine\.jsonl, line 2: {key} is nan; expected a"):
        load_minimal_pairs(tmp_path)


def test_pairs_are_what_was_sampled():
    assert load_minimal_pairs().sampled_by == "pair"


@pytest.fixture
def local_hub(tmp_path, monkeypatch):
    """A dataset of two configurations, as the hub has BLiMP, in a folder."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    configs = []
    for paradigm, phenomenon in {"anaphor_gender": "anaphor agreement", "passive_1": "argument structure"}.items():
        row = {"UID": paradigm, "linguistics_term": phenomenon, "field": "syntax", "pair_id": 0}
        rows = [{**row, "sentence_good": f"Good {n}.", "sentence_bad": f"Bad {n}."} for n in range(3)]
        file = tmp_path / "hub" / f"{paradigm}.jsonl"
        file.parent.mkdir(exist_ok=True)
        file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        configs.append(f"- config_name: {paradigm}\n  data_files:\n  - split: train\n    path: {file.name}")
    (tmp_path / "hub" / "README.md").write_text("---\nconfigs:\n" + "\n".join(configs) + "\n---\n", encoding="utf-8")
    monkeypatch.setitem(minimal_pairs.HUB, "blimp", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


def test_pairs_of_the_hub_by_name_are_those_of_its_files(local_hub):
    named, read = load_minimal_pairs("blimp"), load_minimal_pairs(local_hub)
    assert named.items == read.items
    assert named.labels == read.labels
    assert named.name == "blimp"
    assert len(load_minimal_pairs("blimp", n_per_paradigm=1)) == 4


def test_a_hub_that_cannot_be_had_says_so(local_hub, monkeypatch):
    monkeypatch.setitem(minimal_pairs.HUB, "blimp", str(local_hub / "absent"))
    with pytest.raises(ValueError, match=r"dataset .*absent cannot be had .*check the network, or give a folder"):
        load_minimal_pairs("blimp")


def test_without_datasets_the_extra_is_named(local_hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"minimal pairs 'blimp' need datasets; run `pip install 'topographic"):
        load_minimal_pairs("blimp")
