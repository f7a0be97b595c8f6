import dataclasses

import numpy as np
import pytest

from topographic.maps import Selection, UnitMap
from topographic.sheets import grid, permuted_grid


def test_round_trip(tmp_path):
    sheet = permuted_grid(12, "h.0", shape=(2, 6))
    mask = np.arange(12) % 5 == 0
    Selection("h.0", mask, sheet, "q < 0.05", {"condition": ["nouns"]}).save(tmp_path / "selection.safetensors")
    loaded = Selection.load(tmp_path / "selection.safetensors")
    assert (loaded.site, loaded.sheet, loaded.rule) == ("h.0", sheet, "q < 0.05")
    assert loaded.provenance == {"condition": ["nouns"]}
    np.testing.assert_array_equal(loaded.mask, mask)
    assert loaded.mask.dtype == bool
    assert loaded.n_selected == 3


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Selection("s", np.ones(4, bool), grid(4), "all").rule = "none"


@pytest.mark.parametrize("mask", [np.array([0.0, np.nan, 1, 1], np.float32), np.ones(4, np.int64)])
def test_only_booleans_select(mask):
    # beartype says it first where it runs; without it the class does
    build = getattr(Selection.__post_init__, "__wrapped__", Selection.__post_init__)
    selection = object.__new__(Selection)
    for key, entry in {"site": "s", "mask": mask, "sheet": grid(4), "rule": "all"}.items():
        object.__setattr__(selection, key, entry)
    with pytest.raises(TypeError, match=f"mask is {mask.dtype}; expected bool"):
        build(selection)


def test_a_mask_fits_its_sheet():
    with pytest.raises(ValueError, match=r"mask has shape \(5,\); sheet 'sheet' has 4 units"):
        Selection("s", np.ones(5, bool), grid(4), "all")


def test_another_noun_is_refused(tmp_path):
    UnitMap("s", np.ones(4), grid(4), "t").save(tmp_path / "map.safetensors")
    with pytest.raises(ValueError, match="holds a UnitMap; expected a Selection"):
        Selection.load(tmp_path / "map.safetensors")
