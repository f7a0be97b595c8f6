import dataclasses
import json

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForImageClassification,
    ConvNextImageProcessorPil,
    ResNetConfig,
)
from transformers import ResNetForImageClassification as ResNet

from topographic.cli import main
from topographic.evaluation import mapping
from topographic.evaluation.choices import MapChoices
from topographic.evaluation.mapping import KINDS, Mapped, make_maps
from topographic.maps import MapSummary, cluster_mass_test
from topographic.recording import Preparation
from topographic.runs.building import build_vision_model
from topographic.runs.loading import kind_of, load_model, load_vision_model
from topographic.runs.recipe import ModelConfig
from topographic.sheets import grid, permuted_grid
from topographic.stimuli import CATEGORY_CONTRASTS, StimulusSet, category_images, load_localizer
from topographic.storage import HeldElsewhereError, locked

NOUNS = MapChoices(contrasts=["nouns_verbs"], n_draws=9)
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
    assert said.count("of power spectra") == len(KINDS["vision"].defaults)
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
    family = cluster_mass_test(summary.maps, threshold=clusters["threshold"], sign="both")
    kept = [found["p_mass"] for sign in ("positive", "negative") for found in clusters[sign]]
    assert sorted(kept) == sorted(test.p_mass for test in family)
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
    defaults = KINDS["vision"].defaults
    intact = [name for name in defaults if not name.startswith("scrambled ")]
    assert set(defaults) == {*intact, *(f"scrambled {name}" for name in intact)}
    assert set(defaults) <= set(CATEGORY_CONTRASTS)


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


@pytest.mark.parametrize("contrast", KINDS["language"].contrasts.values(), ids=KINDS["language"].contrasts.keys())
def test_every_contrast_exists_in_its_stimuli(contrast):
    assert {contrast.condition, contrast.baseline} <= set(load_localizer(contrast.stimuli).condition_names)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"seed": -1}, r"^seed=-1; expected a whole number from 0 on"),
        ({"n_draws": -1}, r"^n_draws=-1; expected 0 for no nulls, or at least 2 draws"),
        ({"n_draws": 1}, r"^n_draws=1; expected 0 for no nulls, or at least 2 draws"),
        ({"fwhm_mm": -2.0}, r"^fwhm_mm=-2.0; expected a width in mm from 0"),
        ({"fwhm_mm": float("nan")}, r"^fwhm_mm=nan; expected a width in mm from 0"),
        ({"batch_size": 0}, r"^batch_size=0; expected at least 1"),
        ({"n_images": 1}, r"^n_images=1; expected at least 2"),
        ({"contrasts": []}, r"^contrasts=\[\]; expected one or more of \['language', 'nouns_verbs', 'syntax'\]"),
    ],
)
def test_choices_that_are_none(words, message):
    with pytest.raises(ValueError, match=message):
        MapChoices(**words)


@pytest.fixture
def live(tiny_model):
    """Function that makes maps of a live model, and the model."""
    model, tokenizer = load_model(tiny_model)

    def make(choices=NOUNS, folder=None, layout=None):
        told: list[Mapped] = []
        # a layout is asked for where the model carries no sheet
        where = (["transformer.h.*.mlp"], layout) if layout else (list(model.sheets()), model.sheets())
        made = make_maps(model, tokenizer, "language", *where, choices, folder, tell=told.append)
        assert [one.summary for one in told] == made
        return told

    make.model = model.cpu()
    return make


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.rglob("*.*")}


def test_maps_of_a_live_model_need_no_folder(live, tmp_path):
    (made,) = live()
    assert made.folder is None
    assert set(made.summary.maps) == set(live.model.sheets())
    (kept,) = live(folder=tmp_path / "maps")
    assert json.dumps(kept.summary.to_json()) == json.dumps(made.summary.to_json())
    assert kept.folder == tmp_path / "maps" / "noun-verb"
    assert StimulusSet.load(kept.folder / "stimuli.json") == load_localizer("nouns_verbs")


def test_texts_of_one_set_are_recorded_once(live, monkeypatch):
    recorded = []
    original = KINDS["language"].record
    known = KINDS["language"]._replace(record=lambda *words, **more: recorded.append(words) or original(*words, **more))
    monkeypatch.setitem(KINDS, "language", known)
    language, syntax = live(MapChoices(contrasts=["language", "syntax"], n_draws=0))
    assert len(recorded) == 2, "two items for the sheets, then all"
    assert (language.summary.contrast, syntax.summary.contrast) == ("sentences-nonwords", "sentences-words")


def test_equal_maps_are_there_already(live, tmp_path):
    (first,) = live(folder=tmp_path)
    before = files_of(tmp_path)
    (again,) = live(folder=tmp_path)
    assert (again.was_there, again.changed) == (True, "")
    assert files_of(tmp_path) == before
    assert again.summary.to_json() == first.summary.to_json()
    for site, unit_map in first.summary.maps.items():
        np.testing.assert_array_equal(again.summary.maps[site].values, unit_map.values)


