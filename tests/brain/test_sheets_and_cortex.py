import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from topographic.brain import encode
from topographic.brain.sheets_and_cortex import (
    prediction_map,
    preferred_position_maps,
    preferred_positions_mm,
    sheet_cortex_distances,
    weight_maps,
)
from topographic.maps import UnitMap, morans_i
from topographic.sheets import Sheet, grid


def autoregressive(rng, n, columns):
    steps = rng.normal(size=(n, columns))
    for row in range(1, n):
        steps[row] += 0.7 * steps[row - 1]
    return steps


def test_a_map_is_the_partial_correlation_of_every_unit():
    rng = np.random.default_rng(0)
    x, controls = rng.normal(size=(90, 16)), rng.normal(size=(90, 2))
    y = x[:, 5] + controls @ [3, -2] + rng.normal(size=90)
    found = prediction_map(x, y, grid(16), "h.0", controls=controls, name="N400", n_draws=0)
    table = np.column_stack([np.ones(90), controls])

    def residual(values):
        return values - table @ np.linalg.lstsq(table, values, rcond=None)[0]

    expected = [np.corrcoef(residual(x[:, unit]), residual(y))[0, 1] for unit in range(16)]
    np.testing.assert_allclose(found.values, expected, rtol=1e-5)
    assert found.provenance["target"] == "N400"
    assert not found.nulls
    idle = np.column_stack([controls, np.ones(90)])  # words of one token each: a control that does not vary
    same = prediction_map(x, y, grid(16), "h.0", controls=idle, n_draws=0)
    np.testing.assert_allclose(same.values, found.values, rtol=1e-6)


def test_autocorrelated_noise_predicts_nothing():
    rng, wrong = np.random.default_rng(0), []
    for seed in range(60):
        x, y = autoregressive(rng, 200, 25), autoregressive(rng, 200, 1)[:, 0]
        wrong.append(np.mean(prediction_map(x, y, grid(25), "a", n_draws=99, seed=seed).p <= 0.05))
    assert np.mean(wrong) <= 0.05 + 3 * np.std(wrong) / np.sqrt(60)


def test_a_constant_unit_has_no_value_and_bad_input_is_refused():
    x = np.random.default_rng(0).normal(size=(40, 4))
    x[:, 1] = 2.0
    assert np.isnan(prediction_map(x, x[:, 0], grid(4), "a", n_draws=20).values[1])
    with pytest.raises(ValueError, match="40 samples of 'a' for 39 of the measure; expected as many"):
        prediction_map(x, x[1:, 0], grid(4), "a")
    x[3, 2] = np.nan
    with pytest.raises(ValueError, match="not finite; leave those samples out"):
        prediction_map(x, x[:, 0], grid(4), "a")


def test_weights_come_back_to_their_sheets_delays_added_up():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(150, 10))
    y = x @ rng.normal(size=(10, 2)) + rng.normal(size=(150, 2))
    sheets = {"a": grid(4), "b": grid(6)}
    fitted = encode(x, y, runs=np.repeat(np.arange(3), 50), keep_weights=True, progress=False)
    maps = weight_maps(fitted, sheets, 1)
    np.testing.assert_allclose(np.concatenate([one.values for one in maps.values()]), fitted.weights[:, 1])
    delayed = encode(np.hstack([x, x[::-1]]), y, runs=np.repeat(np.arange(3), 50), keep_weights=True, progress=False)
    summed = weight_maps(delayed, sheets, 0)
    np.testing.assert_allclose(summed["a"].values, delayed.weights[:4, 0] + delayed.weights[10:14, 0], rtol=1e-5)
    with pytest.raises(ValueError, match="10 features for sheets of 4 units in all"):
        weight_maps(fitted, {"a": grid(4)}, 0)
    with pytest.raises(ValueError, match="target=2 of 2"):
        weight_maps(fitted, sheets, 2)
    with pytest.raises(ValueError, match="no weights; fit it with keep_weights=True"):
        weight_maps(encode(x, y, progress=False), sheets, 0)


@pytest.mark.parametrize("wrap", [False, True])
def test_the_preferred_position_is_where_the_scores_are(wrap):
    sheet = grid((12, 12), wrap=wrap)
    places = sheet.positions_mm.numpy()
    centre = places[np.ravel_multi_index((5, 7), (12, 12))]
    bump = np.exp(-np.square(places - centre).sum(axis=1) / 2)
    np.testing.assert_allclose(preferred_positions_mm(bump[None], sheet)[0], centre, atol=0.05)
    assert np.isnan(preferred_positions_mm(-bump[None], sheet)).all()
    with pytest.raises(ValueError, match="3 scores for the 144 units"):
        preferred_positions_mm(np.zeros((1, 3)), sheet)


