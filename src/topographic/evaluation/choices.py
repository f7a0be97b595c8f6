"""What decides an evaluation: the numbers it is made with, and what a model is shown."""

import math
import numbers
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, get_args

from topographic.objectives.config import expect
from topographic.stimuli.category_contrasts import CATEGORY_CONTRASTS

__all__ = [
    "FEWEST_WINDOW_WORDS",
    "LANGUAGE_CONTRASTS",
    "Choices",
    "ContrastChoices",
    "MapChoices",
    "Shown",
]

# Help and wrong words read this file: it loads neither torch nor transformers.

FEWEST_WINDOW_WORDS = 8  # a window has four lags or more
LesionMode = Literal["zero", "mean", "resample"]
Pooling = Literal["mean", "last", "sum", "max", "class"]
# a look at everything in about a minute on a small model; p values go down to 1 / 21 only
_QUICK = {"n_draws": 20, "lesion_draws": 3, "permuted_draws": 3, "window_sequences": 3, "word_folds": 4}
# of language models: stimulus set, condition and baseline
LANGUAGE_CONTRASTS = {
    "language": ("language", "sentences", "nonwords"),
    "syntax": ("language", "sentences", "words"),
    "nouns_verbs": ("nouns_verbs", "noun", "verb"),
}
_SHARES = ("fwhm_mm", "lesion_fractions", "removed")


@dataclass(frozen=True)
class Choices:
    """The numbers that decide what is measured.

    Raises
    ------
    ValueError
        If nothing can be measured with one of them.

    Examples
    --------
    >>> Choices(quick=True).as_measured().n_draws
    20
    """

    quick: bool = False
    """Few draws, one lesion, few sequences: a look, not a result."""
    fwhm_mm: tuple[float, ...] = (0.0, 2.0)
    """Gaussian readouts before the contrasts, full widths at half maximum; 0 for none, 2 in the paper."""
    n_draws: int = 200
    """Draws of each null."""
    cluster_threshold: float = 3.0
    """t above which units form the clusters that are tested; chosen before looking."""
    lesion_fractions: tuple[float, ...] = (0.01, 0.05)
    """Shares of all units that lesions silence, the most language-selective ones."""
    lesion_draws: int = 99
    """Control lesions of each kind; at least 99, fewer in a quick look."""
    lesion_mode: LesionMode = "zero"
    """What takes the place of silenced activity."""
    lesion_pairs: int = 20
    """Minimal pairs per paradigm that are measured under lesions and after compression."""
    removed: tuple[float, ...] = (0.2, 0.5, 0.8)
    """Shares of the weights that pruning and downsampling take away."""
    permuted_draws: int = 20
    """Permutations of the units before downsampling: what it costs where units lie anywhere."""
    window_words: int = 40
    """Words in the sequences in which words are swapped."""
    window_sequences: int = 20
    """Sequences in which words are swapped, if there is as much text."""
    word_folds: int = 10
    """Sets of sentences in the cross-validation of words (half as many sets of sentences, and of word types, where both
    are kept apart)."""
    spill_over: int = 2
    """Words before a word whose length, frequency and surprisal may show in its measure."""
    seed: int = 0
    """Seed of nulls, samples and controls."""

    def __post_init__(self) -> None:
        """Refuse numbers nothing can be measured with."""
        for name in _SHARES:
            object.__setattr__(self, name, tuple(float(number) for number in getattr(self, name)))
        if not self.fwhm_mm or not all(math.isfinite(width) and width >= 0 for width in self.fwhm_mm):
            raise ValueError(
                f"fwhm_mm={list(self.fwhm_mm)}; expected widths in mm of 0 (no readout) or above, such as [0, 2]"
            )
        if len(set(self.fwhm_mm)) < len(self.fwhm_mm):
            raise ValueError(f"fwhm_mm={list(self.fwhm_mm)} names a width twice; give each once")
        _require_whole(self, "n_draws", 19, "with fewer draws of a null no p reaches .05")
        few = "with fewer control lesions no p reaches .01, but in a quick look (quick=True)"
        _require_whole(self, "lesion_draws", 1 if self.quick else 99, "" if self.quick else few)
        for name, least in {"lesion_pairs": 1, "permuted_draws": 2, "window_sequences": 1}.items():
            _require_whole(self, name, least)
        _require_whole(self, "window_words", FEWEST_WINDOW_WORDS, "a window has four lags or more")
        _require_whole(self, "word_folds", 4, "words are kept apart in half as many sets of sentences and of types")
        _require_whole(self, "spill_over", 0)
        _require_whole(self, "seed", 0)
        if not all(0 < fraction <= 0.5 for fraction in self.lesion_fractions):
            raise ValueError(
                f"lesion_fractions={list(self.lesion_fractions)}; expected shares above 0 and at most 0.5, such as "
                "[0.01], because as many other units serve as controls"
            )
        if not self.removed or not all(0 < share < 1 for share in self.removed):
            raise ValueError(
                f"removed={list(self.removed)}; expected shares above 0 and below 1, such as [0.2, 0.5, 0.8]"
            )
        if not 0 < self.cluster_threshold < math.inf:
            raise ValueError(f"cluster_threshold={self.cluster_threshold}; expected a t above 0, such as 3")
        _require_one_of(self, "lesion_mode", LesionMode)

    def as_measured(self) -> "Choices":
        """With as few draws, lesions and sequences as a quick look has; shares in their order."""
        sizes = {name: min(getattr(self, name), most) for name, most in _QUICK.items()} if self.quick else {}
        fractions = self.lesion_fractions[:1] if self.quick else self.lesion_fractions
        return replace(self, removed=tuple(sorted(self.removed)), lesion_fractions=fractions, **sizes)


