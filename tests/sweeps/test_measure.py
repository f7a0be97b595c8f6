import dataclasses

import pytest

from topographic.maps import UnitMap
from topographic.models import fresh_vision_model, vision_config
from topographic.objectives.config import SmoothnessConfig, SpatialConfig
from topographic.recording import Preparation
from topographic.runs.recipe import ModelConfig, Recipe
from topographic.sweeps.measure import (
    CellMaps,
    check_maps,
    contrasts_of,
    load_summary,
    map_cell,
    maps_folder,
    missing_maps,
)
from topographic.sweeps.plan import plan_cells
from topographic.training.config import ImageConfig, save_config

TEXT = Recipe(model=ModelConfig("nanogpt_demo"), spatial=SpatialConfig(weight=0.0))
IMAGES = Recipe(model=ModelConfig("resnet_demo"), images=ImageConfig("cifar10"), spatial=SpatialConfig(weight=0.0))


def test_contrasts_are_those_of_topo_map_unless_they_are_chosen():
    assert [(one.word, one.name) for one in contrasts_of(TEXT, CellMaps())] == [
        ("language", "sentences-nonwords"),
        ("nouns_verbs", "noun-verb"),
    ]
    (chosen,) = contrasts_of(TEXT, CellMaps(contrasts=["syntax"]))
    assert chosen == ("syntax", "sentences-words", "sentences", "words")
    names = [one.name for one in contrasts_of(IMAGES, CellMaps())]
    assert names == ["faces", "animate-inanimate", "scrambled faces", "scrambled animate-inanimate"]
    (chosen,) = contrasts_of(IMAGES, CellMaps(contrasts=["scrambled faces-objects"]))
    assert chosen[2:] == (("scrambled faces",), ("scrambled objects",))


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
    check_maps(cell, CellMaps())
    with pytest.raises(ValueError, match=message):
        check_maps(cell, CellMaps(**words))


def test_maps_made_otherwise_do_not_count(swept):
    (cell, *_) = swept.cells()
    (contrast,) = contrasts_of(cell.recipe, swept.maps)
    summary = load_summary(cell, swept.maps, contrast, 2.0)
    assert summary is not None
    assert summary.provenance["fwhm_mm"] == 2.0
    assert summary.maps == {}, "numbers only"
    assert missing_maps(cell, swept.maps, 2.0) == []
    for change in ({"n_draws": 20}, {"seed": 1}, {"pooling": "last"}, {"exchangeable": []}):
        maps = dataclasses.replace(swept.maps, **change)
        assert load_summary(cell, maps, contrast, 2.0) is None, change
        assert missing_maps(cell, maps, 2.0) == ["nouns_verbs"]
    # how many images there are says nothing of texts
    assert load_summary(cell, dataclasses.replace(swept.maps, n_images=8), contrast, 2.0) is not None


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
    maps = CellMaps(contrasts=["faces-objects", "faces"], n_draws=9, n_images=4, image_folders=folders)
    assert missing_maps(cell, maps, 2.0) == ["faces-objects", "faces"]
    map_cell(cell, maps, 2.0, ["faces"])
    assert missing_maps(cell, maps, 2.0) == ["faces-objects"]
    (kept,) = maps_folder(cell.folder, 2.0).glob("faces-objects+characters+animals+vehicles/*.safetensors")
    assert UnitMap.load(kept).site == smoothness.sites[0]
    assert missing_maps(cell, dataclasses.replace(maps, n_images=5), 2.0) == ["faces-objects", "faces"]


def test_words_are_checked():
    with pytest.raises(ValueError, match=r"maps.n_images=1; expected at least 2"):
        CellMaps(n_images=1)
