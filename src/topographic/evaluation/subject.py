"""The subject of an evaluation: a model, what it is shown, and what its units did; for language and for vision."""

import hashlib
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from topographic.behaviour import MinimalPairScores, Suite, load_suites, perplexity, token_log_probabilities
from topographic.brain.assemblies import ResponseAssembly, load_assemblies
from topographic.brain.word_corpora import (
    ERP_COMPONENTS,
    SentenceCorpus,
    WordCorpus,
    load_sentence_corpora,
    load_word_corpora,
)
from topographic.evaluation.choices import Shown
from topographic.evaluation.results import NotMeasurable, plain
from topographic.evaluation.word_readings import word_surprisal
from topographic.evaluation.wording import counted
from topographic.layouts import Adaptors
from topographic.maps import Selection
from topographic.maps.localizer import load_or_localize, localize
from topographic.objectives.weight_terms import WeightSheet
from topographic.recording import Preparation, Responses, record, record_images, record_tokens
from topographic.recording.checksum import architecture_checksum, weights_checksum
from topographic.recording.reading import evaluating
from topographic.sheets import Layout, Sheet
from topographic.stimuli import (
    CATEGORY_CONTRASTS,
    ImageStimuli,
    StimulusSet,
    category_images,
    load_localizer,
)
from topographic.stimuli.categories import CATEGORIES
from topographic.stimuli.minimal_pairs import load_minimal_pairs
from topographic.storage import code_version, digest, read_text
from topographic.training.images import load_image_split
from topographic.training.text.tokenizer import tokenizer_checksum

__all__ = ["PUBLISHED_SETS", "SETS", "LanguageSubject", "Subject", "VisionSubject"]

