import json

import numpy as np
import pandas as pd
import pytest

from topographic.brain import StoryRecording, load_recording, load_story_data, story_subjects
from topographic.stimuli import StimulusSet

GRID = """File type = "ooTextFile"
Object class = "TextGrid"

0
70
<exists>
1
"IntervalTier"
"word"
0
70
3
0
1
"once"
1
60
"upon"
60
70
"time"
"""


@pytest.fixture
def scans():
    return np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)


def own_folder(folder, scans, **about):
    (folder / "recording.json").write_text(json.dumps({"tr_s": 2.0, **about}))
    (folder / "words.csv").write_text("word,onset_s,run\nonce,0.5,a\nupon,1.0,a\ntime,0.2,b\n")
    np.save(folder / "a.npy", scans)
    np.save(folder / "b.npy", scans[:15])
    return folder


def test_arrays_of_ones_own(tmp_path, scans):
    folder = own_folder(tmp_path, scans, first_scan_s=-4.0)
    np.save(folder / "parcels.npy", np.array([0, 0, 1, 1, -1, -1]))
    pd.DataFrame({"trans_x": range(20)}).to_csv(folder / "a_confounds.tsv", sep="\t", index=False)
    found = load_story_data(folder)
    assert repr(found) == f"StoryRecording('{folder.name}': 2 runs, 35 scans, 6 targets)"
    np.testing.assert_array_equal(found.scans["b"], scans[:15])
    assert found.scan_starts_s("a")[:2].tolist() == [-4.0, -2.0]
    assert list(found.confounds) == ["a"]
    assert list(load_story_data(folder, task="b").scans) == ["b"]
    (folder / "b.wav").write_bytes(b"sound")
    assert load_story_data(folder).audio == {"b": folder / "b.wav"}
    with pytest.raises(ValueError, match=r"holds the arrays of one subject; leave subject out, or put a folder of"):
        story_subjects(folder)
    with pytest.raises(ValueError, match=r"words.csv has no run 'c'; it has \['a', 'b'\]"):
        load_story_data(folder, task="c")
    (folder / "b.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"no recording of run 'b'; expected b\.npy"):
        load_story_data(folder)
    (folder / "recording.json").write_text("{}")
    with pytest.raises(ValueError, match='holds no "tr_s"'):
        load_story_data(folder)


def test_a_folder_for_each_subject(tmp_path, scans):
    """Words and sound lie once beside them; what one has of its own comes first."""
    for name in ("ann", "bob"):
        (tmp_path / name).mkdir()
        own_folder(tmp_path / name, scans)
    (tmp_path / "ann" / "words.csv").rename(tmp_path / "words.csv")
    for place in (tmp_path, tmp_path / "bob"):
        (place / "b.wav").write_bytes(b"sound")
    assert story_subjects(tmp_path) == ["ann", "bob"]
    with pytest.raises(ValueError, match=r"subject=None must be said: ann, bob; give one of these"):
        load_story_data(tmp_path)
    ann, bob = (load_story_data(tmp_path, subject=name) for name in ("ann", "bob"))
    assert (ann.words.items, ann.name) == (bob.words.items, "ann")
    assert (ann.audio["b"], bob.audio["b"]) == (tmp_path / "b.wav", tmp_path / "bob" / "b.wav")
    (tmp_path / "ann" / "b.npy").unlink()
    ann = load_story_data(tmp_path, subject="ann")
    assert (list(ann.scans), ann.about["not recorded"], set(ann.words.runs)) == (["a"], ["b"], {"a"})
    assert story_subjects(tmp_path, task="b") == ["bob"]
    (tmp_path / "ann" / "a.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"ann has no recording of run 'a'; expected a\.npy or another"):
        load_story_data(tmp_path, subject="ann")
    (tmp_path / "bob" / "b.npy").unlink()  # whose own words say that it was heard
    with pytest.raises(FileNotFoundError, match=r"bob has no recording of run 'b'"):
        load_story_data(tmp_path, subject="bob")


def test_the_checksum_is_of_everything(tmp_path, scans):
    words = StimulusSet("w", ["a", "b"], ["word"] * 2, ["x", "y"], onset_s=(0.0, 1.0))
    (tmp_path / "x.wav").write_bytes(b"sound")
    given = {"name": "s", "words": words, "scans": {"x": scans, "y": scans}, "tr_s": 2.0, "parcels": np.arange(6)}
    given |= {"confounds": {"x": pd.DataFrame({"trans_x": range(20)})}, "audio": {"x": tmp_path / "x.wav"}}
    made = StoryRecording(**given).checksum
    assert StoryRecording(**given).checksum == made
    changed = scans.copy()
    changed[3, 3] = np.nextafter(changed[3, 3], np.float32(9))
    others = [
        {"scans": {"x": scans, "y": changed}},
        {"tr_s": 1.5},
        {"first_scan_s": {"x": 1.0}},
        {"parcels": np.arange(6)[::-1]},
        {"confounds": {"x": pd.DataFrame({"trans_x": range(1, 21)})}},
        {"confounds": {"x": pd.DataFrame({"trans_y": range(20)})}},
        {"words": StimulusSet("w", ["a", "c"], ["word"] * 2, ["x", "y"], onset_s=(0.0, 1.0))},
        {"mesh": "fsaverage5"},
        {"about": {"layout": "arrays"}},
        {"name": "t"},
    ]
    assert len({made, *(StoryRecording(**{**given, **one}).checksum for one in others)}) == 1 + len(others)
    (tmp_path / "x.wav").write_bytes(b"other")
    assert StoryRecording(**given).checksum != made


def test_the_layout_of_lebel(tmp_path, scans):
    h5py = pytest.importorskip("h5py", reason="needs the extra topographic[brain]")
    for part in ("derivative/TextGrids", "derivative/preprocessed_data/UTS01"):
        (tmp_path / part).mkdir(parents=True)
    for story in ("alpha", "beta"):
        (tmp_path / "derivative/TextGrids" / f"{story}.TextGrid").write_text(GRID)
        with h5py.File(tmp_path / "derivative/preprocessed_data/UTS01" / f"{story}.hf5", "w") as opened:
            opened["data"] = scans
    found = load_story_data(tmp_path)
    assert list(found.scans) == ["alpha", "beta"]
    # the first row is the eleventh scan, and the sound began with the sixth
    assert found.scan_starts_s("alpha")[:2].tolist() == [10.0, 12.0]
    assert found.words.items == ("once", "upon") * 2
    assert found.about["words_after_the_last_scan"] == 2
    assert found.audio == {}
    (tmp_path / "stimuli").mkdir()
    (tmp_path / "stimuli/beta.wav").write_bytes(b"sound")
    assert load_story_data(tmp_path).audio == {"beta": tmp_path / "stimuli/beta.wav"}
    (tmp_path / "derivative/preprocessed_data/UTS02").mkdir()
    assert story_subjects(tmp_path) == story_subjects(tmp_path, task="alpha") == ["UTS01"]
    (tmp_path / "derivative/preprocessed_data/UTS02").rmdir()
    with pytest.raises(ValueError, match=r"subject=UTS09 is not among UTS01; give one of these"):
        load_story_data(tmp_path, subject="UTS09")


def test_the_layout_of_narratives(tmp_path, scans):
    nibabel = pytest.importorskip("nibabel", reason="needs the extra topographic[brain]")
    from nibabel.gifti import GiftiDataArray, GiftiImage

    func = tmp_path / "derivatives/fmriprep/sub-001/func"
    func.mkdir(parents=True)
    stem = "sub-001_task-pieman_run-1"
    for side in "LR":
        arrays = [GiftiDataArray(scan + (side == "R"), intent="NIFTI_INTENT_TIME_SERIES") for scan in scans]
        nibabel.save(GiftiImage(darrays=arrays), func / f"{stem}_space-fsaverage5_hemi-{side}.func.gii")
    pd.DataFrame({"trans_x": range(20)}).to_csv(func / f"{stem}_desc-confounds_regressors.tsv", sep="\t")
    (tmp_path / "stimuli/gentle/pieman").mkdir(parents=True)
    (tmp_path / "stimuli/gentle/pieman/align.csv").write_text("I,i,3.2,3.4\num,,,\nbegan,began,3.4,3.6\n")
    (tmp_path / "sub-001/func").mkdir(parents=True)
    (tmp_path / f"sub-001/func/{stem}_events.tsv").write_text(
        "onset\tduration\ttrial_type\n0\t12\tmusic\n15\t400\tstory\n"
    )
    found = load_story_data(tmp_path)
    assert found.scans["pieman_run-1"].shape == (20, 12)
    np.testing.assert_allclose(found.scans["pieman_run-1"][:, 6:], scans + 1)
    assert found.words.items == ("I", "began")
    # words and sound begin with the music
    assert found.scan_starts_s("pieman_run-1")[0] == 0.0
    assert found.audio == {}
    (tmp_path / "stimuli/pieman_audio.wav").write_bytes(b"sound")
    assert load_story_data(tmp_path).audio == {"pieman_run-1": tmp_path / "stimuli/pieman_audio.wav"}
    assert story_subjects(tmp_path) == story_subjects(tmp_path, task="pieman") == ["sub-001"]
    with pytest.raises(ValueError, match=r"holds no subject who has lucy; download more of it"):
        story_subjects(tmp_path, task="lucy")
    events = tmp_path / f"sub-001/func/{stem}_events.tsv"
    for lines, onset_s in (
        ("onset\ttrial_type\n4.5\tmusic\n33.5\tstory\n", 4.5),
        ("onset\ttrial_type\n12\tstory\n", 12.0),
        ("onset\ttrial_type\tstim_file\n0\tstory\tb.wav\n50\tmusic\ta.wav\n60\tstory\tb.wav\n", 0.0),
        ("onset\tduration\n7\t400\n", 7.0),
    ):
        events.write_text(lines)
        assert load_story_data(tmp_path).scan_starts_s("pieman_run-1")[0] == -onset_s
    assert (found.tr_s, found.mesh, len(found.confounds)) == (1.5, "fsaverage5", 1)
    with pytest.raises(ValueError, match="task=lucy is not among pieman"):
        load_story_data(tmp_path, task="lucy")
    (tmp_path / f"sub-001/func/{stem}_events.tsv").unlink()
    with pytest.warns(UserWarning, match=r"says when the story begins in pieman_run-1; it is taken to begin with"):
        assert load_story_data(tmp_path).scan_starts_s("pieman_run-1")[0] == 0.0


WORDS = """,word,lemma,onset,offset,logfreq,pos,section,top_down
0,once,once,0.2,0.5,5.1,ADV,1,1
1,,,0.5,0.9,,,1,
2,when,when,0.9,1.2,6.0,ADV,1,2
3,i,i,39.0,39.2,6.5,PRON,1,1
4,and,and,0.1,0.3,6.9,CONJ,2,1
5,NaN,,0.3,0.5,,,2,
6,the,the,0.5,0.7,7.0,DET,2,1
7,end,end,0.4,0.9,5.0,NOUN,3,1
"""
PRINCE = "sub-EN057_task-lppEN_run-{}_space-MNIColin27_desc-preproc_bold.nii.gz"


def little_prince(folder, runs=(9, 15, 16), *, language="EN"):
    """Three sections, three runs of 2 x 3 x 1 voxels: the first voxel never varies, the last not in the second run."""
    nibabel = pytest.importorskip("nibabel", reason="needs the extra topographic[brain]")
    (folder / "annotation" / language).mkdir(parents=True)
    (folder / "annotation" / language / f"lpp{language}_word_information.csv").write_text(WORDS)
    func = folder / "derivatives/sub-EN057/func"
    func.mkdir(parents=True)
    source, kept = np.random.default_rng(0), []
    for place, run in enumerate(runs):
        values = source.normal(size=(2, 3, 1, 18 + place)).astype(np.float32)
        values[0, 0] = 0.0
        if place == 1:
            values[1, 2] = 4.0
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), func / PRINCE.format(f"{run:02d}"))
        kept.append(values)
    return func, kept


