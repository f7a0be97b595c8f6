"""The bench of an evaluation of a vision model: the model, the images it is shown, and what its units did."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import yaml
from torch import nn

import topographic
from topographic.evaluation.subject import Bench
from topographic.recording import Preparation, Responses, record_images
from topographic.recording.checksum import weights_checksum
from topographic.recording.reading import evaluating
from topographic.sheets import Layout, Sheet
from topographic.stimuli import CATEGORY_CONTRASTS, ImageStimuli, category_images
from topographic.stimuli.categories import CATEGORIES
from topographic.training.images import load_image_split

__all__ = ["AnyBench", "ImageBench", "trained_on"]


@dataclass(frozen=True, eq=False)
class ImageBench:
    """A vision model with its sheets, and everything that is shown to it.

    Parameters
    ----------
    model
        Any Hugging Face classifier of images.
    prepare : callable
        How images become what it takes.
    sites : str or list of str
        Which modules to record, as `find_sites` takes them.
    layout : callable or mapping
        Layout of the sites, or the sheet of each.
    n_images : int
        Images of each category.
    test_set : str, optional
        Image set whose test images it should recognise.
    n_test_images : int
        As many of them at most.
    folders : mapping of str to path
        Folders of image sets, in place of their packages.
    recording : mapping
        ``pooling`` and ``batch_size``.
    seed : int
        Chooses the images of the categories.
    """

    model: Any
    prepare: Callable[[np.ndarray], Any]
    sites: str | list[str]
    layout: Layout | Mapping[str, Sheet]
    n_images: int = 80
    test_set: str | None = None
    n_test_images: int = 2000
    folders: Mapping[str, str | Path] = field(default_factory=dict)
    recording: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    _recorded: dict[str, dict[str, Responses]] = field(default_factory=dict, repr=False)
    kind: ClassVar[str] = "images"
    contrast: ClassVar[tuple[tuple[str, ...], ...]] = CATEGORY_CONTRASTS["faces"]
    contrast_name: ClassVar[str] = "faces - other categories"

    @cached_property
    def identity(self) -> dict[str, str]:
        """Weights, preparation and version: what every number depends on."""
        own = isinstance(self.prepare, Preparation)
        preparation = json.dumps(self.prepare.to_json(), sort_keys=True) if own else "the model's own image processor"
        return {
            "weights": weights_checksum(self.model),
            "preparation": preparation,
            "version": topographic.__version__,
        }

    @cached_property
    def sheets(self) -> dict[str, Sheet]:
        """The sheet of every recorded site."""
        heard = self._record(self.categories.take([0, 1]), progress=False)
        return {site: one.sheet for site, one in heard.items()}

    @cached_property
    def categories(self) -> ImageStimuli:
        """Images of five categories and their scrambled selves (`category_images`)."""
        sets = {category.images for category in CATEGORIES.values()}
        used = {name: folder for name, folder in self.folders.items() if name in sets}
        return category_images(self.n_images, folders=used, seed=self.seed)

    @cached_property
    def test(self) -> ImageStimuli | None:
        """Test images with their classes; None where no set is named."""
        if self.test_set is None:
            return None
        images = load_image_split(self.test_set, folder=self.folders.get(self.test_set))
        n_classes = len(set(images.stimuli.labels["class"]))
        if self.model.config.num_labels != n_classes:
            raise ValueError(
                f"test_set={self.test_set!r} has {n_classes} classes and the model {self.model.config.num_labels}; "
                "give the set it was trained on, or test_set=none"
            )
        return images.take(range(min(len(images), self.n_test_images)))

    def recorded(self, role: str) -> dict[str, Responses]:
        """Responses of every site to a set of images, recorded once.

        Parameters
        ----------
        role : {"localizer", "categories", "test"}
            Intact images of the categories, these and the scrambled ones, or the test images.

        Returns
        -------
        dict of site to Responses
            As `record_images` returns them.

        Raises
        ------
        ValueError
            If there are no test images.
        """
        if role == "localizer":
            intact = np.flatnonzero(np.array(self.categories.stimuli.labels["version"]) == "intact")
            return {site: one.take(intact) for site, one in self.recorded("categories").items()}
        images = self.test if role == "test" else self.categories
        if images is None:
            raise ValueError("no test images; name their set, for example test_set=cifar10")
        if role not in self._recorded:
            self._recorded[role] = self._record(images)
        return self._recorded[role]

    def samples(self, seed: int) -> dict[str, dict[str, Responses]]:
        """Responses to all samples that there are, by what they are.

        Parameters
        ----------
        seed : int
            Not needed: no sample is drawn.

        Returns
        -------
        dict of str to dict of site to Responses
            Images of the categories, and test images.
        """
        found = {"images of five categories": self.recorded("localizer")}
        return found if self.test is None else {**found, f"test images of {self.test_set}": self.recorded("test")}

    @torch.no_grad()
    def recognised(self, model: nn.Module) -> dict[str, float]:
        """How well a model recognises the test images.

        Parameters
        ----------
        model : nn.Module
            The bench's model or a changed one.

        Returns
        -------
        dict of str to float
            "loss", the mean cross-entropy in nats, and "accuracy".

        Raises
        ------
        ValueError
            If there are no test images.
        """
        if self.test is None:
            raise ValueError("no test images; name their set, for example test_set=cifar10")
        like = next(model.parameters())
        labels = torch.tensor([int(number) for number in self.test.stimuli.labels["class"]])
        step, losses, right = self.recording["batch_size"], 0.0, 0
        with evaluating(model):
            for start in range(0, len(labels), step):
                wanted = labels[start : start + step].to(like.device)
                shown = torch.as_tensor(self.prepare(self.test.pixels[start : start + step]))
                scores = model(pixel_values=shown.to(like)).logits.float()
                losses += nn.functional.cross_entropy(scores, wanted, reduction="sum").item()
                right += int((scores.argmax(1) == wanted).sum())
        return {"loss": losses / len(labels), "accuracy": right / len(labels)}

    def material(self) -> dict[str, str]:
        """Checksums of everything that is shown.

        Returns
        -------
        dict of str to str
            By role; what was not given has none.
        """
        found = {"categories": self.categories.stimuli.checksum}
        return found if self.test is None else {**found, "test": self.test.stimuli.checksum}

    def _record(self, images: ImageStimuli, *, progress: bool = True) -> dict[str, Responses]:
        options = {**self.recording, "prepare": self.prepare, "progress": progress}
        return record_images(self.model, images, self.sites, self.layout, **options)


AnyBench = Bench | ImageBench


def trained_on(run: str | Path) -> tuple[str | None, str | None]:
    """Which images a run was trained on, and where they lie."""
    file = Path(run) / "config.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None
    images = (content or {}).get("images") or {}
    return images.get("name"), images.get("folder")
