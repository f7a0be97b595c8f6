"""Responses to the parts of texts, item by item, as Brain-Score Language keeps them: which person, which place."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Float

from topographic.brain.netcdf import load_netcdf, netcdf_axes
from topographic.brain.word_corpora import length_and_position
from topographic.storage import digest

__all__ = ["ResponseAssembly", "load_assemblies", "load_assembly"]

_ITEMS, _TARGETS = "presentation", "neuroid"
_TEXTS = ("stimulus", "sentence", "stimuli", "stimulus_sentence", "word")
_SUBJECTS = ("subject", "subject_UID", "subject_id")
_REGIONS = ("roi", "fROI_area", "region", "atlas")


@no_type_check  # lists are welcome: __post_init__ converts and checks what the fields then hold
@dataclass(frozen=True, eq=False)
class ResponseAssembly:
    """Texts that were read in parts, and what every target of every subject responded to every part.

    Parameters
    ----------
    name : str
        Of the data.
    stimuli : sequence of str
        The parts: sentences, pieces of a story, words; white space at their ends is dropped.
    groups : sequence of str
        What stays on one side of a split, of each part: its topic, story or sentence.
    contexts : sequence of str
        The document that each part belongs to. Parts of one are read one after another as they stand here.
    responses : ndarray, shape (items, targets)
        NaN where a subject did not see a part.
    subjects, regions : sequence of str
        Of each target; regions may be left out.
    experiments : sequence of str, optional
        Of each part, where the data hold several.
    notes : sequence of str
        What was left out, and why. Targets without any value, and those that never vary, are left out here.

    Raises
    ------
    ValueError
        If lengths differ, a part is blank, a document lies in two groups, a response is infinite or no target varies.

    Examples
    --------
    >>> three = ResponseAssembly("three", ["One.", "Two.", "Three."], ["a", "a", "b"], ["a", "a", "b"],
    ...                          [[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]], ["s1", "s1"])
    >>> three
    ResponseAssembly('three': 3 parts of 2 texts in 2 groups, 1 target of 1 subject)
    >>> three.notes
    ('1 of 2 targets never vary and are left out',)
    """

    name: str
    stimuli: tuple[str, ...]
    groups: tuple[str, ...]
    contexts: tuple[str, ...]
    responses: Float[np.ndarray, "items targets"]
    subjects: tuple[str, ...]
    regions: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Convert, refuse what does not belong together, and leave out targets that say nothing."""
        responses = np.asarray(self.responses, dtype=np.float64)
        if responses.ndim != 2:
            raise ValueError(f"assembly {self.name!r}: responses of shape {responses.shape}; expected (items, targets)")
        kept = {"stimuli": tuple(str(one).strip() for one in self.stimuli)}
        for name, size in (("groups", 0), ("contexts", 0), ("experiments", 0), ("subjects", 1), ("regions", 1)):
            given = getattr(self, name)
            if not len(given) and name in ("experiments", "regions"):
                given = ("",) * responses.shape[size]
            kept[name] = tuple(map(str, given))
        for name, values in kept.items():
            axis = int(name in ("subjects", "regions"))
            if len(values) != responses.shape[axis]:
                what = "targets" if axis else "items"
                raise ValueError(
                    f"assembly {self.name!r}: {len(values)} {name} for {responses.shape[axis]} {what}; give one each"
                )
        if blank := [row for row, one in enumerate(kept["stimuli"]) if not one]:
            raise ValueError(f"assembly {self.name!r}: part {blank[0]} is blank; leave it out")
        if np.isinf(responses).any():
            raise ValueError(f"assembly {self.name!r}: a response is infinite; put NaN where there is none")
        group_of: dict[str, str] = {}
        for context, group in zip(kept["contexts"], kept["groups"], strict=True):
            if group_of.setdefault(context, group) != group:
                raise ValueError(
                    f"assembly {self.name!r}: text {context!r} lies in groups {group_of[context]!r} and {group!r}; "
                    "parts of one text stay together: name larger groups"
                )
        there = np.isfinite(responses)
        low = np.where(there, responses, np.inf).min(axis=0, initial=np.inf)
        varied = low < np.where(there, responses, -np.inf).max(axis=0, initial=-np.inf)
        if not varied.any():
            raise ValueError(f"assembly {self.name!r}: none of {len(varied)} targets varies; check the file")
        notes, n_empty = list(self.notes), int((~there.any(axis=0)).sum())
        for n_left_out, why in ((n_empty, "have no value"), (int((~varied).sum()) - n_empty, "never vary")):
            if n_left_out:
                notes.append(f"{n_left_out} of {len(varied)} targets {why} and are left out")
        kept |= {name: tuple(np.array(kept[name])[varied].tolist()) for name in ("subjects", "regions")}
        for name, values in {**kept, "responses": responses[:, varied], "notes": tuple(notes)}.items():
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        """Number of parts."""
        return len(self.stimuli)

    def __repr__(self) -> str:
        """One line."""
        n_subjects, n_targets = len(set(self.subjects)), len(self.subjects)
        return (
            f"ResponseAssembly({self.name!r}: {len(self)} parts of {len(set(self.contexts))} texts in "
            f"{len(set(self.groups))} groups, {n_targets} target{'s' * (n_targets > 1)} of {n_subjects} "
            f"subject{'s' * (n_subjects > 1)})"
        )

    @property
    def checksum(self) -> str:
        """Of everything in it."""
        numbers = hashlib.sha256(np.where(np.isnan(self.responses), np.nan, self.responses).tobytes()).hexdigest()
        texts = (self.stimuli, self.groups, self.contexts, self.subjects, self.regions, self.experiments)
        return digest([self.name, *map(list, texts), numbers])

    def controls(self) -> dict[str, Float[np.ndarray, " items"]]:
        """Numbers of words and of letters of every part, and its place in its text."""
        return length_and_position(self.stimuli, self.contexts)

    def take(self, items: Sequence[int] | np.ndarray, name: str | None = None) -> "ResponseAssembly":
        """Some of the parts; targets that have no value there are left out."""
        rows = np.asarray(items, dtype=np.int64)
        columns = {
            one: tuple(np.array(getattr(self, one))[rows].tolist())
            for one in ("stimuli", "groups", "contexts", "experiments")
        }
        return replace(self, name=self.name if name is None else name, responses=self.responses[rows], **columns)

    def by_experiment(self) -> dict[str, "ResponseAssembly"]:
        """Each experiment by itself, by its name; the whole where there is but one."""
        names = list(dict.fromkeys(self.experiments))
        if len(names) == 1:
            return {names[0]: self}
        of = np.array(self.experiments)
        return {one: self.take(np.flatnonzero(of == one), f"{self.name}, {one}") for one in names}


