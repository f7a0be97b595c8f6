import inspect
import json

import numpy as np
import pytest
import torch

from topographic.layouts import Adaptor, Adaptors, ModelSource, is_layout
from topographic.layouts.adaptors import KINDS
from topographic.sheets import grid


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_by_matrices_in_float64(make_adaptor, kind):
    one = make_adaptor("a", kind=kind)
    eye = torch.eye(36, dtype=torch.float64)
    q = eye[:, one.matrix] if kind == "assigned" else one.matrix.double()
    x = torch.randn(5, 36, generator=torch.Generator().manual_seed(1))
    expected = (x.double() - one.mean) @ torch.diag(1 / one.scale.double()) @ q
    torch.testing.assert_close(one.to_sheet(x).double(), expected, atol=1e-4, rtol=1e-4)
    change = torch.randn(5, 36, generator=torch.Generator().manual_seed(2))
    back = change.double() @ torch.linalg.inv(q) @ torch.diag(one.scale.double())
    torch.testing.assert_close(one.to_stream(change).double(), back, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(one.to_stream(one.to_sheet(x)) + one.mean, x, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded(make_adaptor, kind, tmp_path):
    one = make_adaptor("h.0", kind=kind, provenance={"weights": "abc", "loss": 0.2})
    one.save(tmp_path / "one.safetensors")
    again = Adaptor.load(tmp_path / "one.safetensors")
    assert (again.site, again.kind, again.sheet, again.provenance) == (one.site, kind, one.sheet, one.provenance)
    assert all(torch.equal(getattr(again, n), getattr(one, n)) for n in ("mean", "scale", "matrix", "inverse"))
    assert again.checksum == one.checksum
    assert make_adaptor("h.0", kind=kind, seed=1).checksum != one.checksum
    assert again.sheet_site == "h.0.sheet"
    assert repr(again) == f"Adaptor('h.0', {kind}, 36 units)"


ONES, EYE = torch.ones(4), torch.eye(4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"site": "h.*"}, r"site='h\.\*'; expected the name of one module"),
        ({"kind": "fixed"}, r"kind='fixed'; expected one of \['assigned', 'rotation', 'linear'\]"),
        ({"mean": torch.ones(3)}, r"mean has shape \(3,\) .* each of the 4 units of its sheet"),
        ({"scale": torch.tensor([1, 1, torch.nan, 1])}, r"scale has shape \(4,\) and 1 entries that are no numbers"),
        ({"scale": torch.tensor([1, 1, 0.0, 1])}, "scale is not above 0 at 1 units; leave constant units at a scale"),
        ({"matrix": torch.eye(3)}, r"its matrix has shape \(3, 3\) .* expected \(4, 4\)"),
        ({"matrix": 1.01 * EYE}, r"its matrix is not orthogonal \(Q\^T Q is off by 0\.02\); give a rotation"),
        ({"matrix": torch.ones(4, 4), "kind": "linear"}, "no inverse that undoes it .* condition number"),
        ({"matrix": EYE, "inverse": 2 * EYE, "kind": "linear"}, r"no inverse that undoes it \(off by 1,"),
        (
            {"matrix": torch.tensor([0, 1, 1, 3]), "kind": "assigned"},
            "or names units twice; expected every unit from 0",
        ),
        ({"matrix": ONES, "kind": "assigned"}, "as whole numbers"),
        ({"provenance": {"text": ONES}}, "provenance holds what JSON cannot"),
    ],
)
def test_what_is_no_adaptor(changed, message):
    good = {"site": "a", "mean": ONES, "scale": ONES, "matrix": EYE, "sheet": grid(4), "kind": "rotation"}
    Adaptor(**good)
    with pytest.raises(ValueError, match=message) as caught:
        Adaptor(**{**good, **changed})
    assert "\n" not in str(caught.value)


def test_numpy_and_half_precision_become_float32_copies():
    scale = np.ones(4)
    one = Adaptor("a", np.zeros(4), scale, EYE.to(torch.bfloat16), grid(4))
    scale[:] = 5
    assert {one.mean.dtype, one.scale.dtype, one.matrix.dtype} == {torch.float32}
    assert float(one.scale.max()) == 1


def test_a_folder_of_adaptors(make_adaptor, tmp_path):
    (tmp_path / "model").mkdir()
    source = ModelSource(str(tmp_path / "x" / ".." / "model"), "abc")
    both = Adaptors([make_adaptor("h.1"), make_adaptor("h.0", kind="assigned")], source)
    assert repr(both) == f"Adaptors(2 sites: h.1 to h.0; assigned, rotation, 36 units; {source.model})"
    folder = tmp_path / "layout"
    assert not is_layout(folder)
    both.save(folder)
    both.save(folder)
    assert is_layout(folder)
    again = Adaptors.load(folder)
    assert list(again) == ["h.1", "h.0"]
    assert again.source == source
    assert all(again[site].checksum == both[site].checksum for site in both)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["layout", "model"], "nothing half-written"


def test_a_relative_model_is_found_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert ModelSource("model", "abc", "hub/name") == ModelSource(str(tmp_path / "model"), "abc", "hub/name")


def test_a_folder_of_something_else_is_left_alone(make_adaptor, tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(FileExistsError, match="holds something else than a layout; choose another folder"):
        Adaptors([make_adaptor("a")]).save(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "all of it"
    with pytest.raises(FileNotFoundError, match=r"no adaptors\.json in .*; give a folder that Adaptors\.save wrote"):
        Adaptors.load(tmp_path)
    (tmp_path / "adaptors.json").write_text(json.dumps({"sites": ["a"]}))
    with pytest.raises(ValueError, match=r"is no index of adaptors \('source'\); write it again"):
        Adaptors.load(tmp_path)


def test_no_adaptors_and_twice_one_site(make_adaptor):
    with pytest.raises(ValueError, match="no adaptors; expected at least one"):
        Adaptors([])
    with pytest.raises(ValueError, match="two adaptors for site 'a'; give one per site"):
        Adaptors([make_adaptor("a"), make_adaptor("a")])
    with pytest.raises(TypeError, match="adaptors is a Sheet; expected an Adaptor: as fit_layout makes them"):
        inspect.unwrap(Adaptors.__init__)(object.__new__(Adaptors), [grid(4)])


def test_results_beside_a_layout_are_not_lost(make_adaptor, tmp_path):
    folder, one, other = tmp_path / "layout", make_adaptor("a"), make_adaptor("a", seed=1)
    Adaptors([one]).save(folder)
    Adaptors([other]).save(folder)  # nothing there to lose
    (folder / "maps").mkdir()
    with pytest.raises(FileExistsError, match="layout holds maps of the layout that is there; choose another folder"):
        Adaptors([one]).save(folder)
    Adaptors([other]).save(folder)
    assert (folder / "maps").is_dir()
    assert Adaptors.load(folder)["a"].checksum == other.checksum
