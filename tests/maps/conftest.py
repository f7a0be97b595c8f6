"""Populations whose truth is known."""

import numpy as np
import pytest

from topographic.recording import Responses
from topographic.sheets import distances, grid
from topographic.stimuli import StimulusSet


@pytest.fixture
def respond():
    """Make `Responses` of an array: the items alternate between conditions a and b within two runs by default."""

    def make(
        values, *, conditions=None, runs=None, labels=None, sheet=None, site="site", n_tokens=None, sampled_by=None
    ):
        values = np.asarray(values)
        n = len(values)
        stimuli = StimulusSet(
            "planted",
            tuple(f"item {index}" for index in range(n)),
            tuple(conditions) if conditions is not None else ("a", "b") * (n // 2) + ("a",) * (n % 2),
            tuple(runs) if runs is not None else ("odd",) * (n // 2) + ("even",) * (n - n // 2),
            labels=labels or {},
            sampled_by=sampled_by,
        )
        return Responses(site, values, sheet or grid(values.shape[1], site), stimuli, n_tokens)

    return make


@pytest.fixture
def smooth_noise():
    """White noise made smooth over a sheet, in unit order; independent between items."""

    def make(generator, n_items, sheet, fwhm_mm=3.0):
        between = distances(sheet.positions_mm, period_mm=sheet.period_mm).numpy()
        return generator.standard_normal((n_items, sheet.n_units)) @ np.exp2(-4 * (between / fwhm_mm) ** 2)

    return make