class _Layout(NamedTuple):
    """By which coordinates a data set is known, and what they say."""

    known_by: tuple[str, ...]
    groups: tuple[str, ...]
    contexts: tuple[str, ...]
    order: tuple[str, ...] = ()


def load_assembly(
    file: str | Path, *, experiment: str | None = None, groups: str | None = None, contexts: str | None = None
) -> ResponseAssembly:
    """Read an assembly of Brain-Score Language, or of one's own in its form.

    Parameters
    ----------
    file : str or Path
        NetCDF, as xarray writes it: one variable over "presentation" and "neuroid" in either order, the text of every
        presentation in "stimulus" (or "sentence"), the subject of every neuroid in "subject" or "subject_UID".
    experiment : str, optional
        Only these presentations, such as "243sentences" of Pereira et al.
    groups, contexts : str, optional
        Coordinates of presentations: what stays on one side of a split, and which document a presentation is a part
        of. Known of four data sets, by their coordinates: Pereira2018 (topics; passages), Blank2014 (stories),
        Fedorenko2016 (sentences of eight words), Tuckute2024 (every sentence by itself); and of files with a
        coordinate "group", which may have "context" beside it. With ``groups`` alone every part is read by itself.

    Returns
    -------
    ResponseAssembly
        Documents in the order of the file, the parts of each in the order in which they were heard or read.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, it is broken or no assembly, or it is not known what its groups are.

    Notes
    -----
    The files lie in Brain-Score's S3 bucket "brainscore-storage" under "brainscore-language/", such as
    ``assy_Pereira2018_language.nc``. With the package (``pip install git+https://github.com/brain-score/language``) a
    call of ``load_dataset("Pereira2018.language")`` leaves the file below ``~/.brainio``; or write what it returns, an
    ``assembly``: ``assembly.reset_index(list(assembly.indexes)).to_netcdf("Pereira2018.language.nc")``.

    Departs from Brain-Score where that reads other texts than the participants: passages of Pereira's 243 sentences
    are read one by one (their label names the topic of three), and the parts of a story in the order of its sentences,
    whatever that of the file.

    References
    ----------
    Pereira et al. 2018; Blank et al. 2014; Fedorenko et al. 2016; Tuckute et al. 2024; Schrimpf et al. 2021.
    """
    file = Path(file)
    axes = netcdf_axes(file)
    values = _values(file, axes)
    items, targets = (
        {name: one.values for name, one in load_netcdf(file, [key for key in axes if axes[key] == (axis,)]).items()}
        for axis in (_ITEMS, _TARGETS)
    )
    layout = _layout(file, items, groups, contexts)
    documents = [name for name in layout.contexts if name in items]
    whole = ResponseAssembly(
        file.name.removesuffix(".nc").removeprefix("assy_"),
        _labels(_first(file, items, _TEXTS)),
        _joined(file, items, layout.groups),
        _joined(file, items, documents) if documents else tuple(map(str, range(len(values)))),
        values,
        _labels(_first(file, targets, _SUBJECTS)),
        _labels(_first(file, targets, _REGIONS)) if set(_REGIONS) & set(targets) else (),
        _labels(items["experiment"]) if "experiment" in items else (),
    )
    whole = whole.take(_order(file, items, whole.contexts, layout.order))
    if experiment is None:
        return whole
    found = whole.by_experiment()
    if experiment not in found:
        raise ValueError(f"{file} has no experiment {experiment!r}; it has {', '.join(map(repr, found))}")
    return found[experiment]


