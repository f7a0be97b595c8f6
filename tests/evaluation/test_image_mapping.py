import json

import numpy as np
import pytest
import torch
from topographic.runs.building import build_vision_model
from topographic.runs.loading import kind_of, load_vision_model
from transformers import (
    AutoModelForImageClassification,
    ConvNextImageProcessorPil,
    ResNetConfig,
)
from transformers import ResNetForImageClassification as ResNet

from topographic.cli import main
from topographic.evaluation.image_mapping import DEFAULT_CONTRASTS
from topographic.maps import MapSummary
from topographic.recording import Preparation
from topographic.runs.recipe import ModelConfig
from topographic.stimuli import CATEGORY_CONTRASTS, StimulusSet, category_images

CLASSES = [str(number) for number in range(10)]
SHAPE = {"hidden_sizes": [8, 16], "depths": [1, 1], "embedding_size": 8, "layer_type": "basic"}


@pytest.fixture
def folders(image_folders):
    """Words of the command line."""
    return [f"image_folders.{name}={folder}" for name, folder in image_folders.items()]


def train_words(image_folders, run, **more):
    words = {
        "model.preset": "resnet_demo",
        "model.config": "{hidden_sizes: [8, 16], depths: [1, 1], embedding_size: 8}",
        "images.name": "cifar10",
        "images.folder": image_folders["cifar10"],
        "images.cache_folder": run.parent / "cache",
        "spatial.weight": 0,
        "smoothness.weight": 1,
        "smoothness.sites": "[resnet.encoder.stages.*.layer.*.convolution]",
        "smoothness.factor": 2,
        "training.max_steps": 2,
        "training.batch_size": 4,
        "training.report_to": "none",
        "run": run,
    }
    return [f"{key}={value}" for key, value in {**words, **more}.items()]


def test_a_vision_run_is_trained_mapped_and_reported(image_folders, folders, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", *train_words(image_folders, run)]) == 0
    assert f"finished: {run}; next: topo map {run}" in capsys.readouterr().out
    assert kind_of(run) == "vision"
    model, prepare = load_vision_model(run)
    assert isinstance(model, ResNet)
    assert prepare == Preparation(0.5, 0.5, 3, (32, 32))
    assert main(["map", str(run), *folders, "n_images=8", "n_draws=9"]) == 0
    said = capsys.readouterr().out
    assert said.count("of power spectra") == len(DEFAULT_CONTRASTS)
    kept = run / "maps" / "animals-vehicles"
    summary = MapSummary.load(kept)
    assert len(summary.rows) == 4
    assert all(site.endswith("convolution") for site in summary.maps)
    assert summary.morans_i.label_null.n_draws == 9
    low_level = MapSummary.load(kept / "low_level" / "animals-vehicles")
    assert set(low_level.maps) == {"pixels", "radial_power"}
    shown = category_images(8, folders=image_folders)
    assert StimulusSet.load(kept / "stimuli.json") == shown.stimuli
    clusters = json.loads((kept / "clusters.json").read_text())
    for sign, direction in (("positive", 1), ("negative", -1)):
        for found in clusters[sign]:
            values = direction * summary.maps[found["site"]].values[found["units"]]
            assert (values > clusters["threshold"]).all()
            assert found["mass"] == pytest.approx((values - clusters["threshold"]).sum(), rel=1e-4)
            assert 0 < found["p_mass"] <= 1
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "trained with smooth weights (weight 1) on 8 images of cifar10" in page
    assert "images seen" in page
    assert "last validation accuracy" in page


def test_a_vision_run_is_mapped_where_its_weights_are_smooth(image_folders, folders, tmp_path):
    """The first stage alone, and the shortcut beside it, which would not be among the layers of the paper."""
    sites = [
        "resnet.encoder.stages.0.layers.0.layer.*.convolution",
        "resnet.encoder.stages.1.layers.0.shortcut.convolution",
    ]
    words = {"smoothness.sites": f"[{', '.join(sites)}]", "smoothness.weight": 0, "training.max_steps": 1}
    run = tmp_path / "run"
    assert main(["train", *train_words(image_folders, run, **words)]) == 0
    assert main(["map", str(run), *folders, "n_images=4", "n_draws=0", "contrasts=[faces]"]) == 0
    (folder,) = (run / "maps").iterdir()
    found = list(MapSummary.load(folder).maps)
    assert found == [*(sites[0].replace("*", str(number)) for number in (0, 1)), sites[1]]


def test_layers_contrasts_and_pooling_of_choice(image_folders, folders, tmp_path):
    model = ResNet(ResNetConfig(**SHAPE, num_labels=10))
    model.save_pretrained(tmp_path / "model")
    Preparation(channels=3, size=(24, 24)).save_pretrained(tmp_path / "model")
    words = ["sites=resnet.encoder.stages.1", "contrasts=[faces-objects, scrambled faces-objects]", "n_draws=0"]
    assert main(["map", str(tmp_path), *folders, *words, "n_images=4", "pooling=max"]) == 0
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == [
        "faces-objects",
        "scrambled faces-scrambled objects",
    ]
    summary = MapSummary.load(tmp_path / "maps" / "faces-objects")
    assert list(summary.maps) == ["resnet.encoder.stages.1"]
    assert summary.provenance["recording"]["pooling"] == "max"
    assert not (tmp_path / "maps" / "faces-objects" / "clusters.json").exists()


def test_an_image_processor_that_crops(image_folders, tmp_path):
    """Not a `Preparation`: the model's own processor is used."""
    torch.manual_seed(0)
    ResNet(ResNetConfig(**SHAPE, num_labels=10)).save_pretrained(tmp_path)
    processor = ConvNextImageProcessorPil(size={"shortest_edge": 20}, crop_pct=0.8)
    processor.save_pretrained(tmp_path)
    assert kind_of(tmp_path) == "vision"
    _, prepare = load_vision_model(tmp_path)
    images = category_images(4, folders=image_folders)
    found = prepare(images.pixels[:2])
    assert found.shape == (2, 3, 20, 20)
    expected = processor(list(images.pixels[:2].repeat(3, axis=3)), return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(found.numpy(), np.stack(expected), atol=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["contrasts=[nouns_verbs]"],
            "is a vision model and 'nouns_verbs' a contrast of texts; expected some of faces",
        ),
        (["pooling=last"], "pooling='last' is for texts; a vision model takes mean, max, class"),
        (["sites=transformer.*"], "site pattern 'transformer.*' matches no module of ResNetForImageClassification"),
        (["n_images=500"], "n_images=500; orl_faces/all has 24 images of faces: ask for fewer"),
    ],
)
def test_wrong_words_are_one_line(folders, tmp_path, capsys, words, message):
    ResNet(ResNetConfig(**SHAPE, num_labels=10)).save_pretrained(tmp_path / "model")
    Preparation(channels=3).save_pretrained(tmp_path / "model")
    assert main(["map", str(tmp_path), *folders, "n_images=4", *words]) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("topo map:")
    assert message in line


