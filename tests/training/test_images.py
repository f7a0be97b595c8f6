import dataclasses
import json
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModelForImageClassification, EvalPrediction

from topographic.models import fresh_vision_model, vision_config
from topographic.objectives.config import SmoothnessConfig, SpatialConfig
from topographic.recording import Preparation, vision_layers
from topographic.storage import load_json
from topographic.training.callbacks import ProgressBar
from topographic.training.config import ImageConfig, TrainingConfig
from topographic.training.images import (
    Augmentation,
    ImageItems,
    accuracy,
    blank_images,
    load_image_split,
    open_images,
    train_on_images,
)

CONVOLUTIONS = "resnet.encoder.stages.*.layers.*.layer.*.convolution"


@dataclass
class Config:
    images: ImageConfig
    spatial: SpatialConfig = field(default_factory=lambda: SpatialConfig(weight=0.0))
    smoothness: SmoothnessConfig = field(
        default_factory=lambda: SmoothnessConfig(weight=1.0, sites=[CONVOLUTIONS], factor=2.0)
    )
    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(
            max_steps=11,
            batch_size=6,
            learning_rate=3e-3,
            warmup_steps=0,
            logging_steps=2,
            eval_steps=5,
            save_steps=4,
            cpu=True,
            report_to="none",
        )
    )


@pytest.fixture
def config(image_folders, tmp_path):
    """Thirty training images: five steps make an epoch."""
    where = {"folder": str(image_folders["cifar10"]), "cache_folder": str(tmp_path / "cache")}
    return Config(ImageConfig("cifar10", **where, flip=True, shift=3))


def tiny_resnet(images, seed=0):
    shape = {"hidden_sizes": [8, 16], "depths": [1, 1], "embedding_size": 8}
    channels, side, _ = images.shape
    sizes = {"image_size": side, "num_channels": channels}
    return fresh_vision_model(vision_config("resnet_demo", shape, classes=images.classes, **sizes), seed=seed)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_open_images(config):
    images = open_images(config.images, progress=False)
    assert (len(images.train), len(images.validation), images.shape) == (30, 30, (3, 32, 32))
    assert images.classes[3] == "cat"
    assert images.prepare == Preparation(0.5, 0.5, 3, (32, 32))
    fewer = dataclasses.replace(config.images, train_images=7, validation_images=4, size=16, mean=[0.1, 0.2, 0.3])
    images = open_images(fewer, progress=False)
    assert (len(images.train), len(images.validation), images.shape) == (7, 4, (3, 16, 16))
    assert images.prepare.mean == (0.1, 0.2, 0.3)


def test_gray_images_in_three_channels(image_folders, tmp_path):
    where = {"folder": str(image_folders["mnist"]), "cache_folder": str(tmp_path / "cache")}
    assert open_images(ImageConfig("mnist", **where), progress=False).shape == (1, 28, 28)
    assert open_images(ImageConfig("mnist", **where, channels=3), progress=False).shape == (3, 28, 28)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
@pytest.mark.parametrize("change", [{}, {"size": 16}, {"channels": 3, "mean": [0.1, 0.2, 0.3]}])
def test_blank_images_are_like_those_of_the_set(name, change, image_folders, tmp_path):
    config = ImageConfig(name, folder=str(image_folders[name]), cache_folder=str(tmp_path / "cache"), **change)
    classes, blank = blank_images(dataclasses.replace(config, folder="nowhere"))
    images = open_images(config, progress=False)
    assert (classes, tuple(blank.shape[1:])) == (images.classes, images.shape)
    assert torch.equal(blank, images.prepare(np.zeros_like(images.train.pixels[:2])))


def save_folders(folder, splits, side=8):
    """Gray squares that are as light as their class is late, and one more in each class of the first split."""
    for order, (split, classes) in enumerate(splits.items()):
        for number, name in enumerate(classes):
            for picture in range(3 - order):
                path = folder / split / name / f"{picture}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.full((side, side), 40 * number + picture, np.uint8)).save(path)
    return folder


