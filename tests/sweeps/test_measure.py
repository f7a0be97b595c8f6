import dataclasses
import json
import multiprocessing
import shutil
import threading

import pytest

from topographic.evaluation import mapping
from topographic.losses.pyramid import laplacian_pyramid_loss
from topographic.losses.weight_sheets import weight_sheets
from topographic.maps import UnitMap
from topographic.models import fresh_vision_model, vision_config
from topographic.objectives.config import SmoothnessConfig, SpatialConfig, WeightSheetConfig
from topographic.recording import Preparation
from topographic.runs.loading import load_model
from topographic.runs.recipe import ModelConfig, Recipe
from topographic.sheets import grid_cells
from topographic.stimuli import load_localizer
from topographic.storage import locked, save_json
from topographic.sweeps import CellMaps, Measures, Mechanisms, measure
from topographic.sweeps.measure import (
    check_measures,
    is_finished,
    is_trained,
    load_pairs,
    load_summary,
    load_weights,
    maps_folder,
    run_cell,
)
from topographic.sweeps.plan import plan_cells
from topographic.training.config import DataConfig, ImageConfig, TrainingConfig, save_config

FIRST_LAYER = "transformer.h.1.mlp.c_fc"
MAPS = CellMaps(contrasts=["nouns_verbs"], fwhm_mm=[0.0], n_draws=19)
TEXT = Recipe(model=ModelConfig("nanogpt_demo"), spatial=SpatialConfig(weight=0.0))
IMAGES = Recipe(model=ModelConfig("resnet_demo"), images=ImageConfig("cifar10"), spatial=SpatialConfig(weight=0.0))
PAIR = {"sentence_good": "The dog runs.", "sentence_bad": "The dog run.", "UID": "agreement"}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, text):
    """A model of two sheets that can be trained in a second."""
    folder = tmp_path_factory.mktemp("recipe")
    text_config = {"vocab_size": 300, "sequence_length": 16, "validation_fraction": 0.1}
    return Recipe(
        run=str(folder),
        model=ModelConfig("tiny", n_layer=1),
        data=DataConfig(text=str(text), cache_folder=str(folder / "cache"), **text_config),
        spatial=SpatialConfig(weight=0.25, radius=2),
        training=TrainingConfig(max_steps=2, batch_size=4, warmup_steps=1, report_to="none", cpu=True),
    )


@pytest.fixture
def cell(tmp_path, recipe):
    """One cell."""
    return plan_cells(dataclasses.replace(recipe, run=str(tmp_path)), [{"seed": [0]}])[0]


@pytest.fixture(scope="module")
def original(recipe):
    """A cell that is trained and measured, its weights too, on a file with one minimal pair."""
    smoothness = SmoothnessConfig(sites=["transformer.h.0.mlp.c_fc"])
    (cell,) = plan_cells(dataclasses.replace(recipe, smoothness=smoothness), [{"seed": [0]}])
    pairs = cell.folder.parent / "pairs.jsonl"
    pairs.write_text(json.dumps(PAIR) + "\n")
    run_cell(cell, Measures(MAPS, str(pairs)))
    return cell


@pytest.fixture
def measures(tmp_path, original):
    """Those maps and pairs."""
    shutil.copy(original.folder.parent / "pairs.jsonl", tmp_path)
    return Measures(MAPS, str(tmp_path / "pairs.jsonl"))


@pytest.fixture
def finished(tmp_path, original):
    """The same in another place; where it lies decides nothing."""
    shutil.copytree(original.folder, tmp_path / original.name)
    return dataclasses.replace(original, recipe=dataclasses.replace(original.recipe, run=str(tmp_path / original.name)))


@pytest.fixture
def written(finished):
    """When every file of the cell that holds a result was written."""

    def written():
        names = ("maps/noun-verb/summary.json", "weights.json", "minimal_pairs.json", "model/model.safetensors")
        return {name.split("/")[0].removesuffix(".json"): (finished.folder / name).stat().st_mtime_ns for name in names}

    return written


def test_a_cell_is_finished_when_nothing_is_missing(cell):
    assert not is_trained(cell)
    run_cell(cell, Measures(MAPS))
    assert is_trained(cell)
    both = Measures(dataclasses.replace(MAPS, fwhm_mm=[0.0, 1.5]))
    assert not is_finished(cell, both), "one readout is missing"
    model = (cell.folder / "model" / "model.safetensors").stat().st_mtime_ns
    plain = (maps_folder(cell.folder, 0.0) / "noun-verb" / "summary.json").stat().st_mtime_ns
    run_cell(cell, both)
    assert is_finished(cell, both)
    assert not is_finished(cell, Measures(both.maps, "own"))
    assert (cell.folder / "model" / "model.safetensors").stat().st_mtime_ns == model, "trained once"
    assert (maps_folder(cell.folder, 0.0) / "noun-verb" / "summary.json").stat().st_mtime_ns == plain
    assert load_pairs(cell, Measures(MAPS, "own")) is None


