import inspect

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from topographic.recording import Responses, readout, readout_kernel, readout_sheet
from topographic.recording.readout import lattice_kernel
from topographic.sheets import Sheet, grid, permuted_grid, to_grid
from topographic.stimuli import StimulusSet


def responses_on(sheet, values=None, n_items=3):
    if values is None:
        values = np.random.default_rng(0).normal(size=(n_items, sheet.n_units))
    n_items = len(values)
    items = [f"item {index}" for index in range(n_items)]
    return Responses("site", values, sheet, StimulusSet("toy", items, ["a"] * n_items), provenance={"model": "toy"})


@pytest.fixture
def golden(shared):
    return np.load(shared / "golden" / "readout_28x28_fwhm2.npz")


def test_as_published(golden):
    """The golden sites are matched by coordinates: theirs have the first coordinate fastest."""
    sheet = Sheet(name="golden", positions_mm=golden["positions_mm"].astype(np.float64))
    fwhm = float(golden["fwhm_mm"])
    smoothed = golden["activations"].astype(np.float64) @ readout_kernel(sheet, fwhm, normalized=False)
    sites = [tuple(place) for place in readout_sheet(sheet, fwhm).positions_mm.numpy().tolist()]
    theirs = {
        (float(x), float(y)): index for index, (x, y) in enumerate(zip(golden["site_x"], golden["site_y"], strict=True))
    }
    order = [theirs[place] for place in sites]
    assert order != list(range(len(order)))
    np.testing.assert_allclose(smoothed, golden["smoothed"][:, order], rtol=1e-9, atol=1e-9)


def test_readout_as_published(golden):
    sheet = Sheet(name="golden", positions_mm=golden["positions_mm"].astype(np.float64))
    activations = golden["activations"]
    seen = readout(responses_on(sheet, activations), float(golden["fwhm_mm"]), normalized=False)
    picture = to_grid(seen.sheet, seen.values)
    expected = np.full_like(picture, np.nan)
    expected[:, golden["site_x"].astype(int), golden["site_y"].astype(int)] = golden["smoothed"]
    np.testing.assert_allclose(picture, expected, rtol=1e-5, atol=1e-5)


def test_mass_of_the_published_kernel():
    """Interior, edge and corner as measured on the published readout."""
    mass = to_grid(grid(784), readout_kernel(grid(784), 2.0, normalized=False).sum(0))
    assert mass[14, 14] == pytest.approx(1.000, abs=5e-4)
    assert mass[0, 14] == pytest.approx(0.735, abs=5e-4)
    assert mass[0, 0] == pytest.approx(0.540, abs=5e-4)


def test_normalised_weights_sum_to_one_everywhere():
    kernel = readout_kernel(permuted_grid(784, "h.0"), 2.0)
    np.testing.assert_allclose(kernel.sum(0), 1.0, rtol=1e-12)
    constant = readout(responses_on(grid(784), np.full((1, 784), 3.0)), 2.0)
    np.testing.assert_allclose(constant.values, 3.0, rtol=1e-6)


@pytest.mark.parametrize("spacing", [1.0, 0.25])
def test_torus_equals_scipy(spacing):
    """On a torus the readout is a circular convolution, which scipy does as well."""
    sheet = grid(20 * 24, shape=(20, 24), spacing_mm=spacing, wrap=True)
    values = np.random.default_rng(1).normal(size=(2, 480))
    seen = readout(responses_on(sheet, values), 3.0 * spacing)
    sigma = 3.0 / np.sqrt(8 * np.log(2))
    for row in range(2):
        expected = gaussian_filter(to_grid(sheet, values)[row], sigma, mode="wrap", truncate=8)
        np.testing.assert_allclose(to_grid(seen.sheet, seen.values)[row], expected, atol=2e-6)


def test_interior_equals_scipy_on_an_oblong_sheet():
    sheet = grid(24 * 32, shape=(24, 32))
    values = np.random.default_rng(2).normal(size=(1, 768))
    seen = readout(responses_on(sheet, values), 2.0)
    expected = gaussian_filter(to_grid(sheet, values)[0], 2.0 / np.sqrt(8 * np.log(2)), truncate=8, mode="constant")
    np.testing.assert_allclose(to_grid(seen.sheet, seen.values)[0][8:-8, 8:-8], expected[8:-8, 8:-8], atol=2e-6)


def test_a_permuted_layout_reads_out_like_its_sorted_one():
    regular, permuted = grid(144), permuted_grid(144, "sheet", seed=3)
    values = np.random.default_rng(3).normal(size=(4, 144))
    index = (permuted.positions_mm[:, 0] * 12 + permuted.positions_mm[:, 1]).long().numpy()
    first = readout(responses_on(regular, values))
    second = readout(responses_on(permuted, values[:, index]))
    np.testing.assert_allclose(first.values, second.values, atol=1e-6)
    assert torch.equal(first.sheet.positions_mm, regular.positions_mm)


def test_one_unit_spreads_to_half_at_half_the_width():
    values = np.zeros((1, 21 * 21))
    values[0, 10 * 21 + 10] = 1
    picture = to_grid(grid(441), readout(responses_on(grid(441), values), 4.0).values)[0]
    assert picture[12, 10] / picture[10, 10] == pytest.approx(0.5, rel=1e-4)
    assert picture[10, 8] / picture[10, 10] == pytest.approx(0.5, rel=1e-4)


