import numpy as np
import pytest
import torch

from topographic.layouts import fit_linear, fit_rotation, fit_rotations, moments, shuffled_within_units
from topographic.layouts.blocks import fitting_neighborhoods
from topographic.layouts.population import covariance
from topographic.layouts.rotation import few_rows
from topographic.losses import spatial_correlation_loss
from topographic.maps import morans_i
from topographic.maps.unit_map import UnitMap
from topographic.sheets import Sheet, distances, grid


def transcribed_loss(z, sheet):
    """The equation, in float64, one neighbourhood after the other."""
    z, found = np.asarray(z, np.float64), []
    apart = distances(sheet.positions_mm, period_mm=sheet.period_mm).numpy()
    for members in fitting_neighborhoods(sheet).numpy():
        lower = np.tril_indices(len(members), -1)
        r = np.corrcoef(z[:, members].T)[lower]
        found.append((1 - np.corrcoef(r, 1 / (1 + apart[np.ix_(members, members)][lower]))[0, 1]) / 2)
    return np.mean(found)


def on_sheet(values, fitted, matrix):
    mean, scale = (part.numpy().astype(float) for part in moments(fitted))
    return (values - mean) / scale @ matrix.numpy().astype(float)


def test_few_rows_have_the_covariance_and_the_loss_of_all_samples(planted):
    population = planted((6, 8), 500, mixed_by="rotation")
    _, shared = covariance(population.fitted)
    rows = few_rows(shared)
    assert rows.shape == (49, 48)
    torch.testing.assert_close(rows.double().T @ rows.double(), shared, rtol=0, atol=1e-5)
    assert rows.sum(0).abs().max() < 1e-4
    hoods, positions_mm = fitting_neighborhoods(population.sheet), population.sheet.positions_mm
    whole = transcribed_loss(population.fitted, population.sheet)
    assert float(spatial_correlation_loss(rows, positions_mm, hoods)) == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize(("shape", "wrap"), [((8, 8), False), ((6, 12), False), ((8, 8), True)])
def test_a_hidden_map_is_found_again_as_smooth_as_it_was(planted, shape, wrap):
    """As smooth on held-out samples as the hidden map itself; one fitted on shuffled samples is not smooth at all."""
    population = planted(shape, 800, mixed_by="rotation", wrap=wrap)
    sheet = population.sheet
    found = fit_rotation(population.fitted, sheet)
    hidden = transcribed_loss(population.judged @ population.mixing.T, sheet)
    fitted = transcribed_loss(on_sheet(population.judged, population.fitted, found), sheet)
    assert fitted < hidden + 0.02 < 0.06
    assert transcribed_loss(population.judged, sheet) > 0.45
    control = fit_rotation(shuffled_within_units(population.fitted), sheet)
    assert transcribed_loss(on_sheet(population.judged, population.fitted, control), sheet) > 0.45


def test_a_planted_difference_is_smooth_on_the_found_sheet_and_not_on_the_control(planted):
    population = planted((9, 9), 800, mixed_by="rotation")
    # what a patch of the hidden sheet does, as a direction of the mixed population
    patch = np.exp(-((population.sheet.positions_mm.numpy() - [4, 7]) ** 2).sum(1) / 4) @ population.mixing
    values = {}
    for name, fitted in {"found": population.fitted, "control": shuffled_within_units(population.fitted)}.items():
        scale = moments(population.fitted)[1].numpy()
        seen = ((patch / scale) @ fit_rotation(fitted, population.sheet).numpy()).astype(np.float32)
        values[name] = morans_i(UnitMap("hidden", seen, population.sheet, statistic="weight")).value
    assert values["found"] > 0.5 > 0.15 > abs(values["control"])


def test_it_is_orthogonal_and_decided_by_the_seed(planted):
    population = planted((6, 6), 400, mixed_by="rotation")
    first, again, other = (fit_rotation(population.fitted, population.sheet, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert torch.dist(first, other) > 1
    for found in (first, other):
        assert (found.T @ found - torch.eye(36)).norm() < 1e-5
        assert (found.dtype, found.device.type) == (torch.float32, "cpu")
    tensor = torch.from_numpy(population.fitted).requires_grad_()
    assert torch.equal(fit_rotation(tensor, population.sheet), first)
    assert not first.requires_grad


def test_sites_fitted_together_are_fitted_as_alone(planted):
    one, two = (planted((6, 6), 400, mixed_by="rotation", seed=seed) for seed in (0, 1))
    together = fit_rotations({"a": one.fitted, "b": two.fitted[:300]}, one.sheet, steps=30)
    torch.testing.assert_close(together["a"], fit_rotation(one.fitted, one.sheet, steps=30), rtol=0, atol=1e-3)
    torch.testing.assert_close(together["b"], fit_rotation(two.fitted[:300], one.sheet, steps=30), rtol=0, atol=1e-3)
    with pytest.raises(ValueError, match="site 'b': 50 samples of 36 units"):
        fit_rotations({"a": one.fitted, "b": two.fitted[:50]}, one.sheet)


def test_units_of_a_mesh_have_a_map_too(planted):
    population = planted((8, 8), 600, mixed_by="rotation")
    lattice = population.sheet.positions_mm
    places = torch.cat([lattice, torch.sin(lattice[:, :1] / 3)], 1)
    edges = torch.tensor([[unit, unit + 1] for unit in range(63) if unit % 8 != 7])
    mesh = Sheet(name="mesh", positions_mm=places, edges=edges)
    found = fit_rotation(population.fitted, mesh)
    assert transcribed_loss(on_sheet(population.judged, population.fitted, found), mesh) < 0.1


def test_whitened_values_do_not_converge_and_say_so():
    draw = np.random.default_rng(0).normal(size=(400, 36))
    white = np.linalg.qr(draw - draw.mean(0))[0]
    with pytest.raises(RuntimeError, match=r"did not converge: spatial loss 0\.5\d* after 100 steps.*whitened ones"):
        fit_rotation(white, grid(36))


@pytest.mark.parametrize("max_condition", [1.0, 5.0, 100.0])
def test_a_free_map_keeps_its_condition_number_and_does_no_worse(planted, max_condition):
    population = planted((6, 8), 600, mixed_by="rotation")
    matrix = fit_linear(population.fitted, population.sheet, max_condition=max_condition)
    assert np.linalg.cond(matrix.double().numpy()) <= max_condition * (1 + 1e-4)
    rotated = fit_rotation(population.fitted, population.sheet)
    losses = [
        transcribed_loss(on_sheet(population.fitted, population.fitted, m), population.sheet) for m in (matrix, rotated)
    ]
    assert losses[0] < losses[1] + 0.01
    z = on_sheet(population.judged, population.fitted, matrix)
    mean, scale = (part.numpy() for part in moments(population.fitted))
    back = z @ np.linalg.inv(matrix.double().numpy()) * scale + mean
    np.testing.assert_allclose(back, population.judged, atol=1e-4)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"max_condition": 0.5}, "max_condition=0.5; expected a number from 1 to 1e6"),
        ({"steps": 0}, "steps=0; expected at least 1"),
        ({"seed": -1}, "seed=-1; expected at least 0"),
    ],
)
def test_choices_out_of_range_are_refused(planted, choice, message):
    population = planted((6, 6), 100, mixed_by="rotation")
    with pytest.raises(ValueError, match=message):
        fit_linear(population.fitted, population.sheet, **choice)
