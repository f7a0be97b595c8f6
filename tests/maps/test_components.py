import numpy as np
import pytest
from sklearn.decomposition import PCA

from topographic.maps import morans_i, principal_components
from topographic.recording import Responses
from topographic.sheets import grid
from topographic.stimuli import StimulusSet


def responses(values):
    n_stimuli, n_units = values.shape
    shown = StimulusSet("s", tuple(f"item {n}" for n in range(n_stimuli)), ("a",) * n_stimuli)
    return Responses("fc", values, grid(n_units, wrap=True), shown)


def test_loadings_and_shares_are_those_of_scikit_learn():
    values = np.random.default_rng(0).standard_normal((30, 16)) @ np.random.default_rng(1).standard_normal((16, 16))
    pca = PCA(3).fit(values.astype(np.float32).astype(np.float64))
    for (unit_map, share), axis, expected in zip(
        principal_components(responses(values), 3), pca.components_, pca.explained_variance_ratio_, strict=True
    ):
        assert abs(unit_map.values @ axis) == pytest.approx(1, abs=1e-5)
        assert unit_map.values.sum() >= 0
        assert share == pytest.approx(expected, abs=1e-6)


def test_a_planted_smooth_component_is_smooth_beside_its_null_and_noise_is_not():
    draw, sheet = np.random.default_rng(0), grid(100, wrap=True)
    wave = np.sin(2 * np.pi * sheet.positions_mm[:, 0].numpy() / 10)
    noise = draw.standard_normal((60, 100))
    planted = responses(noise + 3 * np.outer(draw.standard_normal(60), wave))
    found, _ = principal_components(planted, 1, n_draws=99)[0]
    assert abs(np.corrcoef(found.values, wave)[0, 1]) > 0.95
    assert morans_i(found).nulls["unit"].p == 0.01
    ps = [
        morans_i(principal_components(responses(draw.standard_normal((40, 64))), 1, n_draws=19)[0][0]).nulls["unit"].p
        for _ in range(60)
    ]
    assert np.mean(np.array(ps) <= 0.05) <= 0.15


def test_what_cannot_be_had_is_refused():
    with pytest.raises(ValueError, match="n_components=9 of 5 stimuli and 16 units; expected 1 to 4"):
        principal_components(responses(np.random.default_rng(0).standard_normal((5, 16))), 9)
    with pytest.raises(ValueError, match="the same for every stimulus"):
        principal_components(responses(np.ones((5, 16))), 1)
