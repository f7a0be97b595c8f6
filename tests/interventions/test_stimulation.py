import numpy as np
import pytest
import torch

from topographic.interventions import direction_controls, micro_stimulation
from topographic.interventions.stimulation import as_direction
from topographic.layouts import Adaptor
from topographic.maps import Selection, UnitMap
from topographic.sheets import Sheet, grid

SHEET = grid((8, 10), "a.sheet", spacing_mm=0.5)
TORUS = grid((8, 10), "a.sheet", wrap=True)


def test_a_spread_by_the_formula_of_a_unit_and_of_a_place():
    got = micro_stimulation("a.sheet", SHEET, 34, sigma_mm=0.8, strength=-3.0)
    positions = SHEET.positions_mm.numpy()
    far = np.linalg.norm(positions - positions[34], axis=1)
    np.testing.assert_allclose(got.values, -3 * np.exp(-(far**2) / (2 * 0.8**2)), rtol=1e-5)
    assert got.values.argmin() == 34
    same = micro_stimulation("a.sheet", SHEET, positions[34].tolist(), sigma_mm=0.8, strength=-3.0)
    np.testing.assert_array_equal(same.values, got.values)
    assert got.provenance == {"centre_mm": positions[34].tolist(), "sigma_mm": 0.8, "strength": -3.0}


def test_on_a_torus_it_goes_round():
    corner = micro_stimulation("a.sheet", TORUS, 0, sigma_mm=1.0).values
    middle = micro_stimulation("a.sheet", TORUS, 45, sigma_mm=1.0).values
    np.testing.assert_allclose(np.sort(corner), np.sort(middle), rtol=1e-5)


@pytest.fixture
def adaptor():
    draw = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(80, 80, generator=draw))[0]
    scale = torch.linspace(0.1, 4, 80)
    return Adaptor("a", torch.zeros(80), scale, rotation, SHEET, "rotation")


PATCH = Selection("a.sheet", np.isin(np.arange(80), [22, 23, 32, 33]), SHEET, "patch")


@pytest.mark.parametrize("through", [False, True], ids=["on the sheet", "in the stream"])
@pytest.mark.parametrize(
    "target", [micro_stimulation("a.sheet", SHEET, 34, sigma_mm=0.8), PATCH], ids=["spread", "patch"]
)
def test_controls_have_the_norm_of_the_target(target, through, adaptor):
    controls = direction_controls(target, 12, seed=3, adaptor=adaptor if through else None)

    def norm(one):
        values = torch.from_numpy(one.values).double()
        if through:
            values = values @ adaptor.matrix.double().T @ torch.diag(adaptor.scale.double())
        return float(values.norm())

    wanted = norm(as_direction(target))
    assert list(controls) == ["elsewhere", "random"]
    for kind, draws in controls.items():
        assert len(draws) == 12
        np.testing.assert_allclose([norm(one) for one in draws], wanted, rtol=1e-4)
        assert len({one.values.tobytes() for one in draws}) > 6, kind
    elsewhere, random = controls["elsewhere"], controls["random"]
    assert len({int(one.values.argmax()) for one in elsewhere}) > 3
    assert min(np.count_nonzero(one.values) for one in random) == 80
    if target is PATCH:
        assert {np.count_nonzero(one.values) for one in elsewhere} == {4}
    again = direction_controls(target, 12, seed=3, adaptor=adaptor if through else None)
    assert all(
        np.array_equal(x.values, y.values) for kind in again for x, y in zip(again[kind], controls[kind], strict=True)
    )


@pytest.mark.parametrize(
    ("centre", "sigma_mm", "message"),
    [
        (80, 1.0, r"centre=80; expected one of the units 0 to 79, or a place in mm"),
        ([1.0], 1.0, r"centre=\[1\.0\]; expected a unit, or 2 finite coordinates in mm"),
        ([1.0, np.nan], 1.0, r"expected a unit, or 2 finite coordinates"),
        (3, 0.0, r"sigma_mm=0\.0; expected a width in mm, above 0"),
    ],
)
def test_no_place_and_no_width(centre, sigma_mm, message):
    with pytest.raises(ValueError, match=message):
        micro_stimulation("a.sheet", SHEET, centre, sigma_mm=sigma_mm)


def test_what_has_no_controls(adaptor):
    values = np.linspace(-1, 1, 80)
    with pytest.raises(
        ValueError, match=r"'a\.sheet' \(welch_t\) is no Gaussian spread that could lie elsewhere; make it"
    ):
        direction_controls(UnitMap("a.sheet", values, SHEET, "welch_t"), 2)
    values[3:5] = np.nan
    with pytest.raises(ValueError, match=r"has no value at 2 of its 80 units \(NaN\); give each a number"):
        as_direction(UnitMap("a.sheet", values, SHEET, "welch_t"))
    with pytest.raises(ValueError, match="is 0 everywhere; there is nothing to compare"):
        direction_controls(micro_stimulation("a.sheet", SHEET, 3, sigma_mm=1.0, strength=0.0), 2)
    moved = Sheet("a.sheet", SHEET.positions_mm.flip(0))
    with pytest.raises(
        ValueError, match=r"lies on another sheet than the adaptor shows at 'a\.sheet'; give the adaptor"
    ):
        direction_controls(micro_stimulation("a.sheet", moved, 3, sigma_mm=1.0), 2, adaptor=adaptor)
