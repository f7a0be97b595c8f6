"""Two layouts of one population: turned, mirrored and inverted sheets agree, chance layouts do not."""

import numpy as np
import pytest

from topographic.maps import layout_agreement
from topographic.sheets import grid

SHEET = grid((10, 10))


@pytest.fixture
def activity(smooth_noise):
    return smooth_noise(np.random.default_rng(0), 200, SHEET, 3.0)


def places(change):
    return change(np.arange(100).reshape(10, 10)).ravel()


@pytest.mark.parametrize(
    "change",
    [lambda cells: cells, lambda cells: np.rot90(cells), lambda cells: cells[::-1]],
    ids=["same", "turned", "mirrored"],
)
def test_a_layout_agrees_with_itself_whatever_way_round_it_lies(respond, activity, change):
    second = -activity[:, places(change)]
    found = layout_agreement(respond(activity, sheet=SHEET), respond(second, sheet=SHEET), block=5, n_draws=99)
    assert found.match == pytest.approx(1)
    assert found.arrangement.value == pytest.approx(1)
    assert found.arrangement.nulls["unit"].p == 0.01


def test_units_in_another_order_agree_by_chance(respond, activity):
    p = []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(100)
        second = respond(activity[:, order], sheet=SHEET)
        found = layout_agreement(respond(activity, sheet=SHEET), second, block=5, n_draws=39, seed=seed)
        assert found.match == pytest.approx(1)
        p.append(found.arrangement.nulls["unit"].p)
    assert np.mean(np.array(p) <= 0.05) <= 0.2


def test_blocks_in_another_order_agree_near_by_alone(respond, activity):
    order = places(lambda cells: np.block([[cells[5:, :5], cells[:5, 5:]], [cells[5:, 5:], cells[:5, :5]]]))
    second = respond(activity[:, order], sheet=SHEET)
    found = layout_agreement(respond(activity, sheet=SHEET), second, block=5, n_draws=199)
    assert found.arrangement.nulls["unit"].z > 3 > found.arrangement.nulls["block"].z


def test_other_stimuli_and_places_that_never_vary(respond, activity):
    first = respond(activity, sheet=SHEET)
    with pytest.raises(ValueError, match="expected the same stimuli"):
        layout_agreement(first, respond(activity[1:], sheet=SHEET))
    flat = activity.copy()
    flat[:, 3] = 0
    with pytest.raises(ValueError, match="1 places at 'site' never vary"):
        layout_agreement(first, respond(flat, sheet=SHEET))