def test_the_layout_of_le_petit_prince(tmp_path):
    _, values = little_prince(tmp_path)
    found = load_story_data(tmp_path)
    assert repr(found) == "StoryRecording('Le Petit Prince, sub-EN057': 3 runs, 57 scans, 4 targets)"
    assert list(found.scans) == ["section-1", "section-2", "section-3"]
    for run, one in zip(found.scans, values, strict=True):
        # the voxels that vary in all runs, in the order of the array
        flat = one.transpose(3, 0, 1, 2).reshape(-1, 6)
        np.testing.assert_array_equal(found.scans[run], flat[:, 1:5])
    assert found.about["voxels_not_in_all_runs"] == 1
    assert found.about["files"]["section-2"] == PRINCE.format(15)
    # pauses are no words; "i" comes after the last scan of its run, which ends at 36 s
    assert found.words.items == ("once", "when", "and", "the", "end")
    assert found.words.runs == ("section-1",) * 2 + ("section-2",) * 2 + ("section-3",)
    assert found.words.onset_s == (0.2, 0.9, 0.1, 0.5, 0.4)
    assert found.about["words_after_the_last_scan"] == 1
    assert (found.tr_s, found.mesh, found.scan_starts_s("section-2")[1]) == (2.0, "", 2.0)
    one = load_story_data(tmp_path, task="section-1")
    assert (list(one.scans), one.n_targets) == (["section-1"], 5), "of this run alone five voxels vary"
    with pytest.raises(ValueError, match="task=section-4 is not among section-1, section-2, section-3"):
        load_story_data(tmp_path, task="section-4")


