import dataclasses

import numpy as np
import pytest

from topographic.maps import Selection, UnitMap
from topographic.sheets import Sheet, grid, permuted_grid
from topographic.storage import load_arrays, save_arrays


def test_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    sheet = permuted_grid(12, "h.0", shape=(2, 6))
    nulls = {null: rng.standard_normal((3, 12)) for null in ("unit", "spin", "floor", "label")}
    kept = UnitMap("h.0", rng.standard_normal(12), sheet, "welch_t", rng.random(12), rng.random(12), nulls, {"seed": 3})
    kept.save(tmp_path / "map.safetensors")
    loaded = UnitMap.load(tmp_path / "map.safetensors")
    assert (loaded.site, loaded.statistic, loaded.sheet, loaded.provenance) == ("h.0", "welch_t", sheet, {"seed": 3})
    for key in ("values", "p", "q"):
        np.testing.assert_array_equal(getattr(loaded, key), getattr(kept, key))
    assert list(loaded.nulls) == list(kept.nulls) == ["unit", "spin", "floor", "label"]
    for null, maps in kept.nulls.items():
        np.testing.assert_array_equal(loaded.nulls[null], maps)
    assert loaded.values.dtype == loaded.nulls["unit"].dtype == np.float32
    assert loaded.p.dtype == np.float64


def test_files_that_know_no_order_of_their_nulls(tmp_path):
    nulls = {null: np.full((2, 4), place) for place, null in enumerate(("floor", "unit", "label"))}
    UnitMap("s", np.ones(4), grid(4), "t", nulls=nulls).save(tmp_path / "map.safetensors")
    arrays, metadata = load_arrays(tmp_path / "map.safetensors")
    save_arrays(tmp_path / "old.safetensors", arrays, {key: one for key, one in metadata.items() if key != "nulls"})
    loaded = UnitMap.load(tmp_path / "old.safetensors")
    assert {null: maps[0, 0] for null, maps in loaded.nulls.items()} == {"floor": 0, "unit": 1, "label": 2}


def test_p_keeps_what_float32_would_round_to_zero():
    assert UnitMap("s", np.ones(4), grid(4), "t", p=np.full(4, 1e-200)).p[0] == 1e-200


def test_a_mesh_and_missing_values_survive(tmp_path):
    sheet = Sheet("mesh", np.random.default_rng(0).random((4, 3)), edges=np.array([[0, 1], [1, 2], [2, 3]]))
    UnitMap("s", np.array([1.0, np.nan, 2.0, 3.0]), sheet, "t").save(tmp_path / "map.safetensors")
    loaded = UnitMap.load(tmp_path / "map.safetensors")
    assert loaded.sheet == sheet
    assert np.isnan(loaded.values).tolist() == [False, True, False, False]


def test_it_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        UnitMap("s", np.ones(4), grid(4), "t").site = "other"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": np.ones(5)}, r"values has shape \(5,\); sheet 'sheet' has 4 units"),
        ({"values": np.array([1, np.inf, 0, 0])}, "values holds infinity"),
        ({"p": np.ones(3)}, "p has shape"),
        ({"q": np.ones(3)}, "q has shape"),
        ({"nulls": {"unit": np.ones((2, 3))}}, "null 'unit' has shape"),
        ({"nulls": {" ": np.ones((2, 4))}}, "a null is called ' '; give it a name, such as 'spin'"),
    ],
)
def test_misfits_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        UnitMap(**{"site": "s", "values": np.ones(4), "sheet": grid(4), "statistic": "t", **arguments})


def test_another_noun_is_refused(tmp_path):
    Selection("s", np.ones(4, bool), grid(4), "all").save(tmp_path / "selection.safetensors")
    with pytest.raises(ValueError, match="holds a Selection; expected a UnitMap"):
        UnitMap.load(tmp_path / "selection.safetensors")
