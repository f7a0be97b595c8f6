from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from topographic.stimuli import StimulusSet


@pytest.fixture
def stimuli():
    return StimulusSet(
        name="toy",
        items=["dog", "run", "idea", "seem"],
        conditions=["noun", "verb", "noun", "verb"],
        runs=["odd", "odd", "even", "even"],
        onset_s=[0, 1.5, 3, 4.5],
        labels={"concreteness": ["concrete", "concrete", "abstract", "abstract"]},
        source="written for this test",
        licence="Apache-2.0",
    )


def test_defaults():
    plain = StimulusSet("plain", ["a", "b"], ["x", "y"])
    assert plain.runs == ("1", "1")
    assert plain.onset_s is None
    assert len(plain) == 2
    assert plain.condition_names == ("x", "y")


def test_conditions_are_counted_in_order_of_appearance(stimuli):
    assert repr(stimuli) == "StimulusSet('toy': 2 noun, 2 verb)"
    assert stimuli.take([3, 0]).condition_names == ("verb", "noun")


def test_select_by_condition_run_and_label(stimuli):
    assert stimuli.select(condition="verb").items == ("run", "seem")
    assert stimuli.select(run="even", condition="noun").items == ("idea",)
    assert stimuli.select(concreteness=["abstract", "concrete"]) == stimuli
    assert stimuli.select(concreteness="abstract").onset_s == (3.0, 4.5)


def test_take_keeps_every_column_aligned(stimuli):
    taken = stimuli.take([2, 0, 2])
    assert taken.items == ("idea", "dog", "idea")
    assert taken.runs == ("even", "odd", "even")
    assert taken.onset_s == (3.0, 0.0, 3.0)
    assert taken.labels == {"concreteness": ("abstract", "concrete", "abstract")}
    assert (taken.source, taken.licence) == (stimuli.source, stimuli.licence)


def test_select_refuses(stimuli):
    with pytest.raises(ValueError, match=r"has no column 'length'; it has \['concreteness', 'condition', 'run'\]"):
        stimuli.select(length="4")
    with pytest.raises(ValueError, match="no item matches"):
        stimuli.select(condition="adverb")


def test_equality_is_of_name_and_content(stimuli):
    same = StimulusSet.from_json(stimuli.to_json())
    assert same == stimuli
    assert hash(same) == hash(stimuli)
    assert stimuli.take([0, 1, 2]) != stimuli
    assert StimulusSet("toy", stimuli.items, stimuli.conditions) != stimuli
    assert StimulusSet("other", ["a"], ["x"]) != StimulusSet("toy", ["a"], ["x"])
    assert StimulusSet("toy", ["a"], ["x"]) != "toy"


@pytest.mark.parametrize(
    "change",
    [
        {"items": ["dog", "run", "idea", "appear"]},
        {"conditions": ["noun", "verb", "verb", "verb"]},
        {"runs": ["odd", "odd", "even", "odd"]},
        {"onset_s": [0, 1.5, 3, 4]},
        {"labels": {"concreteness": ["concrete"] * 4}},
        {"labels": {"kind": ["concrete", "concrete", "abstract", "abstract"]}},
    ],
)
def test_checksum_sees_every_column(stimuli, change):
    content = {key: entry for key, entry in stimuli.to_json().items() if key != "checksum"}
    assert StimulusSet(**{**content, **change}).checksum != stimuli.checksum


def test_round_trip(stimuli, tmp_path):
    stimuli.save(tmp_path / "toy.json")
    loaded = StimulusSet.load(tmp_path / "toy.json")
    assert loaded == stimuli
    assert loaded.to_json() == stimuli.to_json()
    assert loaded.source == stimuli.source


def test_a_changed_file_is_refused(stimuli, tmp_path):
    stimuli.save(tmp_path / "toy.json")
    text = (tmp_path / "toy.json").read_text()
    (tmp_path / "toy.json").write_text(text.replace("idea", "idol"))
    with pytest.raises(ValueError, match="stimulus set 'toy': content does not fit its checksum"):
        StimulusSet.load(tmp_path / "toy.json")


def test_not_changeable(stimuli):
    with pytest.raises(AttributeError):
        stimuli.items = ("cat",)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"items": [], "conditions": []}, "stimulus set 'toy' has no items"),
        ({"items": ["dog", " \n"], "conditions": ["a", "b"]}, "item 1 is blank; remove it or give it text"),
        ({"items": ["dog"], "conditions": ["a", "b"]}, "conditions has length 2 for 1 items"),
        ({"items": ["dog"], "conditions": "a"}, "conditions has length 1 for 1 items"),
        ({"items": ["dog"], "conditions": ["a"], "runs": ["1", "2"]}, "runs has length 2 for 1 items"),
        ({"items": ["dog"], "conditions": ["a"], "labels": {"kind": []}}, "kind has length 0 for 1 items"),
        ({"items": ["dog"], "conditions": ["a"], "onset_s": [float("nan")]}, "onset_s needs 1 finite times"),
        ({"items": ["dog"], "conditions": ["a"], "onset_s": [0.0, 1.0]}, "onset_s needs 1 finite times"),
    ],
)
def test_refuses(fields, message):
    with pytest.raises(ValueError, match=message):
        StimulusSet(name="toy", **fields)


@pytest.mark.parametrize("nothing", [None, float("nan"), np.float64("nan"), pd.NA])
@pytest.mark.parametrize("key", ["items", "conditions", "runs", "labels"])
def test_nothing_is_not_a_word(key, nothing):
    """None and NaN once became the words "None" and "nan"."""
    columns = {"items": ["dog", "run"], "conditions": ["noun", "verb"]}
    columns[key] = {"kind": ["a", nothing]} if key == "labels" else ["a", nothing]
    shown = "kind" if key == "labels" else key
    with pytest.raises(ValueError, match=rf"set 'toy': {shown}\[1\] is .*; remove that item, or give it text"):
        StimulusSet("toy", **columns)
    assert StimulusSet("toy", ["None", "nan"], ["a", "b"]).items == ("None", "nan")


def test_one_string_is_no_list_of_items():
    with pytest.raises(ValueError, match="set 'toy' has no items; expected a list"):
        StimulusSet("toy", "ab", ["x", "y"])


def test_as_a_table(stimuli):
    frame = stimuli.to_frame()
    assert list(frame.columns) == ["text", "condition", "run", "onset_s", "concreteness"]
    assert frame["text"].tolist() == list(stimuli.items)
    assert frame["onset_s"].tolist() == [0, 1.5, 3, 4.5]
    assert stimuli.find(condition="verb").tolist() == [1, 3]


def test_a_repr_is_one_line_however_many_conditions():
    many = StimulusSet("many", [f"item {number}" for number in range(12)], [f"c{number}" for number in range(12)])
    assert repr(many).endswith("1 c9, ... (12 conditions))")


def test_what_was_sampled_is_kept(tmp_path):
    plain = StimulusSet("s", ["a b", "c d"], ["x", "y"], labels={"word": ["a", "c"]})
    words = replace(plain, sampled_by="word")
    assert plain.sampled_by is None
    assert words.checksum != plain.checksum
    words.save(tmp_path / "s.json")
    assert StimulusSet.load(tmp_path / "s.json").sampled_by == "word"
    assert words.take([1]).sampled_by == "word"
    # files of before do not say
    content = {key: entry for key, entry in plain.to_json().items() if key != "sampled_by"}
    assert StimulusSet.from_json(content) == plain
    with pytest.raises(ValueError, match=r"sampled_by='speaker' is no label column; it has \['word'\]: name one"):
        replace(plain, sampled_by="speaker")
