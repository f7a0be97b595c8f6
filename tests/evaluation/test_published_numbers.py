import csv
from importlib.resources import files

import pytest

from topographic.evaluation.published_numbers import (
    published,
    published_checksum,
    published_columns,
    published_models,
    published_note,
)
from topographic.evaluation.suites import SUITES
from topographic.storage import sha256_of_file

FOLDER = files("topographic.evaluation") / "published"
NAMES = sorted(file.name.removesuffix(".csv") for file in FOLDER.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_a_source(name):
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as opened:
        assert csv.DictReader(opened).fieldnames == ["paper", "where", "model", "setting", "measure", "value", "note"]
    assert len(published(name)) > 10
    assert all(one.paper and one.where and one.model and one.measure for one in published(name))
    about = [(one.model, tuple(one.setting.items()), one.measure) for one in published(name)]
    assert len(about) == len(set(about)), "no number twice"


def test_there_is_a_file_for_every_suite_that_stands_beside_published_numbers():
    read = {
        f"{suite}_{kind}"
        for suite, kinds in SUITES.items()
        for kind, one in kinds.items()
        if any("published" in part.material for part in one.parts.values())
    }
    assert set(NAMES) >= read


def test_numbers_are_those_of_the_papers():
    share = published_columns("topolm_language", "share of units")
    assert share == {"TopoLM (published)": 0.474, "control (published)": 0.432}
    contrast = {"contrast": "concrete noun - concrete verb", "fwhm_mm": "2"}
    assert published_columns("topolm_language", "Moran's I", **contrast) == {
        "TopoLM (published)": 0.8940,
        "control (published)": 0.6004,
    }
    assert published_columns("topolm_language", "BLiMP", phenomenon="all")["control (published)"] == 0.7617
    (clusters,) = (one for one in published("topolm_language") if one.measure == "clusters")
    assert clusters.value == 53
    assert isinstance(clusters.value, int)


def test_what_is_not_published_is_none():
    columns = {"TopoLM (published)": None, "control (published)": None}
    assert published_columns("topolm_language", "BLiMP", phenomenon="of our own") == columns
    assert published_columns("topolm_language", "colour") == {}
    assert published_checksum("nobody_language") == ""
    assert published_checksum("topolm_language") == sha256_of_file(str(FOLDER / "topolm_language.csv"))


def test_models_with_their_scores():
    rows = published_models("toponets_vision", "smoothness")
    assert rows[0] == {"model": "ResNet-18", "tau": 0, "smoothness": 0.17, "ImageNet top-1": 0.712}
    assert rows[-1] == {"model": "LLCNN-G", "tau": None, "smoothness": 0.79, "ImageNet top-1": 0.531}
    assert {row["model"] for row in published_models("toponets_vision", "dimensionality")} == {
        "ResNet-18",
        "ResNet-50",
        "ViT-B/32",
        "TDANN",
    }
    assert len(published_models("toponets_language", "smoothness")) == 9
    assert "trained on other text;" in published_note("language")