def changed(before, after):
    return {name for name in before if before[name] != after[name]}


def test_pairs_that_changed_under_their_name_are_measured_again_and_nothing_else(finished, measures, written):
    before, scores = written(), load_pairs(finished, measures)
    run_cell(finished, Measures(measures.maps, measures.pairs))
    assert changed(before, written()) == set()
    with open(measures.pairs, "a") as opened:
        opened.write(json.dumps({**PAIR, "sentence_good": "The dogs run.", "sentence_bad": "The dogs runs."}) + "\n")
    now = Measures(measures.maps, measures.pairs)
    assert load_pairs(finished, now) is None
    assert not is_finished(finished, now)
    run_cell(finished, now)
    assert changed(before, written()) == {"minimal_pairs"}
    assert (scores["overall"]["n_pairs"], load_pairs(finished, now)["overall"]["n_pairs"]) == (1, 2)


def test_stimuli_that_changed_are_shown_again_and_nothing_else(finished, measures, written, monkeypatch):
    before, stimuli = written(), load_localizer("nouns_verbs")
    other = dataclasses.replace(stimuli, items=(*stimuli.items[:-1], "zebra"))
    monkeypatch.setattr(mapping, "load_localizer", lambda _: other)
    now = Measures(measures.maps, measures.pairs)
    (contrast,) = now.contrasts(finished.recipe).values()
    assert load_summary(finished, now, contrast, 0.0) is None
    run_cell(finished, now)
    assert changed(before, written()) == {"maps"}
    assert load_summary(finished, now, contrast, 0.0).provenance["stimuli"]["checksum"] == other.checksum


@pytest.mark.parametrize(
    ("file", "module", "again"),
    [
        (measure, "topographic.behaviour.minimal_pairs", "minimal_pairs"),
        (measure, "topographic.runs.own_sheets", "weights"),
        (mapping, "topographic.evaluation.mapping", "maps"),
    ],
)
def test_what_changed_code_measured_is_measured_again(finished, measures, written, monkeypatch, file, module, again):
    before, version = written(), file.code_version
    monkeypatch.setattr(file, "code_version", lambda name: "corrected" if name == module else version(name))
    assert not is_finished(finished, measures)
    run_cell(finished, measures)
    assert is_finished(finished, measures)
    assert changed(before, written()) == {again}


def test_other_weights_have_other_numbers(finished, measures, written):
    before, weights = written(), finished.folder / "model" / "model.safetensors"
    model, _ = load_model(finished.folder)
    model.transformer.wte.weight.data *= 2
    model.save_pretrained(weights.parent)
    assert not is_finished(finished, measures)
    assert (load_weights(finished), load_pairs(finished, measures)) == (None, None)
    run_cell(finished, measures)
    assert changed(before, written()) == {"model", "maps", "minimal_pairs", "weights"}


def test_a_failure_is_not_kept(cell, measures, monkeypatch):
    def fail(*_, **__):
        raise ValueError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr(measure, "minimal_pairs", fail)
        with pytest.raises(ValueError, match="no memory"):
            run_cell(cell, measures)
    assert not (cell.folder / "minimal_pairs.json").exists()
    run_cell(cell, measures)
    assert is_finished(cell, measures)


def test_training_may_lock_the_run_folder_of_a_locked_cell(cell, monkeypatch):
    """The lock of the cell comes first in every process, then that of its run."""

    def train(recipe):
        with locked(cell.folder):
            save_json(cell.folder / "run.json", {"status": "finished"})

    monkeypatch.setattr(measure, "train_model", train)
    monkeypatch.setattr(measure, "_measure", lambda *_: None)
    run_cell(cell, Measures(MAPS))
    assert is_trained(cell)


def test_a_second_process_waits_for_the_cell_and_trains_nothing(cell, monkeypatch):
    """Two sweeps in one folder; the training is one that would notice."""
    fork = multiprocessing.get_context("fork")
    training, go_on, again = fork.Event(), fork.Event(), []

    def train(_recipe):
        with locked(cell.folder), open(cell.folder / "trained.txt", "a") as opened:
            opened.write("once\n")
            training.set()
            go_on.wait(60)
            save_json(cell.folder / "run.json", {"status": "finished"})

    cell.folder.mkdir()
    monkeypatch.setattr(measure, "_measure", lambda *_: None)
    monkeypatch.setattr(measure, "train_model", train)
    first = fork.Process(target=run_cell, args=(cell, Measures()))
    first.start()
    assert training.wait(60)
    monkeypatch.setattr(measure, "train_model", again.append)
    second = threading.Thread(target=run_cell, args=(cell, Measures()))
    second.start()
    second.join(0.5)
    assert second.is_alive(), "it waits"
    go_on.set()
    second.join(60)
    first.join(60)
    assert not second.is_alive()
    assert not again
    assert first.exitcode == 0
    assert (cell.folder / "trained.txt").read_text() == "once\n"


