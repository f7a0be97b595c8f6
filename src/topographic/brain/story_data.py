"""Recordings of people who hear or read stories: arrays and files, read into one form."""

import hashlib
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from topographic.brain.surface import load_surface_series
from topographic.stimuli import StimulusSet, load_words
from topographic.storage import digest, load_json, sha256_of_file

__all__ = ["LAYOUTS", "StoryRecording", "load_recording", "load_story_data", "story_subjects"]


@dataclass(frozen=True, eq=False)
class StoryRecording:
    """One subject's scans during several stories, and the words of these.

    Parameters
    ----------
    name : str
        Of data and subject.
    words : StimulusSet
        Words with onsets, one run per story.
    scans : mapping of str to ndarray, shape (scans, targets)
        By run.
    tr_s : float
        Time from scan to scan.
    first_scan_s : mapping of str to float, optional
        When the first scan of a run begins, on the clock of the words; 0 unless given.
    confounds : mapping of str to DataFrame, optional
        By run, motion as fMRIPrep writes it.
    parcels : ndarray of int, shape (targets,), optional
        Parcel of each target; -1 for none.
    mesh : str
        "fsaverage5" where targets are its vertices, left hemisphere first.
    about : mapping
        What is known of the data.
    audio : mapping of str to path, optional
        By run, the WAV file that was heard; it begins at 0 s on the clock of the words.

    Raises
    ------
    ValueError
        If a run has no words, runs differ in targets, or parcels in number.
    """

    name: str
    words: StimulusSet
    scans: Mapping[str, Float[np.ndarray, "..."]]
    tr_s: float
    first_scan_s: Mapping[str, float] = field(default_factory=dict)
    confounds: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    parcels: Int[np.ndarray, " targets"] | None = None
    mesh: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)
    audio: Mapping[str, str | Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what does not belong together."""
        if self.words.onset_s is None:
            raise ValueError(f"{self.name}: the words have no onsets; read them with load_words")
        if not 0 < self.tr_s < 60:
            raise ValueError(f"{self.name}: tr_s={self.tr_s}; expected seconds from scan to scan")
        if without := sorted(set(self.scans) - set(self.words.runs)):
            raise ValueError(
                f"{self.name}: run {without[0]!r} has scans and no words; it has words of {self._runs_with_words()}: "
                "call runs alike, or leave it out"
            )
        if not self.scans:
            raise ValueError(f"{self.name} has no scans; give one array per run")
        widths = {run: array.shape[1] if array.ndim == 2 else -1 for run, array in self.scans.items()}
        if len(set(widths.values())) > 1 or -1 in widths.values():
            shapes = {run: array.shape for run, array in self.scans.items()}
            raise ValueError(f"{self.name}: scans of shapes {shapes}; expected (scans, targets), as many in each run")
        if self.parcels is not None and self.parcels.shape != (self.n_targets,):
            raise ValueError(
                f"{self.name}: parcels of shape {self.parcels.shape} for {self.n_targets} targets; give one each"
            )

    def _runs_with_words(self) -> list[str]:
        return list(dict.fromkeys(self.words.runs))[:10]

    def __repr__(self) -> str:
        """One line."""
        n_scans = sum(len(one) for one in self.scans.values())
        return f"StoryRecording({self.name!r}: {len(self.scans)} runs, {n_scans} scans, {self.n_targets} targets)"

    @property
    def n_targets(self) -> int:
        """Voxels, vertices or parcels."""
        return next(iter(self.scans.values())).shape[1]

    @property
    def checksum(self) -> str:
        """SHA-256 of all that is here, the files of sound included."""
        arrays = {**self.scans, **({} if self.parcels is None else {"parcels of targets": self.parcels})}
        content = {
            "name": self.name,
            "words": self.words.checksum,
            "arrays": {name: [str(one.dtype), one.shape, _sha256(one)] for name, one in arrays.items()},
            "times": [self.tr_s, dict(self.first_scan_s)],
            "confounds": {
                run: [list(map(str, one.columns)), hashlib.sha256(one.to_csv(index=False).encode()).hexdigest()]
                for run, one in self.confounds.items()
            },
            "mesh": self.mesh,
            "about": dict(self.about),
            "audio": {run: sha256_of_file(file) for run, file in self.audio.items()},
        }
        return digest(content)

    def scan_starts_s(self, run: str) -> Float[np.ndarray, " scans"]:
        """When the scans of a run begin."""
        return self.first_scan_s.get(run, 0.0) + np.arange(len(self.scans[run])) * self.tr_s


def _sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def load_recording(
    path: str | Path, mask: str | Path | Bool[np.ndarray, "..."] | None = None
) -> Float[np.ndarray, "scans targets"]:
    """Read a recording over time as an array.

    Parameters
    ----------
    path : str or Path
        ``.npy``; GIFTI with one array per scan (``.func.gii``); CIFTI (``.dtseries.nii``, ``.ptseries.nii``); NIfTI
        (``.nii``, ``.nii.gz``); HDF5 (``.hf5``, ``.hdf``, ``.h5``) as in the voxelwise tutorials and LeBel et al.,
        whose data set is "data", or the only one of two axes.
    mask : path or ndarray of bool, optional
        NIfTI: voxels to keep, an image of the same size or an array; without it every voxel whose values vary.

    Returns
    -------
    ndarray of float32, shape (scans, targets)
        Voxels of a NIfTI image in the order of its array (C order) within the mask.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, it is of another kind or shape, or the mask has another size.
    """
    path = Path(path)
    found = READERS[_kind(path)](path, mask)
    if found.ndim != 2 or not found.size:
        raise ValueError(f"{path} holds an array of shape {found.shape}; expected (scans, targets)")
    return np.ascontiguousarray(found, dtype=np.float32)


def _kind(path: Path) -> str:
    """The format of a recording that is there, by the end of its name."""
    _expect_content(path)
    if not path.is_file():
        raise FileNotFoundError(f"no recording at {path}; give one of {', '.join(READERS)}")
    kind = next((ending for ending in READERS if path.name.endswith(ending)), None)
    if kind is None:
        raise ValueError(f"{path} ends in none of {', '.join(READERS)}; save the recording in one of these formats")
    return kind


def _expect_content(path: Path) -> None:
    """Refuse what stands in for a file that git-annex has not fetched: a link to nowhere, or a line that names it."""
    is_stub = path.is_symlink() and not path.exists()
    if path.is_file() and path.stat().st_size < 1000:
        is_stub = b"annex/objects/" in path.read_bytes()
    if is_stub:
        raise FileNotFoundError(f"{path} is not downloaded, only its name is: run `datalad get {path}`")


def _same_targets(files: Mapping[str, Path], mask: str | Path | None) -> tuple[dict[str, np.ndarray], int]:
    """Recordings of several runs, of volumes without a mask the voxels that vary in each; and how many vary in some."""
    if mask is not None or not all(_kind(path) in (".nii", ".nii.gz") for path in files.values()):
        return {run: load_recording(path, mask) for run, path in files.items()}, 0
    scans, inside = {}, {}
    for run, path in files.items():
        values = _volumes(path)
        inside[run] = np.ptp(values, axis=-1) > 0
        scans[run] = values[inside[run]].T
    first, *others = inside
    for run in others:
        if inside[run].shape != inside[first].shape:
            raise ValueError(
                f"{files[first].name} has volumes of {inside[first].shape} voxels and {files[run].name} of "
                f"{inside[run].shape}; resample the runs to one grid"
            )
    shared = np.logical_and.reduce(list(inside.values()))
    if not shared.any():
        raise ValueError(f"no voxel varies in all of {', '.join(files)}; check that the runs are in one space")
    n_lost = int(np.logical_or.reduce(list(inside.values())).sum() - shared.sum())
    return {run: np.ascontiguousarray(scans.pop(run)[:, shared[inside[run]]]) for run in files}, n_lost


def _npy(path: Path, _: Any) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except ValueError as error:
        raise ValueError(f"{path} is no array of numbers ({error}); save it with numpy.save") from error


def _gifti(path: Path, _: Any) -> np.ndarray:
    return load_surface_series(path)


def _image(path: Path) -> Any:
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    try:
        return nibabel.load(path)
    except (ImageFileError, OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path} is truncated or no image ({error}); copy it again") from error


def _cifti(path: Path, _: Any) -> np.ndarray:
    return np.asarray(_image(path).dataobj)


def _volumes(path: Path) -> np.ndarray:
    values = np.asarray(_image(path).dataobj, dtype=np.float32)
    if values.ndim != 4:
        raise ValueError(f"{path} has shape {values.shape}; expected a run of four axes, scans last")
    return values


def _nifti(path: Path, mask: Any) -> np.ndarray:
    values = _volumes(path)
    if mask is None:
        inside = np.ptp(values, axis=-1) > 0
    else:
        given = mask if isinstance(mask, np.ndarray) else np.asarray(_image(Path(mask)).dataobj)
        inside = (given[..., 0] if given.ndim == 4 and given.shape[-1] == 1 else given) > 0
        if inside.shape != values.shape[:3]:
            raise ValueError(
                f"the mask has shape {inside.shape} and {path.name} {values.shape[:3]}; resample it to the recording"
            )
    if not inside.any():
        raise ValueError(f"no voxel of {path} lies in the mask; check that both are in one space")
    return values[inside].T


def _hdf5(path: Path, _: Any) -> np.ndarray:
    import h5py

    try:
        with h5py.File(path) as opened:
            flat = [name for name, one in opened.items() if isinstance(one, h5py.Dataset) and one.ndim == 2]
            if "data" not in opened and len(flat) != 1:
                raise ValueError(f"it holds {list(opened)}; expected a data set 'data' of (scans, targets)")
            found: Any = opened["data" if "data" in opened else flat[0]]
            return found[:]
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as HDF5: {error}") from error


READERS: dict[str, Callable[[Path, Any], np.ndarray]] = {
    ".npy": _npy,
    ".gii": _gifti,
    ".dtseries.nii": _cifti,
    ".ptseries.nii": _cifti,
    ".nii": _nifti,
    ".nii.gz": _nifti,
    ".hf5": _hdf5,
    ".hdf": _hdf5,
    ".hdf5": _hdf5,
    ".h5": _hdf5,
}


def load_story_data(folder: str | Path, *, subject: str | None = None, task: str | None = None) -> StoryRecording:
    """Read one subject of a folder of story data.

    The layout is told by what lies in the folder:

    - *arrays* of one's own: ``recording.json`` with ``{"tr_s": 2.0}``, optionally "first_scan_s", "mesh"; words in
      ``words.csv`` (word, onset_s, run); one recording per run, ``RUN.npy`` or another format of `load_recording`;
      optionally ``parcels.npy``, ``mask.nii.gz``, ``RUN_confounds.tsv`` and ``RUN.wav``, what was heard.
    - *subjects*: such a folder per subject; ``words.csv`` and ``RUN.wav`` may lie once beside these folders, and runs
      of which a subject has no recording are then left out.
    - *LeBel et al. 2023* (OpenNeuro ds003020): ``derivative/TextGrids/STORY.TextGrid`` and
      ``derivative/preprocessed_data/SUBJECT/STORY.hf5``, scans of 2 s of which the first ten and last five are gone;
      what was heard in ``stimuli/STORY.wav``.
    - *Narratives* (OpenNeuro ds002345): ``stimuli/gentle/TASK/align.csv`` and fMRIPrep's
      ``derivatives/fmriprep/SUBJECT/func/*_task-TASK_*space-fsaverage5_hemi-{L,R}*.func.gii``, with its confounds;
      what was heard in ``stimuli/TASK_audio.wav``, on whose clock the words of Gentle lie.
    - *Le Petit Prince* (OpenNeuro ds003643, Li et al. 2022): ``annotation/EN/lppEN_word_information.csv`` (or CN, FR)
      and ``derivatives/SUBJECT/func/SUBJECT_task-lppEN_run-15_space-MNIColin27_desc-preproc_bold.nii.gz``, scans of 2 s
      of which the first begins with the sound. A subject's n-th run, whatever its number, is section n: runs are called
      ``section-1`` to ``section-9``. Voxels are those of ``derivatives/mask.nii.gz`` where there is one, else those
      that vary in every run that is read; or vertices, where all runs were brought to the surface as those of
      Narratives (``*_space-fsaverage5_hemi-{L,R}*.func.gii``).

    The three from OpenNeuro come with ``datalad install https://github.com/OpenNeuroDatasets/ds003643`` and, in it,
    ``datalad get annotation/EN/*.csv derivatives/sub-EN057``, or with ``aws s3 sync --no-sign-request
    s3://openneuro.org/ds003643 FOLDER``.

    Parameters
    ----------
    folder : path
        The data set, as downloaded.
    subject : str, optional
        Which subject; may be left out where there is but one.
    task : str, optional
        Only this story, task or run.

    Returns
    -------
    StoryRecording
        Words, scans and what belongs to them.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder has none of these layouts, a subject or story is not in it, or a file cannot be used.
    """
    return _layout_of(folder).read(Path(folder), subject, task)


def story_subjects(folder: str | Path, *, task: str | None = None) -> list[str]:
    """Subjects of a folder of story data, as `load_story_data` takes them.

    Parameters
    ----------
    folder : path
        The data set.
    task : str, optional
        Only those who have this story, task or run.

    Returns
    -------
    list of str
        In order of their names.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder has no layout that is known, or only arrays of one subject, or nobody has the task.

    Examples
    --------
    >>> story_subjects("absent")
    Traceback (most recent call last):
    FileNotFoundError: no folder at absent; give a data set, or data=synthetic
    """
    found = _layout_of(folder).subjects(Path(folder), task)
    if not found:
        raise ValueError(f"{folder} holds no subject" + (f" who has {task}" if task else "") + "; download more of it")
    return found


def _layout_of(folder: str | Path) -> "_Layout":
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"no folder at {folder}; give a data set, or data=synthetic")
    found = [layout for layout in LAYOUTS.values() if next(Path(folder).glob(layout.mark), None)]
    if not found:
        marks = ", ".join(f"{layout.mark} ({name})" for name, layout in LAYOUTS.items())
        raise ValueError(f"{folder} has none of {marks}; give the top folder of the data set")
    return found[0]


def _own(folder: Path, subject: str | None, task: str | None, shared: Path | None = None) -> StoryRecording:
    about = load_json(folder / "recording.json")
    if not isinstance(about, dict) or "tr_s" not in about:
        raise ValueError(f'{folder / "recording.json"} holds no "tr_s"; expected {{"tr_s": seconds from scan to scan}}')
    places = [folder] if shared is None else [folder, shared]
    table = _first_file(places, "words.csv") or folder / "words.csv"
    words = load_words(table)
    runs = [run for run in dict.fromkeys(words.runs) if task in (None, run)]
    if not runs:
        raise ValueError(f"{table} has no run {task!r}; it has {list(dict.fromkeys(words.runs))[:10]}")
    mask = folder / "mask.nii.gz"
    recorded = {run: _first_file([folder], *(f"{run}{ending}" for ending in READERS)) for run in runs}
    unrecorded = [run for run, file in recorded.items() if file is None]
    if unrecorded and (table.parent == folder or len(unrecorded) == len(runs)):
        raise FileNotFoundError(
            f"{folder} has no recording of run {unrecorded[0]!r}; expected {unrecorded[0]}.npy or another format"
        )
    files = {run: file for run, file in recorded.items() if file is not None}
    confounds, audio = {}, {}
    for run in files:
        if (motion := folder / f"{run}_confounds.tsv").is_file():
            confounds[run] = pd.read_csv(motion, sep="\t", na_values="n/a")
        if (sound := _first_file(places, f"{run}.wav")) is not None:
            audio[run] = sound
    parcels = folder / "parcels.npy"
    scans, n_lost = _same_targets(files, mask if mask.is_file() else None)
    return StoryRecording(
        str(about.get("name", folder.resolve().name)),
        words.select(run=list(scans)),
        scans,
        float(about["tr_s"]),
        dict.fromkeys(scans, float(about.get("first_scan_s", 0.0))),
        confounds,
        _npy(parcels, None).astype(np.int64) if parcels.is_file() else None,
        str(about.get("mesh", "")),
        {
            "layout": "arrays",
            "subject": subject,
            **({"not recorded": unrecorded} if unrecorded else {}),
            **({"voxels_not_in_all_runs": n_lost} if n_lost else {}),
        },
        audio,
    )


def _first_file(places: list[Path], *names: str) -> Path | None:
    return next((place / name for place in places for name in names if (place / name).is_file()), None)


def _no_subjects(folder: Path, task: str | None) -> list[str]:
    raise ValueError(
        f"{folder} holds the arrays of one subject; leave subject out, or put a folder of each subject's into one"
    )


def _own_of_subjects(folder: Path, subject: str | None, task: str | None) -> StoryRecording:
    subject = _one_of("subject", _subjects_of_arrays(folder, None), subject, folder)
    return _own(folder / subject, subject, task, shared=folder)


def _subjects_of_arrays(folder: Path, task: str | None) -> list[str]:
    there = sorted(one.parent for one in folder.glob("*/recording.json"))
    names = [f"{task}{ending}" for ending in READERS]
    return [one.name for one in there if task is None or _first_file([one], *names) is not None]


def _one_of(kind: str, names: list[str], asked: str | None, folder: Path) -> str:
    if not names:
        raise FileNotFoundError(f"{folder} holds no {kind}; download it")
    if asked is None and len(names) == 1:
        return names[0]
    if asked not in names:
        said = "is not among" if asked else "must be said:"
        raise ValueError(f"{kind}={asked} {said} {', '.join(names[:12])}; give one of these")
    return str(asked)


def _lebel(folder: Path, subject: str | None, task: str | None) -> StoryRecording:
    root = folder / "derivative" / "preprocessed_data"
    subject = _one_of("subject", sorted(one.name for one in root.glob("*") if one.is_dir()), subject, root)
    grids = folder / "derivative" / "TextGrids"
    stories = _lebel_stories(folder, subject)
    if task is not None:
        stories = [_one_of("task", stories, task, root / subject)]
    if not stories:
        raise FileNotFoundError(f"{root / subject} holds no story (.hf5) that has a TextGrid in {grids}; download both")
    scans = {story: load_recording(root / subject / f"{story}.hf5") for story in stories}
    # the sound begins with the sixth scan, and of the scans before preprocessing the first ten are gone
    first, tr_s = 10.0, 2.0
    words = [load_words(grids / f"{story}.TextGrid", run=story) for story in stories]
    kept = [_heard(one, first + tr_s * len(scans[one.runs[0]])) for one in words]
    return StoryRecording(
        f"LeBel et al. 2023, {subject}",
        _joined("LeBel", kept),
        scans,
        tr_s,
        dict.fromkeys(stories, first),
        about={
            "layout": "LeBel",
            "subject": subject,
            "words_after_the_last_scan": sum(map(len, words)) - sum(map(len, kept)),
        },
        audio={story: file for story in stories if (file := folder / "stimuli" / f"{story}.wav").is_file()},
    )


def _lebel_stories(folder: Path, subject: str) -> list[str]:
    grids = folder / "derivative" / "TextGrids"
    there = sorted((folder / "derivative" / "preprocessed_data" / subject).glob("*.hf5"))
    return [one.stem for one in there if (grids / f"{one.stem}.TextGrid").is_file()]


def _lebel_subjects(folder: Path, task: str | None) -> list[str]:
    there = sorted((folder / "derivative" / "preprocessed_data").glob("*"))
    stories = {one.name: _lebel_stories(folder, one.name) for one in there if one.is_dir()}
    return [name for name, of_subject in stories.items() if (task in of_subject if task else of_subject)]


def _narratives(folder: Path, subject: str | None, task: str | None) -> StoryRecording:
    root = folder / "derivatives" / "fmriprep"
    subject = _one_of("subject", sorted(one.name for one in root.glob("sub-*") if one.is_dir()), subject, root)
    func = root / subject / "func"
    there = _narratives_runs(folder, subject)
    tasks = sorted({_entity(one.name, "task") for one in there})
    chosen = [_one_of("task", tasks, task, func)] if task is not None else tasks
    scans, sets, confounds, audio = {}, [], {}, {}
    for left in there:
        story = _entity(left.name, "task")
        if story not in chosen:
            continue
        run = "_".join([story, *([f"run-{number}"] if (number := _entity(left.name, "run")) else [])])
        scans[run] = _both_hemispheres(left)
        sets.append(load_words(folder / "stimuli" / "gentle" / story / "align.csv", run=run))
        if (sound := folder / "stimuli" / f"{story}_audio.wav").is_file():
            audio[run] = sound
        table = left.with_name(left.name.split("_space-")[0] + "_desc-confounds_regressors.tsv")
        table = table if table.is_file() else table.with_name(table.name.replace("regressors", "timeseries"))
        if table.is_file():
            confounds[run] = pd.read_csv(table, sep="\t", na_values="n/a")
    if not scans:
        raise FileNotFoundError(f"{func} holds no run on fsaverage5 whose story is in {folder / 'stimuli' / 'gentle'}")
    # words lie on the clock of the sound, which does not begin with the first scan where a run begins with silence
    first, unsaid = {}, []
    for run in scans:
        story, *rest = run.split("_run-")
        events = "_".join([subject, f"task-{story}", *(f"run-{one}" for one in rest), "events.tsv"])
        onset_s = _sound_onset_s(folder / subject / "func" / events)
        unsaid += [run] if onset_s is None else []
        first[run] = -(onset_s or 0.0)
    if unsaid:
        warnings.warn(
            f"no events.tsv in {folder / subject / 'func'} says when the story begins in {', '.join(unsaid)}; it is "
            "taken to begin with the first scan: add the events of the data set where runs begin with silence",
            stacklevel=3,
        )
    words = _joined("Narratives", sets)
    about = {"layout": "Narratives", "subject": subject}
    name = f"Narratives, {subject}"
    return StoryRecording(name, words, scans, 1.5, first, confounds, None, "fsaverage5", about, audio)


def _little_prince(folder: Path, subject: str | None, task: str | None) -> StoryRecording:
    root, tr_s = folder / "derivatives", 2.0
    subject = _one_of("subject", _little_prince_subjects(folder, task), subject, root)
    language = subject.removeprefix("sub-")[:2]
    table = folder / "annotation" / language / f"lpp{language}_word_information.csv"
    _expect_content(table)
    if not table.is_file():
        raise FileNotFoundError(f"{subject} speaks {language!r} by its name, and there is no {table}; download it")
    read = load_words(table, run_column="section")
    # rows without a word are pauses; some tables write NaN there
    read = read.take([row for row, word in enumerate(read.items) if word.strip().lower() not in ("nan", "#")])
    if unnumbered := [run for run in read.runs if not re.fullmatch(r"\d+(\.0*)?", run)]:
        raise ValueError(f"{table} has a word in section {unnumbered[0]!r}; expected numbers such as 1 to 9")
    of = np.array([f"section-{int(float(run))}" for run in read.runs])
    sections = sorted({int(float(run)) for run in read.runs})
    func = root / subject / "func"
    names = sorted(one.name for one in func.iterdir()) if func.is_dir() else []  # names of what is not downloaded too
    surfaces = [one for one in names if "_space-fsaverage5" in one and "hemi-L" in one and one.endswith(".func.gii")]
    volumes = [one for one in names if one.endswith(("_bold.nii.gz", "_bold.nii")) and "_space-MNIColin27" in one]
    of_runs = surfaces if len(surfaces) == len(sections) else volumes
    numbered = {number: one for one in of_runs if (number := _entity(one, "run")).isdigit()}
    ordered = sorted(numbered, key=int)
    if len(ordered) != len(sections):
        raise ValueError(
            f"{subject} has {len(ordered)} runs ({', '.join(ordered) or 'none'}) and {table.name} {len(sections)} "
            "sections; the n-th run is section n, so that all must be there, if only by name: download them, or move "
            "away what is none"
        )
    files = {f"section-{section}": func / numbered[run] for section, run in zip(sections, ordered, strict=True)}
    if task is not None:
        chosen = _one_of("task", list(files), task, func)
        files = {chosen: files[chosen]}
    mask = root / "mask.nii.gz"
    about: dict[str, Any] = {"layout": "Le Petit Prince", "subject": subject}
    about["files"] = {name: one.name for name, one in files.items()}
    if of_runs is surfaces:
        scans = {name: _both_hemispheres(left) for name, left in files.items()}
    else:
        has_mask = mask.is_symlink() or mask.is_file()
        if has_mask:
            _expect_content(mask)
        scans, about["voxels_not_in_all_runs"] = _same_targets(files, mask if has_mask else None)
    words = replace(read, runs=tuple(of.tolist()))
    sets = [words.select(run=name) for name in files]
    kept = [_heard(one, tr_s * len(scans[name])) for name, one in zip(files, sets, strict=True)]
    about["words_after_the_last_scan"] = sum(map(len, sets)) - sum(map(len, kept))
    name, mesh = f"Le Petit Prince, {subject}", "fsaverage5" if of_runs is surfaces else ""
    return StoryRecording(name, _joined("Le Petit Prince", kept), scans, tr_s, mesh=mesh, about=about)


def _heard(words: StimulusSet, end_s: float) -> StimulusSet:
    """Words before the end of the scans."""
    return words.take(np.flatnonzero(np.array(words.onset_s) < end_s))


def _both_hemispheres(left: Path) -> np.ndarray:
    """Scans of both hemispheres, the left one first."""
    return np.hstack([load_recording(left), load_recording(left.with_name(left.name.replace("hemi-L", "hemi-R")))])


def _sound_onset_s(events: Path) -> float | None:
    """When the sound of the story begins in its run, music before the words included; None where no events say."""
    if not events.is_file():
        return None
    table = pd.read_csv(events, sep="\t")
    if "trial_type" not in table:
        return float(table["onset"].iloc[0]) if len(table) else None
    kinds = table["trial_type"].astype(str)
    told: Any = table[kinds.str.contains("story")]
    if not len(told):
        return None
    # music and story are of one file of sound, which begins with the music
    with_it: Any = table[table["stim_file"] == told["stim_file"].iloc[0]] if "stim_file" in table else None
    heard: Any = table[kinds.str.contains("story|music")] if with_it is None else with_it
    return float(heard["onset"].min())


def _narratives_runs(folder: Path, subject: str) -> list[Path]:
    """Left hemispheres of runs whose story has words."""
    func = folder / "derivatives" / "fmriprep" / subject / "func"
    there = sorted(func.glob("*_space-fsaverage5*hemi-L*.func.gii"))
    words = folder / "stimuli" / "gentle"
    return [one for one in there if (words / _entity(one.name, "task") / "align.csv").is_file()]


def _narratives_subjects(folder: Path, task: str | None) -> list[str]:
    root = folder / "derivatives" / "fmriprep"
    there = sorted(one.name for one in root.glob("sub-*") if one.is_dir())
    tasks = {name: {_entity(one.name, "task") for one in _narratives_runs(folder, name)} for name in there}
    return [name for name, of_subject in tasks.items() if (task in of_subject if task else of_subject)]


def _entity(name: str, key: str) -> str:
    """Value of a BIDS entity in a file name; empty where it has none."""
    return next((part.split("-", 1)[1] for part in name.split("_") if part.startswith(f"{key}-")), "")


def _joined(name: str, sets: list[StimulusSet]) -> StimulusSet:
    """Words of several stories, one after the other."""
    return StimulusSet(
        name,
        tuple(word for one in sets for word in one.items),
        tuple(condition for one in sets for condition in one.conditions),
        tuple(run for one in sets for run in one.runs),
        onset_s=tuple(onset for one in sets for onset in one.onset_s or ()),
    )


def _little_prince_subjects(folder: Path, _: str | None) -> list[str]:
    return sorted(one.name for one in (folder / "derivatives").glob("sub-*") if one.is_dir())


class _Layout(NamedTuple):
    """A way in which data lie in a folder."""

    mark: str  # what tells it: a file or folder, perhaps with wildcards
    read: Callable[[Path, str | None, str | None], StoryRecording]
    subjects: Callable[[Path, str | None], list[str]]


LAYOUTS: dict[str, _Layout] = {
    "arrays": _Layout("recording.json", _own, _no_subjects),
    "LeBel": _Layout("derivative/TextGrids", _lebel, _lebel_subjects),
    "Narratives": _Layout("stimuli/gentle", _narratives, _narratives_subjects),
    "subjects": _Layout("*/recording.json", _own_of_subjects, _subjects_of_arrays),
    "Le Petit Prince": _Layout("annotation", _little_prince, _little_prince_subjects),
}
