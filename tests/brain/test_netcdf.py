import h5py
import numpy as np
import pytest
from scipy.io import netcdf_file

from topographic.brain.netcdf import load_netcdf, netcdf_axes

TEXTS = ["zwölf Boxkämpfer", "", "jagen"]


@pytest.mark.parametrize("kind", ["netcdf4", "classic"])
def test_variables_come_with_their_axes_and_text_as_text(kind, tmp_path, save_assembly):
    responses = np.array([[1.5, np.nan], [2.0, 3.0], [4.0, 5.0]])
    items, targets = {"stimulus": TEXTS, "number": [3, 1, 2]}, {"subject": ["s1", "s2"]}
    path = save_assembly(tmp_path / "x.nc", responses, items, targets, kind=kind)
    assert netcdf_axes(path) == {
        "stimulus": ("presentation",),
        "number": ("presentation",),
        "subject": ("neuroid",),
        "data": ("presentation", "neuroid"),
    }
    found = load_netcdf(path, ["data", "stimulus", "number"])
    np.testing.assert_array_equal(found["data"].values, responses)
    assert found["stimulus"].values.tolist() == TEXTS
    assert found["number"].values.tolist() == [3, 1, 2]
    assert found["number"].values.dtype.kind == "i"
    assert all(one.values.dtype.isnative for one in found.values())


def test_letters_in_netcdf4_packed_numbers_and_axes_without_names(tmp_path):
    with h5py.File(tmp_path / "x.nc", "w") as opened:
        opened["letters"] = np.array([b"ab ", b"c"]).view("S1").reshape(2, 3)
        opened["fixed"] = np.array([b"ab", b"c"])
        opened["packed"] = np.array([10, -99], dtype="i2")
        opened["packed"].attrs.update({"_FillValue": np.int16(-99), "scale_factor": 0.5, "add_offset": 1.0})
        opened.create_group("more")
    assert netcdf_axes(tmp_path / "x.nc") == dict.fromkeys(("fixed", "letters", "packed"), ("phony_dim_0",))
    found = load_netcdf(tmp_path / "x.nc", ["fixed", "letters", "packed"])
    assert found["letters"].values.tolist() == ["ab ", "c"]
    assert found["fixed"].values.tolist() == ["ab", "c"]
    np.testing.assert_array_equal(found["packed"].values, [6.0, np.nan])


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no NetCDF file at .*none\.nc"):
        netcdf_axes(tmp_path / "none.nc")
    with netcdf_file(tmp_path / "whole.nc", "w") as opened:
        opened.createDimension("x", 50)
        opened.createVariable("t", "f8", ("x",))[:] = np.zeros(50)
    for content in ((tmp_path / "whole.nc").read_bytes()[:100], b"", b"no data at all"):
        (tmp_path / "half.nc").write_bytes(content)
        with pytest.raises(ValueError, match=r"half\.nc is truncated or not a NetCDF file; copy it again"):
            load_netcdf(tmp_path / "half.nc", ["t"])
