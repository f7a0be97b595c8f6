import pytest

from topographic.stimuli import StimulusSet, load_words, read_textgrid

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2.5
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "phone"
        xmin = 0
        xmax = 2.5
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 2.5
            text = "AH0"
    item [2]:
        class = "TextTier"
        name = "marks"
        xmin = 0
        xmax = 2.5
        points: size = 1
        points [1]:
            number = 1.5
            mark = "3 beats"
    item [3]:
        class = "IntervalTier"
        name = "word "
        xmin = 0
        xmax = 2.5
        intervals: size = 4
        intervals [1]:
            xmin = 0
            xmax = 0.5
            text = "sp"
        intervals [2]:
            xmin = 0.5
            xmax = 0.75
            text = "she's"
        intervals [3]:
            xmin = 0.75
            xmax = 1.5
            text = "42 ""so called"" [1] = 5"
        intervals [4]:
            xmin = 1.5
            xmax = 2.5
            text = ""
"""
SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
2.5
<exists>
1
"IntervalTier"
"words"
0
2.5
3
0
0.5
"{BR}"
0.5
0.75
"she's"
0.75
2.5
"gone"
"""


def test_textgrids_of_both_forms(tmp_path):
    path = tmp_path / "tale.TextGrid"
    path.write_text(LONG)
    found = load_words(path)
    assert found.items == ("she's", '42 "so called" [1] = 5')
    assert found.onset_s == (0.5, 0.75)
    assert found.labels == {"duration_s": ("0.25", "0.75")}
    assert found.runs == ("tale", "tale")
    assert list(read_textgrid(path)) == ["phone", "word "]
    assert load_words(path, tier="phone").items == ("AH0",)
    path.write_text(SHORT)
    assert load_words(path).to_frame()[["text", "onset_s"]].values.tolist() == [["she's", 0.5], ["gone", 0.75]]
    path.write_bytes(SHORT.encode("utf-16"))
    assert load_words(path, run="a").runs == ("a", "a")
    path.write_text(SHORT[:100])
    with pytest.raises(ValueError, match="truncated or no TextGrid"):
        load_words(path)
    path.write_text(LONG)
    with pytest.raises(ValueError, match=r"no interval tier 'syllable'; it has \['phone', 'word '\]"):
        load_words(path, tier="syllable")


def test_events_and_tables(tmp_path):
    events = tmp_path / "sub-1_task-tale_run-2_events.tsv"
    events.write_text("onset\tduration\ttrial_type\n0.5\t0.2\tnull\n0.5\t0.2\tnan\n")
    found = load_words(events)
    assert (found.items, found.onset_s, found.name) == (("null", "nan"), (0.5, 0.5), "sub-1_task-tale_run-2_events")
    table = tmp_path / "words.csv"
    table.write_text('spoken,onset_s,run,log_frequency\n"a, b",1.0,x,-3\ndog,0.2,y,-4\n')
    found = load_words(table, word_column="spoken")
    assert found.items == ("a, b", "dog")
    assert found.runs == ("x", "y")
    assert found.labels == {"log_frequency": ("-3", "-4")}
    with pytest.raises(ValueError, match=r"has no column word or text .*it has \['spoken', .*word_column="):
        load_words(table)
    found.save(tmp_path / "words.json")
    assert StimulusSet.load(tmp_path / "words.json") == found


def test_tables_of_the_gentle_aligner(tmp_path):
    table = tmp_path / "align.csv"
    table.write_text("I,i,3.28,3.42\nwas,was,3.42,3.6\num,,,\nborn,<unk>,4.0,4.4\n")
    found = load_words(table)
    assert found.items == ("I", "was", "born")
    assert found.onset_s == (3.28, 3.42, 4.0)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("a,1\nb,0.5\n", r"onsets of run 'w' are out of order: 0.5 s \('b'\) follows 1 s; sort the rows"),
        ("a,x\n", r"word 0 of run 'w' \('a'\) has the onset nan; expected seconds from 0 on"),
        ("a,-1\n", "has the onset -1"),
        ("", "holds no words"),
    ],
)
def test_onsets_that_cannot_be(tmp_path, rows, said):
    path = tmp_path / "w.csv"
    path.write_text("word,onset\n" + rows)
    with pytest.raises(ValueError, match=said):
        load_words(path)


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file of words at .*; give a \.TextGrid"):
        load_words(tmp_path / "w.csv")
    (tmp_path / "w.txt").write_text("a")
    with pytest.raises(ValueError, match=r"ends in \.txt; expected one of"):
        load_words(tmp_path / "w.txt")


def test_onsets_may_begin_anew_in_a_column_and_rows_without_a_word_are_no_words(tmp_path):
    path = tmp_path / "book.csv"
    path.write_text("word,onset,part,run\nonce,0.5,I,x\n ,0.9,I,x\n,,I,x\nupon,0.1,II,x\n")
    found = load_words(path, run_column="part")
    assert (found.items, found.runs, found.onset_s) == (("once", "upon"), ("I", "II"), (0.5, 0.1))
    with pytest.raises(ValueError, match=r"onsets of run 'x' are out of order"):
        load_words(path)
    with pytest.raises(ValueError, match=r"has no column 'chapter'; it has \['word', 'onset', 'part', 'run'\]: name"):
        load_words(path, run_column="chapter")