# what stands for what: our own sets, or the published ones where their folder is given
SETS = {"localizer": "language", "profiles": "language", "words": "nouns_verbs", "suites": "suites"}
PUBLISHED_SETS = {
    "localizer": "fedorenko2010",
    "profiles": "fedorenko_swjn",
    "words": "moseley",
    "phrases": "hauptman",
    "suites": "suites",  # ours: the published ones are not public
}
_MOST_LINES = 4000  # of a text in which regions are found: the tree holds the distances of all pairs


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Subject(ABC):
    """A model with its sheets, and everything that is shown to it; of a kind that its class says.

    Parameters
    ----------
    model
        Any Hugging Face model.
    sites : str or sequence of str
        Which modules to record, as `find_sites` takes them.
    layout : callable or mapping
        Layout of the sites, or the sheet of each.
    shown : Shown
        What it is shown.
    weight_sheets : tuple of WeightSheet
        Those it was trained with, one layer's name in each.
    source : str
        Where it came from.
    remarks : tuple of str
        What has to be said about it.
    progress : bool
        Show what is being read.
    """

    model: Any
    sites: str | Sequence[str]
    layout: Layout | Mapping[str, Sheet]
    shown: Shown = field(default_factory=Shown)
    weight_sheets: tuple[WeightSheet, ...] = ()
    source: str = ""
    remarks: tuple[str, ...] = ()
    progress: bool = True
    _recorded: dict[tuple, dict[str, Responses]] = field(default_factory=dict)
    kind: ClassVar[str]
    contrast: ClassVar[tuple[str | tuple[str, ...], str | tuple[str, ...]]]
    contrast_name: ClassVar[str]
    measures: ClassVar[dict[str, str]]

    def __repr__(self) -> str:
        """One line."""
        return f"{type(self).__name__}({type(self.model).__name__}, sites={self.sites!r})"

    @cached_property
    def identity(self) -> dict[str, str]:
        """Checksums of the model and of what reads for it: what every number depends on."""
        own = {"weights": weights_checksum(self.model), "architecture": architecture_checksum(self.model)}
        return {**own, **self._reader()}

    @cached_property
    def sheets(self) -> dict[str, Sheet]:
        """The sheet of every recorded site."""
        heard = self._record(self._two_items(), progress=False)
        return {site: one.sheet for site, one in heard.items()}

    def recorded(self, role: str) -> dict[str, Responses]:
        """Responses of every site to what has this role, recorded once for a model, its sites and their sheets."""
        shown = self._material_of(role)
        key = self.recording_key(role)
        if key not in self._recorded:
            self._recorded[key] = self._record(shown, progress=self.progress)
        return self._recorded[key]

    def recording_key(self, role: str) -> tuple:
        """What decides a recording."""
        shown = self._material_of(role)
        stimuli = shown.stimuli if isinstance(shown, ImageStimuli) else shown
        sites = self.sites if isinstance(self.sites, str) else tuple(self.sites)
        layout: Any = self.layout
        if isinstance(layout, Mapping):
            layout = tuple((site, sheet.checksum) for site, sheet in layout.items())
        return (*self.identity.values(), stimuli.checksum, sites, layout, self.shown.pooling)

    def material(self) -> dict[str, str]:
        """Checksums of everything the parts read beside the model; what was not given has none."""
        own = [{**vars(one), "sheet": one.sheet and one.sheet.checksum} for one in self.weight_sheets]
        return self._shown_material() | ({"weight_sheets": digest(plain(own))} if own else {})

    @property
    def _recording(self) -> dict[str, Any]:
        return {"pooling": self.shown.pooling, "batch_size": self.shown.batch_size}

    @abstractmethod
    def samples(self, seed: int) -> dict[str, dict[str, Responses]]:
        """Responses to all samples that there are, by what they are; the seed draws where there are too many."""

    @abstractmethod
    def loss_and_accuracy(self, n_pairs: int) -> Callable[[nn.Module], dict[str, float]]:
        """What a changed model can still do; `measures` says what the two are of."""

    @abstractmethod
    def in_words(self) -> str:
        """What it is shown, for the lead of a page."""

    @abstractmethod
    def _reader(self) -> dict[str, str]: ...

    @abstractmethod
    def _two_items(self) -> Any: ...

    @abstractmethod
    def _material_of(self, role: str) -> Any: ...

    @abstractmethod
    def _record(self, shown: Any, *, progress: bool) -> dict[str, Responses]: ...

    @abstractmethod
    def _shown_material(self) -> dict[str, str]: ...


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class LanguageSubject(Subject):
    """A causal model and its tokenizer. Its networks are kept where there is a ``cache_folder``."""

    tokenizer: Any
    cache_folder: Path | None = None
    _surprisal: dict[tuple, np.ndarray] = field(default_factory=dict)
    kind: ClassVar[str] = "language"
    contrast: ClassVar[tuple[str, str]] = ("sentences", "nonwords")
    contrast_name: ClassVar[str] = "sentences - nonwords"
    measures: ClassVar[dict[str, str]] = {"loss": "loss (nats per token)", "accuracy": "accuracy on minimal pairs"}

    @property
    def has_phrases(self) -> bool:
        """Whether there is a set of noun and verb phrases beside the words."""
        return self.shown.stimuli is not None

    def stimuli(self, role: str) -> StimulusSet:
        """The set for "localizer", "profiles", "words", "phrases", "suites", ours or published; lines of "text"."""
        if role == "text":
            return _as_set(tuple(dict.fromkeys(self.passages(self.minimal_pairs())))[:_MOST_LINES])
        if self.shown.stimuli is None or SETS.get(role) == PUBLISHED_SETS[role]:
            return load_localizer(SETS[role])
        return load_localizer(PUBLISHED_SETS[role], self.shown.stimuli)

    def samples(self, seed: int) -> dict[str, dict[str, Responses]]:
        """Items of the localizer, and single tokens of the passages: 8192 where there are more, as TopoNets took."""
        tokens = record_tokens(
            self.model,
            self.tokenizer,
            _as_set(self.passages(self.minimal_pairs())),
            list(self.sheets),
            self.sheets,
            batch_size=self.shown.batch_size,
            seed=seed,
        )
        return {"items, mean over their tokens": self.recorded("localizer"), "tokens of the text": tokens}

    def network(self, **rule: Any) -> dict[str, Selection]:
        """The language network over all items of the localizer, by a rule of `localize`."""
        if self.cache_folder is None:
            return localize(self.recorded("localizer"), *self.contrast, **rule)
        decided = {**self.identity, "pooling": self.shown.pooling, "code": code_version(__name__)}
        return load_or_localize(
            lambda: self.recorded("localizer"),
            *self.contrast,
            cache_folder=self.cache_folder,
            model_checksum=digest(decided),
            sheets=self.sheets,
            stimuli=self.stimuli("localizer"),
            **rule,
        )

    def minimal_pairs(self, n_per_paradigm: int | None = None) -> StimulusSet:
        """Good and bad sentences in turn; only the first pairs of each paradigm, as many as it is shown by default."""
        return load_minimal_pairs(self.shown.pairs, n_per_paradigm=n_per_paradigm or self.shown.pairs_per_paradigm)

    def suites(self) -> list[Suite]:
        """The SyntaxGym suites; none where none were given."""
        return [] if self.shown.syntaxgym is None else load_suites(self.shown.syntaxgym)

    def passages(self, pairs: StimulusSet) -> tuple[str, ...]:
        """What the perplexity is measured on: lines of the text, or the good sentences of the pairs without one."""
        if self.shown.text is None:
            return tuple(np.array(pairs.items)[np.array(pairs.conditions) == "good"].tolist())
        return _lines(self.shown.text)

    def sentences(self) -> tuple[str, ...]:
        """Sentences of the text in their order; those of the localizer, unrelated to one another, without one."""
        if self.shown.text is None:
            return self.stimuli("localizer").select(condition="sentences").items
        return tuple(one for line in _lines(self.shown.text) for one in re.split(r"(?<=[.!?])\s+", line) if one)

    def read(
        self, model: nn.Module, pairs: StimulusSet, *, progress: bool
    ) -> tuple[MinimalPairScores, list[np.ndarray]]:
        """Score pairs and passages in one pass; good sentences that serve as passages are read once."""
        own_text = self.shown.text is not None
        texts = [*pairs.items, *(self.passages(pairs) if own_text else ())]
        options = {"batch_size": self.shown.batch_size, "progress": progress}
        tokens = token_log_probabilities(model, self.tokenizer, texts, **options)
        sums = np.array([text.sum(dtype=np.float64) for text in tokens[: len(pairs)]])
        scores = MinimalPairScores(pairs, good=sums[::2], bad=sums[1::2])
        return scores, tokens[len(pairs) :] if own_text else tokens[: len(pairs) : 2]

    def performance(self, n_pairs: int) -> Callable[[nn.Module], dict[str, float]]:
        """What a changed model can still do: perplexity, accuracy on minimal pairs and on each of their phenomena."""
        pairs = self.minimal_pairs(n_pairs)

        def measure(model: nn.Module) -> dict[str, float]:
            scores, passages = self.read(model, pairs, progress=False)
            phenomena = {f"accuracy: {row['name']}": row["accuracy"] for row in scores.by_phenomenon()}
            return {"perplexity": perplexity(passages), "accuracy": scores.accuracy, **phenomena}

        return measure

    def loss_and_accuracy(self, n_pairs: int) -> Callable[[nn.Module], dict[str, float]]:
        """Mean surprisal of the passages, and the share of minimal pairs that is right."""
        performance = self.performance(n_pairs)

        def measure(model: nn.Module) -> dict[str, float]:
            found = performance(model)
            return {"loss": math.log(found["perplexity"]), "accuracy": found["accuracy"]}

        return measure

    @cached_property
    def corpora(self) -> dict[str, WordCorpus]:
        """Corpora measured word by word; none where no folder of them was given."""
        return {} if self.shown.data is None else load_word_corpora(self.shown.data)

    @property
    def erp_corpus(self) -> WordCorpus:
        """The first of these that has all six event-related potentials."""
        for corpus in self.corpora.values():
            if set(ERP_COMPONENTS) <= set(corpus.measures):
                return corpus
        raise NotMeasurable(f"no corpus with event-related potentials lies below {self.shown.data}")

    @cached_property
    def sentence_corpora(self) -> dict[str, SentenceCorpus]:
        """Corpora with one response per sentence; none where no folder of them was given."""
        return {} if self.shown.data is None else load_sentence_corpora(self.shown.data)

    @cached_property
    def assemblies(self) -> dict[str, ResponseAssembly]:
        """Recordings as Brain-Score keeps them; none where no folder of them was given."""
        return {} if self.shown.data is None else load_assemblies(self.shown.data)

    @cached_property
    def other_layout(self) -> Adaptors:
        """The layout that the sheets are held against."""
        if self.shown.other_layout is None:
            raise NotMeasurable("no other layout is named; say other_layout=FOLDER")
        return Adaptors.load(self.shown.other_layout)

    def surprisal(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Surprisal in nats of every word of every text, each read once."""
        own = tuple(self.identity.values())
        if unread := [text for text in dict.fromkeys(texts) if (*own, text) not in self._surprisal]:
            options = {"batch_size": self.shown.batch_size, "progress": self.progress}
            found = word_surprisal(self.model, self.tokenizer, unread, **options)
            self._surprisal.update({(*own, text): one for text, one in zip(unread, found, strict=True)})
        return [self._surprisal[(*own, text)] for text in texts]

    def in_words(self) -> str:
        """Which stimulus sets and pairs."""
        own = "this library's own stimulus sets" if self.shown.stimuli is None else "published stimulus sets"
        first = f", the first {self.shown.pairs_per_paradigm} of each paradigm" if self.shown.pairs_per_paradigm else ""
        read = f", corpora read word by word: {', '.join(self.corpora)}" if self.corpora else ""
        recorded = f", recordings: {', '.join(self.assemblies)}" if self.assemblies else ""
        return f"{own}, minimal pairs: {self.shown.pairs}{first}{read}{recorded}"

    def _reader(self) -> dict[str, str]:
        return {"tokenizer": tokenizer_checksum(self.tokenizer)}

    def _two_items(self) -> StimulusSet:
        return self.stimuli("localizer").take([0, 1])

    def _material_of(self, role: str) -> StimulusSet:
        return self.stimuli(role)

    def _record(self, shown: StimulusSet, *, progress: bool) -> dict[str, Responses]:
        options = {**self._recording, "progress": progress}
        return record(self.model, self.tokenizer, shown, self.sites, self.layout, **options)

    def _shown_material(self) -> dict[str, str]:
        found = {role: self.stimuli(role).checksum for role in (PUBLISHED_SETS if self.has_phrases else SETS)}
        pairs = self.minimal_pairs()
        found |= {"pairs": pairs.checksum, "text": _as_set(self.passages(pairs)).checksum}
        suites = [[one.name, one.regions, one.items, one.formulas, one.metric] for one in self.suites()]
        read = {name: one.checksum for name, one in {**self.corpora, **self.sentence_corpora}.items()}
        found |= {"corpora": digest(read)} if read else {}
        recorded = {name: one.checksum for name, one in self.assemblies.items()}
        found |= {"assemblies": digest(recorded)} if recorded else {}
        if self.shown.other_layout is not None:
            found["other_layout"] = digest([one.checksum for one in self.other_layout.values()])
        return found | ({"syntaxgym": digest(suites)} if suites else {})


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class VisionSubject(Subject):
    """A classifier of images and how it takes them; the seed chooses the images of the categories."""

    prepare: Callable[[np.ndarray], Any]
    seed: int = 0
    kind: ClassVar[str] = "vision"
    contrast: ClassVar[tuple[tuple[str, ...], ...]] = CATEGORY_CONTRASTS["faces"]
    contrast_name: ClassVar[str] = "faces - other categories"
    measures: ClassVar[dict[str, str]] = {"loss": "loss (nats per image)", "accuracy": "accuracy on test images"}

    @cached_property
    def categories(self) -> ImageStimuli:
        """Images of five categories and their scrambled selves (`category_images`)."""
        sets = {category.images for category in CATEGORIES.values()}
        used = {name: folder for name, folder in (self.shown.image_folders or {}).items() if name in sets}
        return category_images(self.shown.n_images, folders=used, seed=self.seed)

    @cached_property
    def test(self) -> ImageStimuli | None:
        """Test images with their classes; None where no set is named."""
        name = self.shown.test_set
        if name is None or name == "none":
            return None
        images = load_image_split(name, folder=(self.shown.image_folders or {}).get(name))
        n_classes = len(set(images.stimuli.labels["class"]))
        if self.model.config.num_labels != n_classes:
            raise ValueError(
                f"test_set={name!r} has {n_classes} classes and the model {self.model.config.num_labels}; "
                "give the set it was trained on, or test_set=none"
            )
        return images.take(range(min(len(images), self.shown.n_test_images)))

    def recorded(self, role: str) -> dict[str, Responses]:
        """Responses to "categories", to "test" images, or as "localizer" to the categories that are not scrambled."""
        if role != "localizer":
            return super().recorded(role)
        intact = np.flatnonzero(np.array(self.categories.stimuli.labels["version"]) == "intact")
        return {site: one.take(intact) for site, one in self.recorded("categories").items()}

    def samples(self, seed: int) -> dict[str, dict[str, Responses]]:
        """Images of the categories, and test images; none is drawn."""
        found = {"images of five categories": self.recorded("localizer")}
        tested = {} if self.test is None else {f"test images of {self.shown.test_set}": self.recorded("test")}
        return found | tested

    @torch.no_grad()
    def recognised(self, model: nn.Module) -> dict[str, float]:
        """How well a model recognises the test images: mean cross-entropy in nats, and accuracy."""
        test, like = self._test_images(), next(model.parameters())
        labels = torch.tensor([int(number) for number in test.stimuli.labels["class"]])
        step, losses, right = self.shown.batch_size, 0.0, 0
        with evaluating(model):
            for start in range(0, len(labels), step):
                wanted = labels[start : start + step].to(like.device)
                shown = torch.as_tensor(self.prepare(test.pixels[start : start + step]))
                scores = model(pixel_values=shown.to(like)).logits.float()
                losses += nn.functional.cross_entropy(scores, wanted, reduction="sum").item()
                right += int((scores.argmax(1) == wanted).sum())
        return {"loss": losses / len(labels), "accuracy": right / len(labels)}

    def loss_and_accuracy(self, n_pairs: int) -> Callable[[nn.Module], dict[str, float]]:
        """Loss and accuracy on the test images; there are no pairs."""
        self._test_images()
        return self.recognised

    def in_words(self) -> str:
        """Which images."""
        tested = "no test images"
        if self.test is not None:
            tested = f"{counted(len(self.test), 'test image')} of {self.shown.test_set}"
        return f"{self.shown.n_images} images of each of five categories, {tested}"

    def _test_images(self) -> ImageStimuli:
        if self.test is None:
            raise NotMeasurable("no test images are named; say test_set=cifar10, for example")
        return self.test

    def _reader(self) -> dict[str, str]:
        if isinstance(self.prepare, Preparation):
            return {"preparation": digest(self.prepare.to_json())}
        # an image processor of the model's own is known by what it does
        prepared = np.asarray(torch.as_tensor(self.prepare(self._two_items().pixels)))
        return {"preparation": hashlib.sha256(prepared.tobytes()).hexdigest()}

    def _two_items(self) -> ImageStimuli:
        return self.categories.take([0, 1])

    def _material_of(self, role: str) -> ImageStimuli:
        return self._test_images() if role == "test" else self.categories

    def _record(self, shown: ImageStimuli, *, progress: bool) -> dict[str, Responses]:
        options = {**self._recording, "prepare": self.prepare, "progress": progress}
        return record_images(self.model, shown, self.sites, self.layout, **options)

    def _shown_material(self) -> dict[str, str]:
        found = {"categories": self.categories.stimuli.checksum}
        return found if self.test is None else {**found, "test": self.test.stimuli.checksum}


def _as_set(passages: tuple[str, ...]) -> StimulusSet:
    return StimulusSet("passages", passages, ("text",) * len(passages))


def _lines(text: str) -> tuple[str, ...]:
    lines = tuple(line.strip() for line in read_text(text).splitlines() if line.strip())
    if not lines:
        raise ValueError(f"text={text} holds no line; expected one passage per line")
    return lines
