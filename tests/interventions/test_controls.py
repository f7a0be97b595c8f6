import numpy as np
import pytest
from scipy.ndimage import label

from topographic.interventions.controls import CONTROLS, connected_control, layer_control, model_control
from topographic.maps import NotMeasurable, Selection
from topographic.sheets import grid, permuted_grid, to_grid

SHEETS = {name: permuted_grid((10, 12), name) for name in ("a", "b", "c")}


def patch(name, rows, columns):
    cells = SHEETS[name].positions_mm.long()
    inside = (
        (cells[:, 0] >= rows[0]) & (cells[:, 0] < rows[1]) & (cells[:, 1] >= columns[0]) & (cells[:, 1] < columns[1])
    )
    return inside.numpy()


LESION = [
    Selection("a", patch("a", (0, 3), (0, 4)) | patch("a", (6, 8), (5, 8)), SHEETS["a"], "two patches"),
    Selection("b", patch("b", (4, 6), (2, 4)), SHEETS["b"], "one patch"),
]


def sizes(selection):
    labels, _ = label(to_grid(selection.sheet, selection.mask.astype(float)))
    return sorted(np.bincount(labels.ravel())[1:].tolist())


@pytest.mark.parametrize("control", CONTROLS.values(), ids=CONTROLS.keys())
def test_every_control_is_matched_disjoint_and_seeded(control):
    drawn = control(LESION, SHEETS, generator=np.random.default_rng(0))
    assert sum(s.n_selected for s in drawn) == sum(s.n_selected for s in LESION)
    lesioned = {s.site: s.mask for s in LESION}
    for s in drawn:
        assert not (s.mask & lesioned.get(s.site, False)).any()
        assert s.sheet == SHEETS[s.site]
    again = control(LESION, SHEETS, generator=np.random.default_rng(0))
    other = control(LESION, SHEETS, generator=np.random.default_rng(1))
    assert all(np.array_equal(x.mask, y.mask) for x, y in zip(drawn, again, strict=True))
    assert not all(np.array_equal(x.mask, y.mask) for x, y in zip(drawn, other, strict=False))


def test_layer_control_matches_each_sheet():
    drawn = layer_control(LESION, generator=np.random.default_rng(0))
    assert [(s.site, s.n_selected) for s in drawn] == [("a", 18), ("b", 4)]
    assert len(sizes(drawn[0])) > 4, "random units are scattered"


def test_model_control_reaches_every_sheet():
    generator = np.random.default_rng(0)
    reached = {s.site for _ in range(20) for s in model_control(LESION, SHEETS, generator=generator)}
    assert reached == {"a", "b", "c"}


@pytest.mark.parametrize("seed", range(10))
def test_connected_control_keeps_component_sizes(seed):
    drawn = connected_control(LESION, generator=np.random.default_rng(seed))
    assert [sizes(s) for s in drawn] == [[6, 12], [4]]


def test_no_room():
    sheet = grid((4, 4), "x")
    half = Selection("x", np.arange(16) < 9, sheet, "too much")
    with pytest.raises(NotMeasurable, match="has 7 units outside the lesion of 9"):
        layer_control([half], generator=np.random.default_rng(0))
    with pytest.raises(NotMeasurable, match="no room for a patch of 9 units"):
        connected_control([half], generator=np.random.default_rng(0))