def test_pooling_of_images_is_none_of_texts(demo_folder, capsys):
    assert main(["map", str(demo_folder / "control"), "pooling=class"]) == 1
    assert "pooling='class' is for images; a language model takes" in capsys.readouterr().err


def test_every_default_contrast_has_its_control():
    intact = [name for name in DEFAULT_CONTRASTS if not name.startswith("scrambled ")]
    assert set(DEFAULT_CONTRASTS) == {*intact, *(f"scrambled {name}" for name in intact)}
    assert set(DEFAULT_CONTRASTS) <= set(CATEGORY_CONTRASTS)


def test_building_a_vision_model(tmp_path):
    sizes = {"image_size": 32, "num_channels": 3}
    one, two = (build_vision_model(ModelConfig("resnet_demo", seed=seed), CLASSES, **sizes) for seed in (0, 0))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    kind = ModelConfig(model_type="resnet", config={key: SHAPE[key] for key in ("hidden_sizes", "depths")})
    assert build_vision_model(kind, CLASSES, **sizes).config.depths == [1, 1]
    one.save_pretrained(tmp_path)
    again = build_vision_model(ModelConfig(pretrained=str(tmp_path)), CLASSES, **sizes)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
    other = build_vision_model(ModelConfig(pretrained=str(tmp_path)), ["cat", "dog"], **sizes)
    assert other.config.id2label == {0: "cat", 1: "dog"}
    assert other.classifier[-1].weight.shape[0] == 2
    assert torch.equal(
        other.resnet.embedder.embedder.convolution.weight, one.resnet.embedder.embedder.convolution.weight
    )
    with pytest.raises(ValueError, match=r"model\.n_layer is a word for language models; on images give fields as"):
        build_vision_model(ModelConfig("resnet_demo", n_layer=2), CLASSES, **sizes)
    with pytest.raises(ValueError, match=r"model\.pretrained='x' with \['depths'\]; give either"):
        build_vision_model(ModelConfig(pretrained="x", config={"depths": [1]}), CLASSES, **sizes)
    with pytest.raises(ValueError, match="no classifier of images 'small'; expected one of mnist_mlp"):
        build_vision_model(ModelConfig(), CLASSES, **sizes)


def test_what_cannot_be_trained_is_one_line(image_folders, tmp_path, capsys):
    run = tmp_path / "run"
    words = train_words(image_folders, run)
    assert main(["train", *words, "smoothness.sites=[nothing]"]) == 1
    assert "site pattern 'nothing' matches no module" in capsys.readouterr().err
    assert main(["train", *words, "images.name=orl_faces"]) == 1
    assert "images.name='orl_faces'; expected one of mnist, fashion_mnist, cifar10" in capsys.readouterr().err
    assert not run.exists()
    assert main(["train", *words]) == 0
    assert main(["train", *words]) == 1
    assert "holds a run that is finished" in capsys.readouterr().err
    assert AutoModelForImageClassification.from_pretrained(run / "model").config.num_labels == 10