def test_one_of_several_processes_measures(cell, monkeypatch):
    done = []
    monkeypatch.setattr(measure, "train_model", lambda _: done.append("trained"))
    monkeypatch.setattr(measure, "_measure", lambda *_: done.append("measured"))
    monkeypatch.setattr(measure, "is_trained", lambda _: "trained" in done)
    for rank, expected in (("1", ["trained"]), ("0", ["trained", "measured"])):
        monkeypatch.setenv("RANK", rank)
        done.clear()
        run_cell(cell, Measures(MAPS))
        assert done == expected


@pytest.mark.parametrize(
    ("preset", "smoothness"),
    [
        ("nanogpt_demo", SmoothnessConfig(weight=1.0, sites=[FIRST_LAYER])),
        ("gpt_neo_demo", SmoothnessConfig(weight=1.0, sheets=[WeightSheetConfig(FIRST_LAYER, layout="permuted_grid")])),
    ],
)
def test_a_model_without_sheets_is_mapped_where_its_weights_are_smooth(cell, preset, smoothness):
    recipe = dataclasses.replace(
        cell.recipe,
        run=str(cell.folder.parent),
        model=ModelConfig(preset, n_layer=2, n_embd=48),
        spatial=SpatialConfig(weight=0.0),
        smoothness=smoothness,
    )
    for topographic in plan_cells(recipe, [{"smoothness.weight": [1, 0], "seed": [0]}]):
        run_cell(topographic, Measures(MAPS))
        (made,) = maps_folder(topographic.folder, 0.0).rglob("*.safetensors")
        sheet = UnitMap.load(made).sheet
        assert sheet.n_units == 192
        assert made.stem == FIRST_LAYER
        _, cells = grid_cells(sheet)
        assert (cells.tolist() == list(range(192))) == bool(smoothness.sites)
        # after the last step, in the control as well
        model, _ = load_model(topographic.folder)
        weights = weight_sheets(model.transformer.h[1].mlp.c_fc)["weight"]
        assert load_weights(topographic) == pytest.approx(
            laplacian_pyramid_loss(weights, 3.0, order=cells.tolist()).item(), rel=1e-5
        )
        assert is_finished(topographic, Measures(MAPS))
        (topographic.folder / "weights.json").unlink()
        assert not is_finished(topographic, Measures(MAPS))


def test_vision_models_read_no_minimal_pairs(cell):
    check_measures(cell, Measures(MAPS, "own"))
    images = dataclasses.replace(cell.recipe, images=ImageConfig("mnist"))
    with pytest.raises(ValueError, match=r"pairs='own' and images.name='mnist'; vision models read no pairs: leave"):
        check_measures(dataclasses.replace(cell, recipe=images), Measures(pairs="own"))


def test_contrasts_are_those_of_topo_map_unless_they_are_chosen():
    assert list(Measures().contrasts(TEXT)) == ["sentences-nonwords", "noun-verb"]
    chosen = Measures(CellMaps(contrasts=["syntax"])).contrasts(TEXT)
    assert chosen == {"sentences-words": ("language", "sentences", "words")}
    names = list(Measures().contrasts(IMAGES))
    assert names == ["faces", "animate-inanimate", "scrambled faces", "scrambled animate-inanimate"]
    (chosen,) = Measures(CellMaps(contrasts=["scrambled faces-objects"])).contrasts(IMAGES).values()
    assert chosen[1:] == (("scrambled faces",), ("scrambled objects",))


@pytest.mark.parametrize(
    ("recipe", "words", "message"),
    [
        (IMAGES, {"contrasts": ["nouns_verbs"]}, "base is a vision model and 'nouns_verbs' a contrast of texts"),
        (IMAGES, {"pooling": "last"}, "pooling='last' is for texts; a vision model takes mean, max, class"),
        (TEXT, {"contrasts": ["faces"]}, "base is a language model and 'faces' a contrast of images; expected some"),
        (TEXT, {"pooling": "max"}, "pooling='max' is for images; a language model takes"),
    ],
)
def test_maps_of_the_other_kind_of_model_are_refused(recipe, words, message):
    (cell,) = plan_cells(recipe, [{"training.seed": [42]}])
    check_measures(cell, Measures())
    with pytest.raises(ValueError, match=message):
        check_measures(cell, Measures(CellMaps(**words)))