def test_a_mask_of_le_petit_prince(tmp_path):
    import nibabel

    _, values = little_prince(tmp_path)
    mask = np.array([1, 0, 0, 0, 0, 1], dtype=np.uint8).reshape(2, 3, 1)
    nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), tmp_path / "derivatives/mask.nii.gz")
    found = load_story_data(tmp_path)
    np.testing.assert_array_equal(found.scans["section-2"], values[1][[0, 1], [0, 2], 0].T)


def test_le_petit_prince_on_the_surface(tmp_path, scans):
    import nibabel
    from nibabel.gifti import GiftiDataArray, GiftiImage

    func, _ = little_prince(tmp_path)
    for run in ("09", "15", "16"):
        for side in "LR":
            arrays = [GiftiDataArray(scan + (side == "R"), intent="NIFTI_INTENT_TIME_SERIES") for scan in scans]
            name = PRINCE.format(run).replace("MNIColin27_desc-preproc_bold.nii.gz", f"fsaverage5_hemi-{side}.func.gii")
            nibabel.save(GiftiImage(darrays=arrays), func / name)
    found = load_story_data(tmp_path)
    assert (found.mesh, found.n_targets) == ("fsaverage5", 12)
    np.testing.assert_allclose(found.scans["section-3"][:, 6:], scans + 1)


