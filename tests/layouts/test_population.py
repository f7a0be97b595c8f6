import numpy as np
import pytest
import torch

from topographic.layouts import fit_assignment, fit_rotation, moments, shuffled_within_units
from topographic.layouts.population import covariance
from topographic.sheets import grid


def test_moments_and_covariance_are_numpys_for_any_kind_of_values(tmp_path):
    values = np.random.default_rng(0).normal(3, 2, size=(9000, 5)).astype(np.float32)  # three pieces
    file = np.lib.format.open_memmap(tmp_path / "values.npy", "w+", np.float32, values.shape)
    file[:] = values
    for given in (values, torch.from_numpy(values), torch.from_numpy(values).requires_grad_(), file):
        mean, shared = covariance(given)
        np.testing.assert_allclose(mean, values.astype(float).mean(0), rtol=1e-12)
        np.testing.assert_allclose(shared, np.cov(values.astype(float).T, bias=True), rtol=1e-9, atol=1e-12)
    assert moments(values)[1].numpy() == pytest.approx(values.std(0), rel=1e-5)
    overall = moments(values, "overall")[1]
    assert overall.numpy() == pytest.approx(np.full(5, np.sqrt(values.var(0).mean())), rel=1e-5)
    with pytest.raises(ValueError, match="scale='none'; expected 'unit' or 'overall'"):
        moments(values, "none")


@pytest.mark.parametrize("as_tensor", [False, True])
def test_a_shuffled_population_keeps_every_unit_and_no_correlation(as_tensor):
    draw = np.random.default_rng(0)
    values = draw.normal(size=(3000, 1)) + 0.1 * draw.normal(size=(3000, 6))
    given = torch.from_numpy(values) if as_tensor else values
    shuffled = np.asarray(shuffled_within_units(given, seed=1))
    np.testing.assert_array_equal(np.sort(shuffled, axis=0), np.sort(values, axis=0))
    assert np.abs(np.corrcoef(shuffled.T) - np.eye(6)).max() < 0.08 < 0.9 < np.corrcoef(values.T).min()
    np.testing.assert_array_equal(shuffled, np.asarray(shuffled_within_units(given, seed=1)))
    assert (shuffled != np.asarray(shuffled_within_units(given, seed=2))).any()


def population():
    return np.random.default_rng(0).normal(size=(200, 36)).cumsum(1)


def holding(value, units):
    values = population()
    values[7 if np.isnan(value) else slice(None), units] = value
    return values


@pytest.mark.parametrize("fit", [fit_rotation, fit_assignment])
@pytest.mark.parametrize(
    ("values", "sheet", "message"),
    [
        (population()[:71], grid(36), "71 samples of 36 units; correlations need at least 2 samples a unit, 72 here"),
        (holding(5.0, [3, 8]), grid(36), r"unit 3 is constant over all samples \(2 such units\).*leave them out"),
        (holding(np.nan, [4]), grid(36), r"unit 4 hold NaN or infinity \(1 such units\)"),
        (population(), grid(49), r"36 units and sheet 'sheet' places 49; give a sheet of that width.*grid\(36\)"),
        (population()[0], grid(36), r"shape \(36,\); expected \(samples, units\)"),
    ],
)
def test_what_no_map_can_be_fitted_to_is_refused_in_one_line(fit, values, sheet, message):
    with pytest.raises(ValueError, match=message) as caught:
        fit(values, sheet)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fit", [fit_rotation, fit_assignment])
def test_units_recorded_twice_are_named(fit):
    values = population()
    values[:, 9] = 2 * values[:, 4]
    with pytest.warns(UserWarning, match=r"units 4 and 9 do the same in all samples \(1 such pairs\)"):
        fit(values, grid(36))
