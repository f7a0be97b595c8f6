import dataclasses

import numpy as np
import pytest

from topographic.brain import ResponseAssembly, load_assemblies, load_assembly

TARGETS = {"subject": ["s1", "s1", "s2"], "roi": ["a", "b", "a"]}


def numbers(n_items):
    return np.random.default_rng(0).normal(size=(n_items, 3))


def pereira():
    """Two experiments of three topics with two passages of two sentences; s2 saw the second only."""
    rows = [(e, t, p, s) for e in ("243sentences", "384sentences") for t in "xyz" for p in (1, 2) for s in (0, 1)]
    items = {
        "experiment": [e for e, *_ in rows],
        "story": [f"{e}.{t}" for e, t, *_ in rows],
        "passage_label": [t for _, t, *_ in rows],
        "passage_index": [p for *_, p, _ in rows],
        "stimulus_num": list(range(12)) * 2,
        "stimulus": [f"{t}{p}{s}." for _, t, p, s in rows],
    }
    responses = numbers(24)
    responses[:12, 2] = np.nan
    return responses, items


@pytest.mark.parametrize("kind", ["netcdf4", "classic"])
def test_pereira_by_experiment_topic_and_passage(kind, tmp_path, save_assembly):
    responses, items = pereira()
    order = np.random.default_rng(1).permutation(24)
    shuffled = {name: np.array(values)[order] for name, values in items.items()}
    path = save_assembly(tmp_path / "assy_Pereira2018_language.nc", responses[order], shuffled, TARGETS, kind=kind)
    found = load_assemblies(tmp_path)
    assert list(map(repr, found.values())) == [
        f"ResponseAssembly('Pereira2018_language, {name}': 12 parts of 6 texts in 3 groups, {targets})"
        for name, targets in sorted({
            "243sentences": "2 targets of 1 subject",
            "384sentences": "3 targets of 2 subjects",
        }.items(), key=lambda one: shuffled["experiment"].tolist().index(one[0]))
    ]  # fmt: skip
    first = found["Pereira2018_language, 243sentences"]
    assert first.notes == ("1 of 3 targets have no value and are left out",)
    assert (first.subjects, first.regions) == (("s1", "s1"), ("a", "b"))
    # passages as they first appear, the sentences of each in their order
    for passage in set(first.contexts):
        at = [row for row, one in enumerate(first.contexts) if one == passage]
        assert [first.stimuli[row][-2] for row in at] == ["0", "1"]
        assert at[1] == at[0] + 1
    expected = dict(zip(items["stimulus"][:12], responses[:12, :2], strict=True))
    np.testing.assert_array_equal(first.responses, [expected[text] for text in first.stimuli])
    assert (
        load_assembly(path, experiment="384sentences").checksum == found["Pereira2018_language, 384sentences"].checksum
    )
    whole = load_assembly(path)
    assert (len(whole), whole.responses.shape[1], np.isnan(whole.responses).sum()) == (24, 3, 12)
    with pytest.raises(ValueError, match=r"has no experiment '500'; it has '[23]..sentences', '[23]..sentences'"):
        load_assembly(path, experiment="500")


def test_stories_are_read_in_their_order(tmp_path, save_assembly):
    items = {
        "story": ["Boar"] * 4 + ["Aqua"] * 2,
        "stimulus": ["then ", "Once upon a ", "time. ", "and ", "Water. ", "Wet."],
        "sentence_number_in_story": [1, 0, 0, 10, 0, 1],
        "part_number_in_sentence": [0, 0, 1, 0, 0, 0],
    }
    path = save_assembly(tmp_path / "x.nc", numbers(6), items, {"subject_UID": [88, 88, 90], "fROI_area": list("abc")})
    found = load_assembly(path)
    assert found.stimuli == ("Once upon a", "time.", "then", "and", "Water.", "Wet.")
    assert found.contexts == found.groups == ("Boar",) * 4 + ("Aqua",) * 2
    assert found.subjects == ("88", "88", "90")
    assert {name: values.tolist() for name, values in found.controls().items()} == {
        "words": [3, 1, 1, 1, 1, 1], "letters": [11, 5, 4, 3, 6, 4], "position": [0, 1, 2, 3, 0, 1],
    }  # fmt: skip


def test_words_of_sentences_and_sentences_alone(tmp_path, save_assembly):
    words = {"sentence_id": [0, 0, 1, 1], "word_num": [1, 0, 0, 1], "word": ["TIRED", "ALEX", "HE", "NAPS"]}
    found = load_assembly(save_assembly(tmp_path / "words.nc", numbers(4), words, TARGETS))
    assert found.stimuli == ("ALEX", "TIRED", "HE", "NAPS")
    assert found.contexts == found.groups == ("0", "0", "1", "1")
    alone = {"stimulus_id": [7, 8, 9], "cond": ["D", "S", "B"], "stimulus": ["A dog.", "Be it.", "A cat."]}
    found = load_assembly(save_assembly(tmp_path / "alone.nc", numbers(3), alone, TARGETS))
    assert found.contexts == found.groups == ("7", "8", "9")