@dataclass(frozen=True)
class Shown:
    """What a model is shown, and how it is read.

    Raises
    ------
    ValueError
        If there would be nothing to show.
    """

    stimuli: str | None = None
    """Folder of the published stimulus sets; our own sets by default."""
    pairs: str = "own"
    """Minimal pairs: "own", or a .jsonl file or a folder of them in BLiMP's layout."""
    pairs_per_paradigm: int | None = None
    """Only the first minimal pairs of each paradigm; all by default."""
    syntaxgym: str | None = None
    """SyntaxGym suites to measure as well: a .json file or a folder of them; none by default."""
    text: str | None = None
    """File with one passage a line for perplexity and word swaps; the good sentences of the pairs, and the sentences
    of the localizer, by default. The suite layout finds regions in it, and in nothing else."""
    other_layout: str | None = None
    """Folder of another layout of the same model, fitted on another half of the text with another seed; for the suite
    layout, which tells how far the two agree."""
    data: str | None = None
    """Folder for the suite brain: corpora measured word by word (potentials, reading times), averages of fMRI, and
    assemblies of Brain-Score (.nc)."""
    pooling: Pooling = "mean"
    """How an item's tokens become one response: mean, last or sum; of an image's places mean, max, or class token."""
    n_images: int = 80
    """Images of each category that a vision model is shown."""
    test_set: str | None = None
    """Images that a vision model should recognise after compression: mnist, fashion_mnist or cifar10, or "none"; those
    it was trained on by default, if its run says so."""
    n_test_images: int = 2000
    """As many test images at most."""
    image_folders: dict[str, str] | None = None
    """For mnist, fashion_mnist, cifar10 and orl_faces, folders of their files in place of the packages."""
    batch_size: int = 32
    """Items per forward pass."""

    def __post_init__(self) -> None:
        """Refuse numbers nothing can be shown with."""
        if self.pairs_per_paradigm is not None:
            _require_whole(self, "pairs_per_paradigm", 1, "or none for all pairs")
        for name, least in {"n_images": 2, "n_test_images": 1, "batch_size": 1}.items():
            _require_whole(self, name, least)
        _require_one_of(self, "pooling", Pooling)


