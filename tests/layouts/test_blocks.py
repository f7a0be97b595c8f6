import pytest
import torch

from topographic.layouts.blocks import fitting_neighborhoods
from topographic.sheets import Sheet, grid, local_neighborhoods


@pytest.mark.parametrize(("shape", "radius"), [((24, 24), 5), ((18, 32), 5), ((6, 6), 3), ((3, 12), 2)])
def test_blocks_are_as_large_as_the_sheet_allows(shape, radius):
    sheet = grid(shape[0] * shape[1], shape=shape)
    torch.testing.assert_close(fitting_neighborhoods(sheet), local_neighborhoods(sheet, radius))


def test_a_torus_has_one_block_a_unit():
    assert fitting_neighborhoods(grid(144, wrap=True)).shape == (144, 81)


def test_off_a_lattice_they_are_the_nearest_places():
    angle = torch.arange(200) * 2.4
    spiral = torch.arange(200).sqrt()[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    for positions in (spiral, torch.cat([spiral, spiral[:, :1] * 0.1], 1)):
        found = fitting_neighborhoods(Sheet(name="spiral", positions_mm=positions), 3)
        of_first = torch.cdist(positions[:1].double(), positions.double())[0].argsort()[:25].sort().values
        assert found.shape[1] == 25
        assert (found == of_first).all(1).any()
    assert fitting_neighborhoods(grid(12, shape=(2, 6))).shape == (1, 12)
    with pytest.raises(ValueError, match="has 2 units; a map needs at least 3"):
        fitting_neighborhoods(grid(2, shape=(1, 2)))