def test_files_of_ones_own(tmp_path, save_assembly):
    items = {"stimulus": ["a b", "c", "d"], "topic": ["t", "t", "u"], "text": [1.0, 1.0, 2.5]}
    path = save_assembly(tmp_path / "x.nc", numbers(3), items, TARGETS)
    known = r"none of own, Pereira2018, .* by its coordinates \['stimulus', 'text', 'topic'\]; say groups=COORDINATE"
    with pytest.raises(ValueError, match=known):
        load_assembly(path)
    found = load_assembly(path, groups="topic")
    assert (found.groups, found.contexts) == (("t", "t", "u"), ("0", "1", "2"))
    assert load_assembly(path, groups="topic", contexts="text").contexts == ("1", "1", "2.5")
    with pytest.raises(ValueError, match=r"has no coordinate 'theme' of presentations; it has \['stimulus', 'text'"):
        load_assembly(path, groups="theme")
    own = save_assembly(tmp_path / "y.nc", numbers(3), items | {"group": ["t", "t", ""]}, TARGETS)
    with pytest.raises(ValueError, match=r"y.nc: presentation 2 has no group; leave it out or name it"):
        load_assembly(own)
    own = save_assembly(tmp_path / "y.nc", numbers(3), items | {"group": ["t", "t", "u"]}, TARGETS)
    assert load_assembly(own).groups == ("t", "t", "u")


def test_axes_in_another_order_and_times(tmp_path, save_assembly):
    import h5py

    items = {"stimulus": ["a", "b", "c"], "group": ["t", "t", "u"]}
    path = save_assembly(tmp_path / "x.nc", numbers(3), items, TARGETS)
    with h5py.File(path, "a") as opened:
        del opened["data"]
        opened["values"] = numbers(3).T[:, :, None]
        opened["time"] = np.zeros(1)
        opened["time"].make_scale("time")
        for place, axis in enumerate(("neuroid", "presentation", "time")):
            opened["values"].dims[place].attach_scale(opened[axis])
    np.testing.assert_array_equal(load_assembly(path).responses, numbers(3))
    with h5py.File(path, "a") as opened:
        del opened["values"]
        opened["values"] = np.zeros((3, 3, 2))
        for place, axis in enumerate(("neuroid", "presentation")):
            opened["values"].dims[place].attach_scale(opened[axis])
    with pytest.raises(ValueError, match=r"'values' has axes neuroid, presentation, phony_dim_2; select one bin of"):
        load_assembly(path)
    with h5py.File(path, "a") as opened:
        del opened["values"]
    with pytest.raises(ValueError, match=r"x.nc has 0 variables over presentation and neuroid \(group, "):
        load_assembly(path)
    assert load_assemblies(tmp_path) == {}, "other NetCDF files are passed over"


def test_files_that_lack_something(tmp_path, save_assembly):
    items = {"stimulus": ["a", "b", "c"], "group": ["t", "t", "u"]}
    with pytest.raises(ValueError, match=r"has no coordinate subject or subject_UID or .*; it has \['roi'\]: rename"):
        load_assembly(save_assembly(tmp_path / "x.nc", numbers(3), items, {"roi": list("abc")}))
    with pytest.raises(ValueError, match=r"has no coordinate stimulus or sentence"):
        load_assembly(save_assembly(tmp_path / "x.nc", numbers(3), {"group": list("ttu")}, TARGETS))
    with pytest.raises(FileNotFoundError, match="no folder"):
        load_assemblies(tmp_path / "nowhere")
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        save_assembly(tmp_path / folder / "same.nc", numbers(3), items, TARGETS)
    (tmp_path / "x.nc").unlink()
    with pytest.raises(ValueError, match=r"two files below .* are called same.nc; rename one"):
        load_assemblies(tmp_path)


def test_targets_that_say_nothing_are_left_out_and_named():
    responses = np.array([[1.0, np.nan, 2.0], [1.0, np.nan, np.nan], [1.0, np.nan, 5.0]])
    found = ResponseAssembly("x", ["a", "b", "c"], ["g", "g", "h"], ["g", "g", "h"], responses, ["s", "s", "t"])
    assert found.subjects == ("t",)
    np.testing.assert_array_equal(found.responses, [[2.0], [np.nan], [5.0]])
    assert found.notes == (
        "1 of 3 targets have no value and are left out",
        "1 of 3 targets never vary and are left out",
    )
    other = dataclasses.replace(found, responses=[[2.0], [np.nan], [6.0]])
    assert found.checksum != other.checksum
    assert found.checksum == dataclasses.replace(found).checksum


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"responses": np.zeros(3)}, r"responses of shape \(3,\); expected \(items, targets\)"),
        ({"responses": np.ones((3, 1))}, "none of 1 targets varies"),
        ({"responses": np.array([[1.0], [np.inf], [2.0]])}, "a response is infinite"),
        ({"stimuli": ["a", " ", "c"]}, "part 1 is blank"),
        ({"groups": ["g", "g"]}, "2 groups for 3 items; give one each"),
        ({"subjects": ["s", "s"]}, "2 subjects for 1 targets"),
        ({"contexts": ["x", "x", "x"]}, "text 'x' lies in groups 'g' and 'h'; parts of one text stay together"),
    ],
)
def test_what_does_not_belong_together(changed, message):
    given = {"stimuli": ["a", "b", "c"], "groups": ["g", "g", "h"], "contexts": ["x", "x", "y"], "subjects": ["s"]}
    with pytest.raises(ValueError, match=message):
        ResponseAssembly("n", **{**given, "responses": np.arange(3.0)[:, None], **changed})