@dataclass(frozen=True)
class ContrastChoices:
    """Which contrasts are mapped and how they are tested, whatever the readout."""

    contrasts: list[str] | None = None
    """Which contrasts: language (sentences - nonword strings), syntax (sentences - word lists), nouns_verbs; by default
    language and nouns_verbs. Of a vision model: faces, objects, characters, animals, vehicles (each against the rest),
    faces-objects, animate-inanimate, and "scrambled faces" and so on; by default faces, animate-inanimate and these two
    of scrambled images."""
    n_draws: int = 200
    """Draws of each of the three nulls."""
    exchangeable: list[str] = field(default_factory=lambda: ["run"])
    """Labels are permuted only among items that agree in these: run, length, or a label column."""
    pooling: Literal["mean", "last", "sum", "max", "class"] = "mean"
    """How an item's tokens become one response: mean, last or sum; of an image's places mean, max, or class token."""
    batch_size: int = 32
    """Items per forward pass."""
    seed: int = 0
    """Seed of the nulls, and of the choice of images."""
    nulls: bool = True
    """Keep the null maps beside the maps (3 x n_draws per site), so that anything else can be tested on them later."""
    n_images: int = 80
    """Images of each category, for a vision model."""
    image_folders: dict[str, str] | None = None
    """For mnist, fashion_mnist, cifar10 and orl_faces, folders of their files in place of the packages."""
    section: ClassVar[str] = ""  # what stands before a field's name on the command line

    def __post_init__(self) -> None:
        """Refuse what no model can be asked for, before anything is loaded."""
        texts, images = sorted(LANGUAGE_CONTRASTS), sorted(CATEGORY_CONTRASTS)
        if self.contrasts == [] or set(self.contrasts or ()) - {*texts, *images}:
            raise ValueError(
                f"{self.section}contrasts={self.contrasts}; expected one or more of {texts}, or of images, {images}"
            )
        draws = "0 for no nulls, or at least 2 draws of each null (200 give p to .005)"
        expect(self.n_draws == 0 or self.n_draws >= 2, f"{self.section}n_draws", self.n_draws, draws)
        expect(self.n_images >= 2, f"{self.section}n_images", self.n_images, "at least 2 images of each category")
        expect(self.batch_size >= 1, f"{self.section}batch_size", self.batch_size, "at least 1 item")
        expect(self.seed >= 0, f"{self.section}seed", self.seed, "a whole number from 0 on")


@dataclass(frozen=True)
class MapChoices(ContrastChoices):
    """Which maps are made, and how; see the fields, which are also words of `topo map`.

    Raises
    ------
    ValueError
        If a contrast does not exist, or a number is none that maps can be made with.

    Examples
    --------
    >>> MapChoices(contrasts=["nouns_verbs"], fwhm_mm=2.0).n_draws
    200
    """

    fwhm_mm: float = 0.0
    """Gaussian readout before the contrast, full width at half maximum; 0 for none, 2 in the TopoLM paper."""

    def __post_init__(self) -> None:
        """Refuse a width that is none."""
        super().__post_init__()
        good = math.isfinite(self.fwhm_mm) and self.fwhm_mm >= 0
        expect(good, f"{self.section}fwhm_mm", self.fwhm_mm, "a width in mm from 0 (no readout) on")


def _require_whole(choices: Any, name: str, least: int, why: str = "") -> None:
    value = getattr(choices, name)
    if not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name}={value}; expected a whole number of at least {least}" + (f": {why}" if why else ""))


def _require_one_of(choices: Any, name: str, allowed: Any) -> None:
    value = getattr(choices, name)
    if value not in get_args(allowed):
        raise ValueError(f"{name}={value!r}; expected one of {', '.join(get_args(allowed))}")