def test_a_model_is_the_same_when_it_is_loaded_and_another_with_other_heads(live, tmp_path):
    model = live.model
    (made,) = live()
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert mapping._architecture(loaded).items() <= made.decided_by["model"].items()
    loaded.config.n_head = 1
    assert mapping._architecture(loaded)["weights"] == made.decided_by["model"]["weights"]
    assert mapping._architecture(loaded)["architecture"] != made.decided_by["model"]["architecture"]


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        ({"n_draws": 10}, "n_draws was 9 and is 10"),
        ({"fwhm_mm": 2.0, "seed": 3}, "fwhm_mm was 0.0 and is 2.0, seed was 0 and is 3"),
        ({"nulls": False}, "nulls was True and is False"),
        ({"pooling": "last"}, "pooling was mean and is last"),
    ],
)
def test_other_choices_replace_maps_and_say_what_changed(live, tmp_path, words, changed):
    live(folder=tmp_path)
    (other,) = live(dataclasses.replace(NOUNS, **words), tmp_path)
    assert other.changed == changed
    (back,) = live(folder=tmp_path)
    assert not back.was_there


def test_other_weights_replace_maps(live, tmp_path):
    live(folder=tmp_path)
    with torch.no_grad():
        next(live.model.parameters()).mul_(2)
    (other,) = live(folder=tmp_path)
    assert other.changed == "other weights"


def test_other_sheets_and_stimuli_and_code_replace_maps(live, tmp_path, monkeypatch):
    live(folder=tmp_path, layout=permuted_grid)
    (other,) = live(folder=tmp_path, layout=grid)
    assert other.changed == "other sheets"
    shown = load_localizer("nouns_verbs")
    monkeypatch.setattr(
        mapping, "load_localizer", lambda _: dataclasses.replace(shown, items=(*shown.items[:-1], "oak"))
    )
    (other,) = live(folder=tmp_path, layout=grid)
    assert other.changed == "other stimuli"
    monkeypatch.setattr(mapping, "code_version", lambda name: "corrected")
    (other,) = live(folder=tmp_path, layout=grid)
    assert other.changed == "other architecture, other code"


def test_nothing_of_other_maps_stays(live, tmp_path):
    live(folder=tmp_path)
    folder = tmp_path / "noun-verb"
    (folder / "map.png").write_bytes(b"a picture of those maps")
    (folder / "low_level").mkdir()
    live(dataclasses.replace(NOUNS, n_draws=10), tmp_path)
    assert sorted(path.name for path in folder.iterdir() if path.suffix != ".safetensors") == [
        "stimuli.json",
        "summary.json",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["noun-verb"], "nothing beside it"


def test_maps_of_before_are_read_and_replaced(live, tmp_path):
    (made,) = live(folder=tmp_path)
    content = made.summary.to_json()
    (made.folder / "summary.json").write_text(json.dumps(content))
    assert json.dumps(MapSummary.load(made.folder).to_json()) == json.dumps(content)
    (again,) = live(folder=tmp_path)
    assert again.changed == "they do not say what decided them"


def test_maps_that_lost_a_file_are_made_again(live, tmp_path):
    (made,) = live(folder=tmp_path)
    next(made.folder.glob("*.safetensors")).unlink()
    (again,) = live(folder=tmp_path)
    assert (again.was_there, again.changed) == (False, "files were missing")
    assert live(folder=tmp_path)[0].was_there


def test_an_interruption_leaves_the_maps_that_were_there(live, tmp_path, monkeypatch):
    live(folder=tmp_path)
    before = files_of(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(StimulusSet, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            live(dataclasses.replace(NOUNS, n_draws=10), tmp_path)
    assert files_of(tmp_path) == before
    assert live(folder=tmp_path)[0].was_there


def test_files_that_are_no_maps_are_left_alone(live, tmp_path):
    (tmp_path / "noun-verb").mkdir()
    (tmp_path / "noun-verb" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"noun-verb holds files that are no maps; move them, or choose another"):
        live(folder=tmp_path)
    assert (tmp_path / "noun-verb" / "thesis.txt").read_text() == "mine"


def test_one_process_writes_maps(live, tmp_path):
    with locked(tmp_path / "maps"), pytest.raises(HeldElsewhereError, match=r"maps is being written by process \d+"):
        live(folder=tmp_path / "maps")
    assert not (tmp_path / "maps").exists()
    assert not live(folder=tmp_path / "maps")[0].was_there


def test_a_preparation_of_another_kind_is_known_by_what_it_makes():
    identify = KINDS["vision"].identify
    assert identify(Preparation()) != identify(Preparation(mean=0.4))
    assert identify(lambda pixels: pixels / 255) == identify(lambda pixels: pixels / 255)
    assert identify(lambda pixels: pixels / 255) != identify(lambda pixels: pixels / 128)


def test_maps_of_images_lie_beside_low_level_ones(image_folders, tmp_path):
    model = ResNet(ResNetConfig(**SHAPE, num_labels=10)).eval()
    folders = {name: str(folder) for name, folder in image_folders.items()}
    choices = MapChoices(contrasts=["faces"], n_draws=5, n_images=4, image_folders=folders)
    shown, told = (model, Preparation(channels=3), "vision", "resnet.encoder.stages.1", grid), []
    for _ in range(2):
        make_maps(*shown, choices, tmp_path, tell=told.append)
    made, again = told
    assert [row.site for row in made.low_level.rows] == ["pixels", "radial_power"]
    assert (made.was_there, again.was_there) == (False, True)
    found = {path.name for path in made.folder.iterdir()}
    assert found >= {"low_level", "clusters.json", "resnet.encoder.stages.1.safetensors"}
    make_maps(*shown, dataclasses.replace(choices, seed=1), tmp_path, tell=told.append)
    assert told[-1].changed == "seed was 0 and is 1, other stimuli"


def test_a_model_is_not_asked_for_what_it_cannot_see(live):
    with pytest.raises(ValueError, match="TopoLMForCausalLM is a language model and 'faces' a contrast of images"):
        live(MapChoices(contrasts=["faces"]))