def test_le_petit_prince_of_which_something_is_missing(tmp_path):
    func, _ = little_prince(tmp_path)
    second = func / PRINCE.format(15)
    whole = second.read_bytes()
    stubs = [
        lambda: second.symlink_to("../../../.git/annex/objects/zz/none"),
        lambda: second.write_text("/annex/objects/MD5E-s1--2.nii.gz\n"),
    ]
    for stub in stubs:
        second.unlink()
        stub()
        with pytest.raises(FileNotFoundError, match=r"run-15_.* is not downloaded, only its name is: run `datalad get"):
            load_story_data(tmp_path)
        # runs are counted by their names
        assert list(load_story_data(tmp_path, task="section-3").scans) == ["section-3"]
    second.unlink()
    gone = r"sub-EN057 has 2 runs \(09, 16\) and lppEN_word_information.csv 3 sections; the n-th run is section n"
    with pytest.raises(ValueError, match=gone):
        load_story_data(tmp_path)
    second.write_bytes(whole)
    table = tmp_path / "annotation/EN/lppEN_word_information.csv"
    table.write_text(WORDS.replace("6,the,the,0.5", "6,the,the,0.05"))
    with pytest.raises(ValueError, match=r"onsets of run '2' are out of order: 0.05 s \('the'\) follows"):
        load_story_data(tmp_path)
    table.write_text(WORDS.replace("NOUN,3", "NOUN,x"))
    with pytest.raises(ValueError, match=r"has a word in section 'x'; expected numbers such as 1 to 9"):
        load_story_data(tmp_path)
    table.write_text("/annex/objects/MD5E-s1--2.csv")
    with pytest.raises(FileNotFoundError, match=r"lppEN_word_information.csv is not downloaded"):
        load_story_data(tmp_path)
    table.unlink()
    with pytest.raises(FileNotFoundError, match=r"sub-EN057 speaks 'EN' by its name, and there is no .*lppEN_word"):
        load_story_data(tmp_path)