def test_a_folder_of_pictures(tmp_path):
    """By images.folder alone; it is called after itself."""
    folder = save_folders(tmp_path / "pets", {"train": ["cat", "dog"], "test": ["dog"]})
    config = ImageConfig(folder=str(folder), cache_folder=str(tmp_path / "cache"))
    images = open_images(config, progress=False)
    assert (images.name, images.classes, images.shape) == ("pets", ("cat", "dog"), (1, 8, 8))
    assert images.train.stimuli.labels["class"] == ("0", "0", "0", "1", "1", "1")
    assert images.validation.stimuli.labels["class"] == ("1", "1")
    few = open_images(dataclasses.replace(config, train_images=2), progress=False)
    assert few.train.stimuli.conditions == ("cat", "dog")
    classes, blank = blank_images(config)
    assert (classes, tuple(blank.shape)) == (images.classes, (2, 1, 8, 8))
    Image.fromarray(np.zeros((12, 9), np.uint8)).save(folder / "train" / "cat" / "large.png")
    with pytest.raises(ValueError, match=r"pictures of 2 sizes, \(8, 8\) to \(12, 9\); say .*images\.size="):
        open_images(config, progress=False)
    assert open_images(dataclasses.replace(config, size=6), progress=False).shape == (1, 6, 6)


