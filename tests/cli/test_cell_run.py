import dataclasses

import pytest

from topographic.cli.cell_run import CellMaps, is_finished, is_trained, load_pairs, load_summary, maps_folder, run_cell
from topographic.cli.cells import plan_cells
from topographic.cli.train import ModelConfig, TrainCommand
from topographic.maps import UnitMap
from topographic.training.config import DataConfig, SmoothnessConfig, SpatialConfig, TrainingConfig

MAPS = CellMaps(contrasts=["nouns_verbs"], fwhm_mm=[0.0, 1.5], n_draws=19)


@pytest.fixture
def cell(tmp_path, text):
    """A model of two sheets that can be trained in a second."""
    recipe = TrainCommand(
        run=str(tmp_path),
        model=ModelConfig("tiny", n_layer=1),
        data=DataConfig(
            text=str(text),
            vocab_size=300,
            sequence_length=16,
            validation_fraction=0.1,
            cache_folder=str(tmp_path / "c"),
        ),
        spatial=SpatialConfig(weight=0.25, radius=2),
        training=TrainingConfig(max_steps=2, batch_size=4, warmup_steps=1, report_to="none", cpu=True),
    )
    return plan_cells(recipe, [{"seed": [0]}])[0]


def test_a_cell_is_finished_when_nothing_is_missing(cell):
    assert not is_trained(cell)
    run_cell(cell, dataclasses.replace(MAPS, fwhm_mm=[0.0]), None)
    assert is_trained(cell)
    assert not is_finished(cell, MAPS, None), "one readout is missing"
    model = (cell.folder / "model" / "model.safetensors").stat().st_mtime_ns
    plain = (maps_folder(cell.folder, 0.0) / "noun-verb" / "summary.json").stat().st_mtime_ns
    run_cell(cell, MAPS, None)
    assert is_finished(cell, MAPS, None)
    assert not is_finished(cell, MAPS, "own")
    assert (cell.folder / "model" / "model.safetensors").stat().st_mtime_ns == model, "trained once"
    assert (maps_folder(cell.folder, 0.0) / "noun-verb" / "summary.json").stat().st_mtime_ns == plain
    assert load_pairs(cell, "own") is None


@pytest.mark.parametrize("preset", ["nanogpt_demo", "gpt_neo_demo"])
def test_a_model_without_sheets_is_mapped_where_its_weights_are_smooth(cell, preset):
    recipe = dataclasses.replace(
        cell.recipe,
        run=str(cell.folder.parent),
        model=ModelConfig(preset, n_layer=2, n_embd=48),
        spatial=SpatialConfig(weight=0.0),
        smoothness=SmoothnessConfig(weight=1.0, sites=["transformer.h.1.mlp.c_fc"]),
    )
    for topographic in plan_cells(recipe, [{"smoothness.weight": [1, 0], "seed": [0]}]):
        run_cell(topographic, dataclasses.replace(MAPS, fwhm_mm=[0.0]), None)
        (made,) = maps_folder(topographic.folder, 0.0).rglob("*.safetensors")
        assert UnitMap.load(made).sheet.n_units == 192
        assert made.stem == "transformer.h.1.mlp.c_fc"


def test_maps_made_otherwise_do_not_count(cell):
    run_cell(cell, MAPS, None)
    summary = load_summary(cell, MAPS, "nouns_verbs", 1.5)
    assert summary is not None
    assert summary.provenance["fwhm_mm"] == 1.5
    for change in ({"n_draws": 20}, {"seed": 1}, {"pooling": "last"}, {"exchangeable": []}):
        assert load_summary(cell, dataclasses.replace(MAPS, **change), "nouns_verbs", 1.5) is None, change
    assert summary.maps == {}, "numbers only"
    assert len(list(maps_folder(cell.folder, 1.5).rglob("*.safetensors"))) == 2