def load_assemblies(folder: str | Path) -> dict[str, ResponseAssembly]:
    """Every assembly below a folder, each experiment by itself.

    Parameters
    ----------
    folder : str or Path
        Below it NetCDF files (``.nc``); those without presentations and neuroids are passed over.

    Returns
    -------
    dict of str to ResponseAssembly
        By name of file and experiment.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder is not there, two files have one name, or as `load_assembly`.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"no folder {folder}; give one with assemblies (.nc) below it")
    found: dict[str, ResponseAssembly] = {}
    for file in sorted(Path(folder).rglob("*.nc")):
        if not _response_names(netcdf_axes(file)):
            continue
        for one in load_assembly(file).by_experiment().values():
            if one.name in found:
                raise ValueError(f"two files below {folder} are called {file.name}; rename one or leave it out")
            found[one.name] = one
    return found


def _response_names(axes: Mapping[str, tuple[str, ...]]) -> list[str]:
    return [name for name, of in axes.items() if {_ITEMS, _TARGETS} <= set(of)]


def _values(file: Path, axes: Mapping[str, tuple[str, ...]]) -> Float[np.ndarray, "items targets"]:
    """The one variable over presentations and neuroids."""
    names = _response_names(axes)
    if len(names) != 1:
        raise ValueError(
            f"{file} has {len(names)} variables over {_ITEMS} and {_TARGETS} ({', '.join(names or sorted(axes))}); "
            "expected one, as an assembly of Brain-Score has"
        )
    of, values = load_netcdf(file, names)[names[0]]
    values = np.moveaxis(values, [of.index(_ITEMS), of.index(_TARGETS)], [0, 1])
    if values[:1, :1].size != 1:
        raise ValueError(f"{file}: {names[0]!r} has axes {', '.join(of)}; select one bin of time and save it again")
    return values.squeeze(axis=tuple(range(2, values.ndim)))


def _layout(file: Path, items: Mapping[str, np.ndarray], groups: str | None, contexts: str | None) -> _Layout:
    if missing := [name for name in (groups, contexts) if name is not None and name not in items]:
        raise ValueError(f"{file} has no coordinate {missing[0]!r} of presentations; it has {sorted(items)}")
    known = next((one for one in DATA_SETS.values() if set(one.known_by) <= set(items)), None)
    if groups is not None:
        layout = _Layout((), (groups,), ())
    elif known is not None:
        layout = known
    else:
        raise ValueError(
            f"{file} is none of {', '.join(DATA_SETS)} by its coordinates {sorted(items)}; say groups=COORDINATE, what "
            "stays on one side of a split, or call it 'group' in the file"
        )
    return layout if contexts is None else layout._replace(contexts=(contexts,))


def _first(file: Path, columns: Mapping[str, np.ndarray], names: Sequence[str]) -> np.ndarray:
    """The first of these coordinates that is there."""
    for name in names:
        if name in columns:
            return columns[name]
    raise ValueError(f"{file} has no coordinate {' or '.join(names)}; it has {sorted(columns)}: rename one")


def _joined(file: Path, items: Mapping[str, np.ndarray], names: Sequence[str]) -> tuple[str, ...]:
    """One label of each presentation from several coordinates."""
    columns = {name: _labels(items[name]) for name in names}
    for name, labels in columns.items():
        if "" in labels:
            raise ValueError(f"{file}: presentation {labels.index('')} has no {name}; leave it out or name it")
    return tuple(", ".join(row) for row in zip(*columns.values(), strict=True))


def _labels(values: np.ndarray) -> tuple[str, ...]:
    """Names as text: numbers without a fraction that is 0, nothing where there is none."""
    if values.dtype.kind != "f":
        return tuple(map(str, values.tolist()))
    return tuple("" if np.isnan(one) else f"{one:g}" if one % 1 else str(int(one)) for one in values.tolist())


def _order(file: Path, items: Mapping[str, np.ndarray], contexts: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Documents as they first appear, their parts by the coordinates that count them, else as in the file."""
    first = {context: place for place, context in enumerate(dict.fromkeys(contexts))}
    keys = [np.array([first[one] for one in contexts])]
    if set(names) <= set(items):
        try:
            keys += [items[name].astype(np.float64) for name in names]
        except ValueError as error:
            raise ValueError(f"{file}: {' or '.join(names)} is no number ({error}); save it as one") from error
    return np.lexsort(keys[::-1])


DATA_SETS: dict[str, _Layout] = {
    "own": _Layout(("group",), ("group",), ("context",)),
    "Pereira2018": _Layout(
        ("experiment", "story", "passage_label"),
        ("story",),
        ("experiment", "passage_label", "passage_index"),
        ("stimulus_num",),
    ),
    "Fedorenko2016": _Layout(("sentence_id", "word_num"), ("sentence_id",), ("sentence_id",), ("word_num",)),
    "Blank2014": _Layout(("story",), ("story",), ("story",), ("sentence_number_in_story", "part_number_in_sentence")),
    "Tuckute2024": _Layout(("stimulus_id", "cond"), ("stimulus_id",), ("stimulus_id",)),
}