def test_a_folder_without_pictures_to_validate_on(tmp_path):
    folder = save_folders(tmp_path / "pets", {"train": ["cat", "dog"]})
    with pytest.raises(
        ValueError, match=r"images\.name='pets' has the splits train; expected train, and validation or t"
    ):
        open_images(ImageConfig(folder=str(folder)))
    with pytest.raises(ValueError, match=r"has the splits all; expected train, and validation or test: divide the pic"):
        open_images(ImageConfig(folder=str(folder / "train")))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A dataset repository on this disk, which `datasets` takes for owner/squares."""
    import datasets

    repository = tmp_path / "owner" / "squares"
    repository.mkdir(parents=True)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["dark", "light"])})
    for split, n_images in {"train": 6, "validation": 2}.items():
        pictures = [Image.fromarray(np.full((5, 7, 3), 10 * number, np.uint8)) for number in range(n_images)]
        rows = {"image": pictures, "label": [int(number >= n_images / 2) for number in range(n_images)]}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(repository / f"{split}.parquet")

    def at_home(function):
        return lambda name, *_, **options: function(str(tmp_path / name), **options)

    for name in ("load_dataset", "load_dataset_builder", "get_dataset_split_names"):
        monkeypatch.setattr(datasets, name, at_home(getattr(datasets, name)))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub cache")
    return repository


def test_a_dataset_of_a_hub(hub, tmp_path):
    config = ImageConfig("owner/squares", cache_folder=str(tmp_path / "cache"))
    images = open_images(config, progress=False)
    assert (images.name, images.classes, images.shape) == ("owner/squares", ("dark", "light"), (3, 5, 7))
    assert images.train.pixels[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]
    assert images.train.stimuli.labels["class"] == ("0", "0", "0", "1", "1", "1")
    assert images.validation.stimuli.items == ("owner/squares/validation/0", "owner/squares/validation/1")
    assert images.train.stimuli.source == "hub dataset owner/squares/train, column label"
    few = open_images(dataclasses.replace(config, train_images=2, size=4), progress=False)
    assert (few.train.stimuli.conditions, few.shape) == (("dark", "light"), (3, 4, 4))
    classes, blank = blank_images(config)
    assert (classes, tuple(blank.shape)) == (images.classes, (2, 3, 5, 7))
    assert len(load_image_split("owner/squares")) == 2
    with pytest.raises(ValueError, match="dataset 'owner/squares' has no split 'test'; expected one of train, valid"):
        load_image_split("owner/squares", "test")


def test_datasets_of_a_hub_that_hold_something_else(hub):
    import datasets

    datasets.Dataset.from_dict({"text": ["a"], "label": [0]}).to_parquet(hub / "train.parquet")
    (hub / "validation.parquet").unlink()
    with pytest.raises(ValueError, match="'owner/squares' holds text, label; expected one column of images and one of"):
        load_image_split("owner/squares", "train")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["dark", "light"])})
    dark = Image.fromarray(np.zeros((5, 5), np.uint8))
    for rows, message in (
        ({"image": [dark, dark], "label": [0, None]}, r"squares/train: image 1 has no class; choose"),
        ({"image": [dark, None], "label": [0, 1]}, r"squares/train/1 is nothing; leave it out"),
    ):
        datasets.Dataset.from_dict(rows, features=features).to_parquet(hub / "train.parquet")
        with pytest.raises(ValueError, match=message):
            load_image_split("owner/squares", "train")


def test_a_hub_out_of_reach(monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr("datasets.load_dataset_builder", refuse)
    with pytest.raises(ValueError, match="could not read dataset 'owner/name': no route to the hub; check") as refused:
        load_image_split("owner/name", "train")
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match=r"images\.name='owner/name'; expected one of mnist.*no route to the hub"):
        open_images(ImageConfig("owner/name"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"hub datasets need datasets; run `pip install 'topographic\[train\]'`"):
        load_image_split("owner/name", "train")


def test_a_run_is_whole(config, tmp_path):
    images = open_images(config.images, progress=False)
    folder = train_on_images(tiny_resnet(images), images, config, tmp_path / "run")
    record = load_json(folder / "run.json")
    assert record["status"] == "finished"
    assert record["images_seen"] == 66
    assert record["corpus"]["train_sha256"] == images.train.stimuli.checksum
    assert record["corpus"]["source"].startswith("CIFAR-10")
    measured = [line for line in lines(folder) if "eval_loss" in line]
    assert [line["step"] for line in measured] == [5, 10, 11]
    model = AutoModelForImageClassification.from_pretrained(folder / "model").eval()
    prepare = Preparation.from_pretrained(folder / "model")
    assert prepare == images.prepare
    with torch.no_grad():
        scores = model(prepare(images.validation.pixels)).logits.numpy()
    classes = [images.classes.index(name) for name in images.validation.stimuli.conditions]
    assert measured[-1]["eval_accuracy"] == pytest.approx((scores.argmax(1) == classes).mean())
    assert model.config.id2label[9] == "truck"
    logged = [line for line in lines(folder) if "loss" in line]
    assert sum(name.startswith("smoothness/") for name in logged[-1]) == 4
    assert logged[-1]["loss"] == pytest.approx(logged[-1]["task_loss"] + logged[-1]["smoothness_loss"], rel=1e-5)


def test_noise_is_learnt_by_heart(config, tmp_path):
    """Thirty images of noise with ten labels: what is trained on is recognised, which chance does not do."""
    config.images = dataclasses.replace(config.images, flip=False, shift=0)
    config.smoothness = SmoothnessConfig()
    config.training = dataclasses.replace(config.training, max_steps=50, eval_steps=50, save_steps=50)
    images = open_images(config.images, progress=False)
    folder = train_on_images(tiny_resnet(images), images, config, tmp_path / "run")
    # the test images of the fixture are its training images
    assert [line["eval_accuracy"] for line in lines(folder) if "eval_accuracy" in line][-1] > 0.7


def test_an_interrupted_run_ends_as_if_nothing_had_happened(config, tmp_path, monkeypatch):
    """Interrupted in the second epoch: the same shifts, mirror images, batch statistics, losses and weights."""
    images = open_images(config.images, progress=False)
    whole = train_on_images(tiny_resnet(images), images, config, tmp_path / "whole")

    def stop(self, args, state, control, **_):
        if state.global_step == 9:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ProgressBar, "on_step_end", stop)
        with pytest.raises(KeyboardInterrupt):
            train_on_images(tiny_resnet(images), images, config, tmp_path / "stopped")
    stopped = train_on_images(tiny_resnet(images, seed=7), images, config, tmp_path / "stopped")
    assert [entry["step"] for entry in load_json(stopped / "run.json")["resumed"]] == [8]
    assert (whole / "metrics.jsonl").read_text() == (stopped / "metrics.jsonl").read_text()
    one, two = (load_file(folder / "model" / "model.safetensors") for folder in (whole, stopped))
    assert all(torch.equal(entry, two[name]) for name, entry in one.items())
    without = dataclasses.replace(config, images=dataclasses.replace(config.images, flip=False))
    plain = train_on_images(tiny_resnet(images), images, without, tmp_path / "plain")
    assert (plain / "metrics.jsonl").read_text() != (whole / "metrics.jsonl").read_text()


def test_the_spatial_loss_is_for_units_on_the_last_axis(config, tmp_path):
    """A ViT's tokens have their units there; the feature maps of a ResNet have columns of pixels there."""
    images = open_images(config.images, progress=False)
    config.spatial = SpatialConfig(weight=1.0, sites=[CONVOLUTIONS], radius=1)
    with pytest.raises(
        ValueError, match=r"gives feature maps of shape \(2, 8, 8, 8\); the spatial loss needs units on"
    ):
        train_on_images(tiny_resnet(images), images, config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    shape = {
        "hidden_size": 24,
        "intermediate_size": 24,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "patch_size": 8,
    }
    vit = fresh_vision_model(
        vision_config("vit_demo", shape, classes=images.classes, image_size=32, num_channels=3), seed=0
    )
    config.spatial = SpatialConfig(weight=1.0, sites=vision_layers(vit), radius=2)
    config.smoothness = SmoothnessConfig()
    config.training = dataclasses.replace(config.training, max_steps=2, eval_steps=2)
    folder = train_on_images(vit, images, config, tmp_path / "run")
    assert any(name.startswith("spatial/") for name in lines(folder)[0])


def test_items(config):
    images = open_images(config.images, progress=False)
    items = ImageItems(images.train, augmented=True)
    assert len(items) == 30
    assert items[4]["place"] == 4
    np.testing.assert_array_equal(items[4]["pixels"], images.train.pixels[4])
    assert images.classes[items[4]["labels"]] == images.train.stimuli.conditions[4]
    assert ImageItems(images.validation)[4]["place"] is None
    with pytest.raises(IndexError, match="image 30; there are 30"):
        items[30]


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(1, 256, (200, 6, 5, 3), np.uint8)


def test_augmentation_by_hand(pixels):
    """Every result is one of the shifted and mirrored images, each about as often as the others."""
    augment = Augmentation(200, flip=True, shift=1)
    found = augment(pixels, range(200))
    padded = np.pad(pixels, ((0, 0), (1, 1), (1, 1), (0, 0)))
    counts = np.zeros((3, 3, 2), int)
    for index in range(200):
        matches = [
            (row, column, mirrored)
            for row in range(3)
            for column in range(3)
            for mirrored in range(2)
            if np.array_equal(
                found[index], padded[index, row : row + 6, column : column + 5][:, :: -1 if mirrored else 1]
            )
        ]
        assert len(matches) == 1
        counts[matches[0]] += 1
    assert counts.sum() == 200
    for axes in ((1, 2), (0, 2), (0, 1)):
        share = counts.sum(axes) / 200
        assert np.abs(share - 1 / len(share)).max() < 0.12


def test_augmentation_depends_on_seed_epoch_and_image_alone(pixels):
    augment = Augmentation(200, flip=True, shift=2, seed=3)
    whole = augment(pixels, range(200))
    some = [17, 3, 150]
    np.testing.assert_array_equal(augment(pixels[some], some), whole[some])
    augment.epoch = 1
    assert (augment(pixels, range(200)) != whole).any()
    augment.epoch = 0
    np.testing.assert_array_equal(augment(pixels, range(200)), whole)
    assert (Augmentation(200, flip=True, shift=2, seed=4)(pixels, range(200)) != whole).any()


def test_no_augmentation_leaves_images_alone(pixels):
    assert Augmentation(200)(pixels, range(200)) is pixels
    mirrored = Augmentation(200, flip=True)(pixels, range(200))
    same = (mirrored == pixels).all((1, 2, 3))
    np.testing.assert_array_equal(mirrored[~same], pixels[~same][:, :, ::-1])
    assert 70 < same.sum() < 130


def test_accuracy():
    scores = np.array([[1.0, 2, 0], [3, 1, 1], [0, 0, 5], [1, 0, 0]])
    labels = np.array([1, 0, 2, 2])
    assert accuracy(EvalPrediction(predictions=scores, label_ids=labels)) == {"accuracy": 0.75}
    assert accuracy(EvalPrediction(predictions=(scores, scores), label_ids=labels)) == {"accuracy": 0.75}


def test_refuses():
    for name in (None, "orl_faces", "imagenet"):
        with pytest.raises(ValueError, match=f"images.name={name!r}; expected one of mnist, fashion_mnist, cifar10"):
            open_images(ImageConfig(name))
    for wrong in ({"size": 0}, {"train_images": 0}, {"validation_images": -1}, {"shift": -1}):
        with pytest.raises(ValueError, match=f"images.{next(iter(wrong))}=-?\\d+; expected"):
            ImageConfig("mnist", **wrong)