def test_around_a_torus_the_centre_lies_across_the_edge():
    sheet = grid((10, 10), wrap=True)
    places = sheet.positions_mm.numpy()
    scores = np.isin(places[:, 0], [places[:, 0].min(), places[:, 0].max()]).astype(float)
    x = preferred_positions_mm(scores[None], sheet)[0, 0]
    assert min(x, sheet.extent_mm[0] - x) < 1.01  # and not in the middle


def test_every_vertex_gets_a_position():
    surface = Sheet(name="s", positions_mm=torch.rand(3, 3), edges=torch.tensor([[0, 1], [1, 2]]))
    scores = np.eye(3, 16)
    scores[2] = np.nan
    maps = preferred_position_maps(scores, grid((4, 4)), surface)
    assert set(maps) == {"x", "y"}
    assert np.isnan(maps["x"].values[2])
    np.testing.assert_allclose(
        np.stack([maps[axis].values[:2] for axis in "xy"], axis=1), grid((4, 4)).positions_mm.numpy()[:2]
    )
    with pytest.raises(ValueError, match="scores of 3 vertices for 16"):
        preferred_position_maps(scores, grid((4, 4)), grid(16))


def sphere(rng, n):
    places = rng.normal(size=(n, 3))
    return 100 * places / np.linalg.norm(places, axis=1, keepdims=True)


def parcel_maps(rng, centres, ordered):
    """Smooth maps: bumps where the parcel lies on the cortex (longitude, latitude), or anywhere."""
    sheet = grid((14, 14))
    places = sheet.positions_mm.numpy()
    where = centres[:, :2] / 200 + 0.5 if ordered else rng.random((len(centres), 2))
    extent = np.array(sheet.extent_mm)
    return [
        UnitMap(
            "h.0",
            np.exp(-np.square(places - place * extent).sum(axis=1) / 8)
            + 0.05 * gaussian_filter(rng.normal(size=(14, 14)), 1.5).ravel(),
            sheet,
            "r",
        )
        for place in where
    ]


def test_order_on_sheet_and_cortex_is_found_and_none_invented():
    rng = np.random.default_rng(0)
    centres = sphere(rng, 24)
    centres[:, 2] = np.abs(centres[:, 2])
    found = sheet_cortex_distances(parcel_maps(rng, centres, True), centres, n_draws=99)
    assert found.value > 0.5
    assert {name: one.p <= 0.05 for name, one in found.nulls.items()} == {"spectral": True, "spin": True}
    p = [
        [
            one.p
            for one in sheet_cortex_distances(
                parcel_maps(rng, centres, False), centres, n_draws=39, seed=seed
            ).nulls.values()
        ]
        for seed in range(40)
    ]
    assert (np.mean(np.array(p) <= 0.05, axis=0) <= 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / 40)).all()


def test_correspondence_needs_parcels_of_one_sheet_on_a_sphere():
    rng = np.random.default_rng(0)
    centres = sphere(rng, 8)
    maps = parcel_maps(rng, centres, True)
    with pytest.raises(ValueError, match="expected 6 parcels or more"):
        sheet_cortex_distances(maps[:3], centres[:3])
    with pytest.raises(ValueError, match="expected places on a sphere"):
        sheet_cortex_distances(maps, centres * np.linspace(0.2, 1, 8)[:, None])
    with pytest.raises(ValueError, match="lie on several sheets"):
        sheet_cortex_distances([*maps[:7], UnitMap("b", np.ones(16), grid(16), "r")], centres)
    with pytest.raises(ValueError, match="no unit of positive score; leave it out"):
        sheet_cortex_distances([*maps[:7], UnitMap("b", -np.ones(196), maps[0].sheet, "r")], centres)


def test_a_smooth_population_has_smooth_maps_beside_its_shift_null():
    rng = np.random.default_rng(0)
    x = np.stack([gaussian_filter(one, 1.5).ravel() for one in rng.normal(size=(120, 12, 12))])
    found = morans_i(prediction_map(x, rng.normal(size=120), grid((12, 12)), "a", n_draws=39))
    assert found.value > 0.5
    assert found.nulls["shift"].p > 0.05