def test_volumes_of_several_runs_have_one_set_of_voxels(tmp_path, scans):
    nibabel = pytest.importorskip("nibabel", reason="needs the extra topographic[brain]")
    folder = own_folder(tmp_path, scans)
    for run, still in (("a", 0), ("b", 5)):
        (folder / f"{run}.npy").unlink()
        values = scans.T.reshape(1, 2, 3, 20).copy()
        values[np.unravel_index(still, (1, 2, 3))] = 1.0
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), folder / f"{run}.nii.gz")
    found = load_story_data(folder)
    for run in "ab":
        np.testing.assert_array_equal(found.scans[run], scans[:, 1:5])
    assert found.about["voxels_not_in_all_runs"] == 2
    nibabel.save(nibabel.Nifti1Image(scans.T.reshape(2, 1, 3, 20), np.eye(4)), folder / "b.nii.gz")
    with pytest.raises(ValueError, match=r"a.nii.gz has volumes of \(1, 2, 3\) voxels and b.nii.gz of \(2, 1, 3\)"):
        load_story_data(folder)
    values = np.zeros((1, 2, 3, 20), dtype=np.float32)
    values[0, 0, 0] = scans[:, 0]
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), folder / "b.nii.gz")
    with pytest.raises(ValueError, match=r"no voxel varies in all of a, b; check that the runs are in one space"):
        load_story_data(folder)


def test_folders_of_no_layout(tmp_path):
    with pytest.raises(ValueError, match=r"has none of recording.json \(arrays\), derivative/TextGrids \(LeBel\)"):
        load_story_data(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder at"):
        load_story_data(tmp_path / "nowhere")


def test_volumes_with_and_without_a_mask(tmp_path, scans):
    nibabel = pytest.importorskip("nibabel", reason="needs the extra topographic[brain]")
    values = scans.T.reshape(1, 2, 3, 20).copy()
    values[0, 1, 2] = 7.0
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "run.nii.gz")
    np.testing.assert_array_equal(load_recording(tmp_path / "run.nii.gz"), scans[:, :5])
    mask = np.zeros((1, 2, 3), dtype=np.uint8)
    mask[0, 0, 1] = mask[0, 1, 2] = 1
    nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), tmp_path / "mask.nii")
    found = load_recording(tmp_path / "run.nii.gz", tmp_path / "mask.nii")
    np.testing.assert_array_equal(found, np.stack([scans[:, 1], np.full(20, 7.0)], axis=1))
    with pytest.raises(ValueError, match=r"the mask has shape \(2, 2, 2\) and run.nii.gz \(1, 2, 3\); resample"):
        load_recording(tmp_path / "run.nii.gz", np.ones((2, 2, 2), dtype=bool))
    with pytest.raises(ValueError, match=r"no voxel of .* lies in the mask"):
        load_recording(tmp_path / "run.nii.gz", np.zeros((1, 2, 3), dtype=bool))
    (tmp_path / "broken.nii").write_bytes(b"no image")
    with pytest.raises(ValueError, match="truncated or no image"):
        load_recording(tmp_path / "broken.nii")


