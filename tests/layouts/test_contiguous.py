import numpy as np
import pytest
import torch

from topographic.layouts import contiguous as module
from topographic.layouts import contiguous_sheet, fit_contiguous, fit_rotations, moments
from topographic.layouts.blocks import fitting_neighborhoods
from topographic.losses import spatial_correlation_loss
from topographic.sheets import Sheet, grid, lattice_coordinates


def loss(values, rotations, sheet):
    parts = []
    for site, own in values.items():
        mean, scale = moments(own)
        parts.append(((torch.from_numpy(own).float() - mean) / scale) @ rotations[site])
    return float(spatial_correlation_loss(torch.cat(parts, 1), sheet.positions_mm, fitting_neighborhoods(sheet)))


@pytest.fixture
def layers(planted):
    """Three layers that mix one hidden population, each in its own way."""
    hidden = planted((6, 6), 400, mixed_by="rotation").fitted
    draw = np.random.default_rng(5)
    mixings = [np.linalg.qr(draw.normal(size=(36, 36)))[0] for _ in range(3)]
    return {
        f"layer.{depth}": hidden @ mixing + 0.1 * draw.normal(size=hidden.shape) for depth, mixing in enumerate(mixings)
    }


@pytest.mark.parametrize(("axis", "shape"), [(0, (12, 8)), (1, (4, 24))])
def test_sites_lie_side_by_side_and_every_place_belongs_to_one(axis, shape):
    sheet = contiguous_sheet(grid(32, shape=(4, 8)), 3, axis=axis)
    cells = lattice_coordinates(sheet)
    assert sheet.is_bijective
    assert tuple((cells.max(0).values + 1).tolist()) == shape
    depth = cells[:, axis] // (4, 8)[axis]
    assert depth.tolist() == [site for site in range(3) for _ in range(32)]


@pytest.mark.parametrize("axis", [0, 1])
def test_one_loss_makes_maps_run_on_from_layer_to_layer(layers, axis):
    sheet = contiguous_sheet(grid(36), 3, axis=axis)
    found = fit_contiguous(layers, sheet)
    for rotation in found.values():
        assert (rotation.T @ rotation - torch.eye(36)).norm() < 1e-5
    apart = fit_rotations(layers, grid(36))
    assert loss(layers, found, sheet) < 0.1 < loss(layers, apart, sheet)
    assert all(torch.equal(found[site], again) for site, again in fit_contiguous(layers, sheet).items())


def test_wide_stacks_read_samples_in_place_of_their_joint_covariance(layers, monkeypatch):
    sheet = contiguous_sheet(grid(36), 3)
    monkeypatch.setattr(module, "_MOST_JOINT_UNITS", 0)
    monkeypatch.setattr(module, "_ROWS_A_STEP", 256)
    assert loss(layers, fit_contiguous(layers, sheet), sheet) < 0.1


def test_what_does_not_lie_on_one_sheet_is_refused(layers):
    sheet = contiguous_sheet(grid(36), 3)
    wide = {**layers, "wide": np.zeros((400, 49))}
    with pytest.raises(ValueError, match=r"sites of widths \[36, 49\] on one contiguous sheet"):
        fit_contiguous(wide, sheet)
    with pytest.raises(ValueError, match="expected the same samples"):
        fit_contiguous({**layers, "layer.2": layers["layer.2"][:200]}, sheet)
    with pytest.raises(ValueError, match=r"3 sites of 36 units on a sheet of 36 places; expected 108.*grid\(36\), 3"):
        fit_contiguous(layers, grid(36))
    with pytest.raises(ValueError, match=r"site 'layer.1': unit 2 is constant"):
        fit_contiguous({**layers, "layer.1": layers["layer.1"] * (np.arange(36) != 2)}, sheet)
    spiral = Sheet(name="spiral", positions_mm=torch.tensor([[0.0, 0.1], [1.3, 0.4], [2.2, 7.9]]))
    for joined in (grid(36, wrap=True), spiral):
        with pytest.raises(ValueError, match="is no flat lattice"):
            contiguous_sheet(joined, 2)
    with pytest.raises(ValueError, match="axis=2; expected 0"):
        contiguous_sheet(grid(36), 2, axis=2)
