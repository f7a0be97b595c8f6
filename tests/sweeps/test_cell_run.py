import dataclasses

import pytest
from topographic.runs.loading import load_model

from topographic.losses.pyramid import laplacian_pyramid_loss
from topographic.losses.weight_sheets import weight_sheets
from topographic.maps import UnitMap
from topographic.objectives.config import SmoothnessConfig, SpatialConfig, WeightSheetConfig
from topographic.runs.recipe import ModelConfig, Recipe
from topographic.sheets import grid_cells
from topographic.sweeps.cell_run import (
    check_measures,
    is_finished,
    is_trained,
    load_pairs,
    load_weights,
    run_cell,
)
from topographic.sweeps.measure import CellMaps, maps_folder
from topographic.sweeps.plan import plan_cells
from topographic.training.config import DataConfig, ImageConfig, TrainingConfig

FIRST_LAYER = "transformer.h.1.mlp.c_fc"
MAPS = CellMaps(contrasts=["nouns_verbs"], fwhm_mm=[0.0, 1.5], n_draws=19)


@pytest.fixture
def cell(tmp_path, text):
    """A model of two sheets that can be trained in a second."""
    recipe = Recipe(
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
        run_cell(topographic, dataclasses.replace(MAPS, fwhm_mm=[0.0]), None)
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
        assert is_finished(topographic, dataclasses.replace(MAPS, fwhm_mm=[0.0]), None)
        (topographic.folder / "weights.json").unlink()
        assert not is_finished(topographic, dataclasses.replace(MAPS, fwhm_mm=[0.0]), None)


def test_vision_models_read_no_minimal_pairs(cell):
    check_measures(cell, MAPS, "own")
    images = dataclasses.replace(cell.recipe, images=ImageConfig("mnist"))
    with pytest.raises(ValueError, match=r"pairs='own' and images.name='mnist'; vision models read no pairs: leave"):
        check_measures(dataclasses.replace(cell, recipe=images), CellMaps(), "own")