def test_cifti_and_hdf5(tmp_path, scans):
    nibabel = pytest.importorskip("nibabel", reason="needs the extra topographic[brain]")
    h5py = pytest.importorskip("h5py", reason="needs the extra topographic[brain]")
    series = nibabel.cifti2.SeriesAxis(0, 2, 20)
    brain = nibabel.cifti2.BrainModelAxis.from_mask(np.ones(6, dtype=bool), name="CortexLeft")
    nibabel.save(nibabel.Cifti2Image(scans, header=(series, brain)), tmp_path / "run.dtseries.nii")
    np.testing.assert_array_equal(load_recording(tmp_path / "run.dtseries.nii"), scans)
    with h5py.File(tmp_path / "run.hdf", "w") as opened:
        opened["Y_train"] = scans
        opened["run_onsets"] = np.arange(3)
    np.testing.assert_array_equal(load_recording(tmp_path / "run.hdf"), scans)
    with h5py.File(tmp_path / "two.hdf", "w") as opened:
        opened["Y_train"], opened["Y_test"] = scans, scans
    with pytest.raises(ValueError, match=r"it holds \['Y_test', 'Y_train'\]; expected a data set 'data'"):
        load_recording(tmp_path / "two.hdf")


def test_files_that_are_no_recordings(tmp_path):
    with pytest.raises(FileNotFoundError, match="no recording at"):
        load_recording(tmp_path / "run.npy")
    (tmp_path / "run.mat").write_text("")
    with pytest.raises(ValueError, match=r"run.mat ends in none of .npy, .gii"):
        load_recording(tmp_path / "run.mat")
    np.save(tmp_path / "flat.npy", np.arange(3))
    with pytest.raises(ValueError, match=r"array of shape \(3,\); expected \(scans, targets\)"):
        load_recording(tmp_path / "flat.npy")
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="is no array of numbers"):
        load_recording(tmp_path / "objects.npy")


def test_what_does_not_belong_together(scans):
    words = StimulusSet("w", ["a", "b"], ["word"] * 2, ["x", "y"], onset_s=(0.0, 1.0))
    with pytest.raises(ValueError, match=r"run 'z' has scans and no words; it has words of \['x', 'y'\]"):
        StoryRecording("s", words, {"z": scans}, 2.0)
    with pytest.raises(ValueError, match=r"expected \(scans, targets\), as many in each run"):
        StoryRecording("s", words, {"x": scans, "y": scans[:, :2]}, 2.0)
    with pytest.raises(ValueError, match=r"parcels of shape \(2,\) for 6 targets"):
        StoryRecording("s", words, {"x": scans}, 2.0, parcels=np.arange(2))
    with pytest.raises(ValueError, match="tr_s=0"):
        StoryRecording("s", words, {"x": scans}, 0.0)
    with pytest.raises(ValueError, match="the words have no onsets"):
        StoryRecording("s", StimulusSet("w", ["a"], ["word"], ["x"]), {"x": scans}, 2.0)
    with pytest.raises(ValueError, match="has no scans"):
        StoryRecording("s", words, {}, 2.0)