def test_maps_made_otherwise_do_not_count(swept):
    (cell, *_) = swept.plan().cells
    measures = Measures(swept.maps)
    (contrast,) = measures.contrasts(cell.recipe).values()
    summary = load_summary(cell, measures, contrast, 2.0)
    assert summary is not None
    assert summary.provenance["fwhm_mm"] == 2.0
    assert summary.maps == {}, "numbers only"
    assert is_finished(cell, measures)
    for change in ({"n_draws": 20}, {"seed": 1}, {"pooling": "last"}, {"exchangeable": []}, {"nulls": True}):
        other = Measures(dataclasses.replace(swept.maps, **change))
        assert load_summary(cell, other, contrast, 2.0) is None, change
        assert not is_finished(cell, other)
    # how many images there are says nothing of texts
    assert load_summary(cell, Measures(dataclasses.replace(swept.maps, n_images=8)), contrast, 2.0) is not None


def test_maps_of_a_vision_model(image_folders, tmp_path):
    smoothness = SmoothnessConfig(sites=["resnet.encoder.stages.1.layers.0.layer.1.convolution"])
    recipe = dataclasses.replace(IMAGES, run=str(tmp_path), smoothness=smoothness)
    (cell,) = plan_cells(recipe, [{"seed": [0]}])
    shape = {"hidden_sizes": [8, 16], "depths": [1, 1], "embedding_size": 8}
    config = vision_config("resnet_demo", shape, classes=list("0123456789"), image_size=32, num_channels=3)
    fresh_vision_model(config, seed=0).save_pretrained(cell.folder / "model")
    Preparation(channels=3, size=(32, 32)).save_pretrained(cell.folder / "model")
    save_config(cell.folder / "config.yaml", cell.recipe)
    folders = {name: str(folder) for name, folder in image_folders.items()}
    save_json(cell.folder / "run.json", {"status": "finished"})
    maps = CellMaps(contrasts=["faces-objects"], fwhm_mm=[2.0], n_draws=9, n_images=4, image_folders=folders)
    assert not is_finished(cell, Measures(maps))
    run_cell(cell, Measures(maps))
    assert is_finished(cell, Measures(maps))
    (kept,) = maps_folder(cell.folder, 2.0).glob("faces-objects/*.safetensors")
    assert UnitMap.load(kept).site == smoothness.sites[0]
    for change in ({"n_images": 5}, {"seed": 1}, {"contrasts": ["faces-objects", "faces"]}):
        assert not is_finished(cell, Measures(dataclasses.replace(maps, **change)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"n_images": 1}, r"maps\.n_images=1; expected at least 2"),
        ({"n_draws": 1}, r"maps\.n_draws=1; expected at least 2"),
        ({"seed": -1}, r"maps\.seed=-1; expected a whole number from 0 on"),
        ({"batch_size": 0}, r"maps\.batch_size=0; expected at least 1"),
        ({"fwhm_mm": []}, r"maps\.fwhm_mm=\[\]; expected different widths"),
        ({"fwhm_mm": [0.0, -2.0]}, r"maps\.fwhm_mm=\[0.0, -2.0\]; expected different widths in mm from 0"),
        ({"fwhm_mm": [float("nan")]}, r"maps\.fwhm_mm=\[nan\]; expected different widths"),
        ({"contrasts": ["x"]}, r"maps\.contrasts=\['x'\]; expected one or more of"),
    ],
)
def test_words_are_checked(words, message):
    with pytest.raises(ValueError, match=message):
        CellMaps(**words)


def test_a_sweep_maps_as_topo_map_does_but_for_readouts_and_null_maps():
    assert CellMaps(n_draws=19).at(2.0) == mapping.MapChoices(n_draws=19, fwhm_mm=2.0, nulls=False)


def test_pairs_that_are_not_there_are_refused_before_anything_is_trained(cell, tmp_path):
    with pytest.raises(FileNotFoundError, match="no minimal pairs at"):
        check_measures(cell, Measures(MAPS, str(tmp_path / "nothing.jsonl")))


def test_mechanisms_are_compared_on_held_out_text_only():
    none_held_out = dataclasses.replace(TEXT, data=DataConfig(validation_fraction=0.0, sequence_length=128))
    measures = Measures(MAPS, mechanisms=Mechanisms(sites={"MLP": "transformer.h.*.mlp"}))
    for recipe in (none_held_out, IMAGES):
        with pytest.raises(ValueError, match="mechanisms are compared between language models with held-out text"):
            check_measures(plan_cells(recipe, [{"seed": [0]}])[0], measures)
