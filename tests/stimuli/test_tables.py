import numpy as np
import pandas as pd
import pytest

from topographic.stimuli import StimulusSet, load_localizer, stimuli_from
from topographic.stimuli.tables import read_table

FRAME = pd.DataFrame({
    "text": ["a dog", "to run", "none of it"],
    "condition": ["noun", "verb", "noun"],
    "session": [1, 1, 2],
    "length": [2, 2, 3],
})


def test_a_frame_becomes_a_set():
    stimuli = stimuli_from(FRAME, run="session", name="toy")
    expected = StimulusSet(
        "toy", FRAME["text"], FRAME["condition"], ["1", "1", "2"], labels={"length": ["2", "2", "3"]}
    )
    assert stimuli == expected
    renamed = FRAME.rename(columns={"text": "sentence", "condition": "kind"})
    assert stimuli_from(renamed, "sentence", "kind", run="session", name="toy") == expected
    assert stimuli_from(FRAME).labels["session"] == ("1", "1", "2")


def test_the_round_trip_of_a_set():
    stimuli = load_localizer("nouns_verbs")
    assert stimuli_from(stimuli.to_frame(), run="run", name=stimuli.name) == stimuli
    timed = StimulusSet("timed", ["a", "b"], ["x", "y"], onset_s=[0, 1.5])
    assert stimuli_from(timed.to_frame(), run="run", name="timed") == timed


@pytest.mark.parametrize("separator", [",", "\t"])
def test_a_file_gives_what_its_frame_gives(tmp_path, separator):
    path = tmp_path / "toy.csv"
    FRAME.to_csv(path, sep=separator)  # with the index, in a column without a name
    assert stimuli_from(path, run="session") == stimuli_from(FRAME, run="session", name="toy")
    assert stimuli_from(str(path)).source == str(path)
    path.write_bytes(b"\xef\xbb\xbf" + b'text,condition\n"one, two",x\n\n"null",y\n')
    assert stimuli_from(path).items == ("one, two", "null")


@pytest.mark.parametrize("column", ["text", "condition", "session", "length"])
@pytest.mark.parametrize("nothing", [None, np.nan, pd.NA])
def test_nothing_is_not_a_word(tmp_path, column, nothing):
    frame = FRAME.astype(object)
    frame.loc[1, column] = nothing
    message = f"there is nothing in column '{column}'; fill it in, or leave out the row or the column"
    with pytest.raises(ValueError, match=f"the table, row 1: {message}"):
        stimuli_from(frame, run="session")
    for written in ("", "nan", "None"):
        frame.to_csv(tmp_path / "toy.csv", index=False, na_rep=written)
        with pytest.raises(ValueError, match=rf"toy\.csv, line 3: {message}"):
            stimuli_from(tmp_path / "toy.csv", run="session")


def test_columns_that_are_missing_are_named_beside_those_that_are_there(tmp_path):
    frame = FRAME.drop(columns="text")
    with pytest.raises(ValueError, match="the table has no column 'text', 'block'; it has 'condition', 'session', 'le"):
        stimuli_from(frame, run="block")
    frame.to_csv(tmp_path / "toy.csv", index=False)
    with pytest.raises(
        ValueError, match=r"toy\.csv has no column 'text'; it has .*: rename its columns, or say with t"
    ):
        stimuli_from(tmp_path / "toy.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no column 'text', 'condition'; it has none"),
        (b"text,condition\n", "has no items"),
        (b"text,condition\na,b,x\n", "line 2 has 3 cells and the header 2; quote cells that hold commas"),
        (b'text,condition\n"a,x\n', "is not a text table"),
        (b"text,condition\n\xff,x\n", "is not a text table"),
        (b"text,condition,a,a\nx,y,1,2\n", "has two columns 'a'; expected different names"),
        (b"text,condition,onset_s\nx,y,soon\n", "onset_s needs 1 finite times"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, content, message):
    (tmp_path / "toy.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message) as refused:
        stimuli_from(tmp_path / "toy.csv")
    assert "\n" not in str(refused.value)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no table at .*toy\.csv; give a \.csv or \.tsv file"):
        read_table(tmp_path / "toy.csv", [], "")


def test_a_table_says_what_was_sampled():
    frame = pd.DataFrame({"text": ["a", "b"], "condition": ["x", "y"], "speaker": ["1", "2"]})
    declared = stimuli_from(frame, sampled_by="speaker")
    assert declared.sampled_by == "speaker"
    assert stimuli_from(declared.to_frame(), run="run").sampled_by == "speaker", "there and back"
    assert stimuli_from(frame).sampled_by is None
    assert declared.to_frame().attrs == {"sampled_by": "speaker"}


def test_the_column_run_is_read_where_there_is_one():
    frame = pd.DataFrame({"text": ["a", "b"], "condition": ["x", "y"], "run": ["odd", "even"], "length": [1, 1]})
    found = stimuli_from(frame)
    assert found.runs == ("odd", "even")
    assert list(found.labels) == ["length"]
    assert stimuli_from(frame.drop(columns="run")).runs == ("1", "1")
    assert stimuli_from(found) is found
    assert stimuli_from(found.to_frame()).checksum == found.checksum


def test_a_saved_set_is_read(tmp_path):
    one = StimulusSet("pets", ["dog", "cat"], ["a", "b"])
    one.save(tmp_path / "pets.json")
    assert stimuli_from(tmp_path / "pets.json") == one