def test_sites_span_the_lattice_once():
    """Two units in one place and two places empty: sites cover the lattice, row-major, from its own corner."""
    places = np.array([[5.0, 1.0], [5.0, 1.0], [5.5, 2.0], [6.0, 1.5]])
    sheet = Sheet(name="sparse", positions_mm=places)
    sites = readout_sheet(sheet, 1.0)
    expected = [[row, column] for row in (5.0, 5.5, 6.0) for column in (1.0, 1.5, 2.0)]
    np.testing.assert_allclose(sites.positions_mm.numpy(), expected)
    assert sites.is_readout
    assert sites.name == "sparse (FWHM 1 mm)"
    kernel = readout_kernel(sheet, 1.0)
    assert kernel.shape == (4, 9)
    np.testing.assert_allclose(kernel[0], kernel[1])


def test_a_half_empty_torus_is_covered_all_round():
    half = grid(32, shape=(4, 8)).positions_mm
    sheet = Sheet(name="half", positions_mm=half, extent_mm=(8.0, 8.0), wrap=True)
    sites = readout_sheet(sheet, 2.0)
    assert sites.n_units == 64
    weights = to_grid(sites, readout_kernel(sheet, 2.0, normalized=False)[0])
    assert weights[7, 0] == pytest.approx(weights[1, 0])


def test_what_travels_along():
    seen = readout(responses_on(grid(16)), 1.5)
    assert seen.sheet.is_readout
    assert seen.provenance == {"model": "toy", "readout": {"fwhm_mm": 1.5, "normalized": True}}
    assert seen.stimuli == responses_on(grid(16)).stimuli


def test_no_readout():
    responses = responses_on(permuted_grid(16, "h.0"))
    assert readout(responses, 0.0) is responses
    assert readout_sheet(responses.sheet, 0.0) is responses.sheet
    assert np.array_equal(readout_kernel(responses.sheet, 0.0), np.eye(16))


def test_the_responses_of_all_sites_at_once_are_refused():
    with pytest.raises(TypeError, match=r"^responses is a dict of 1 Responses; expected a Responses: one site of what"):
        inspect.unwrap(readout)({"h.0": responses_on(grid(16))})


def test_twice_is_refused():
    seen = readout(responses_on(grid(16)))
    with pytest.raises(ValueError, match="are a readout already"):
        readout(seen)


@pytest.mark.parametrize("fwhm", [-1.0, float("nan"), float("inf")])
def test_impossible_width(fwhm):
    with pytest.raises(ValueError, match="expected a width in mm of 0"):
        readout(responses_on(grid(16)), fwhm)


def test_no_lattice():
    scattered = Sheet(name="scattered", positions_mm=torch.rand(16, 2, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(ValueError, match="sheet 'scattered' is not a lattice"):
        readout(responses_on(scattered))
    mesh = Sheet(name="mesh", positions_mm=torch.eye(3), edges=torch.tensor([[0, 1], [1, 2]]))
    with pytest.raises(ValueError, match="sheet 'mesh' is not a lattice"):
        readout_kernel(mesh)


def test_a_torus_its_lattice_does_not_fill():
    sheet = Sheet(name="odd", positions_mm=grid(16).positions_mm, extent_mm=(4.5, 4.0), wrap=True)
    with pytest.raises(ValueError, match=r"period of \(4\.5, 4\.0\) mm is no whole number of its 1 mm steps"):
        readout_sheet(sheet)


def test_sites_out_of_reach():
    places = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 40.0]])
    with pytest.raises(ValueError, match=r"36 sites are out of reach of every unit at fwhm_mm=0\.1; widen it"):
        readout_kernel(Sheet(name="far", positions_mm=places), 0.1)


LATTICES = {
    "square": grid(49),
    "oblong": grid((4, 7)),
    "line": grid((1, 12)),
    "permuted, in steps of half a mm": permuted_grid((4, 6), "s", spacing_mm=0.5),
    "torus": grid((5, 8), wrap=True),
    "torus with a hole": Sheet("t", grid((4, 6)).positions_mm[1:], extent_mm=(4.0, 6.0), wrap=True),
    "holes": Sheet("h", grid((5, 5)).positions_mm[torch.arange(25) % 4 > 0]),
    "several in a place": Sheet("c", grid((3, 4)).positions_mm[[0, 0, 5, 11, 7, 7, 7, 2]]),
}


@pytest.mark.parametrize("fwhm_mm", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("sheet", LATTICES.values(), ids=LATTICES)
def test_the_factors_make_the_whole_kernel(sheet, fwhm_mm):
    values = np.random.default_rng(0).standard_normal((sheet.n_units, 9))
    expected = readout_kernel(sheet, fwhm_mm).T @ values
    factors = lattice_kernel(sheet, fwhm_mm)
    np.testing.assert_allclose(factors.read(values), expected, atol=1e-12)
    in_float32 = factors.read(values.astype(np.float32))
    assert in_float32.dtype == np.float32
    np.testing.assert_allclose(in_float32, expected, atol=2e-6)


def test_units_beside_their_lattice_have_no_factors():
    places = grid((4, 5)).positions_mm.clone()
    places[7, 0] += 2e-4  # still a lattice, for all that it says; the weights move with the unit
    sheet = Sheet("beside", places)
    assert readout_sheet(sheet, 2.0).n_units == 20
    assert lattice_kernel(sheet, 2.0) is None
    assert lattice_kernel(grid(16), 0.0) is None
