import doctest

import numpy as np
import pytest

from topographic.drawing import draw_outline, draw_scale_bar, draw_sheet, marks
from topographic.sheets import from_positions, grid, permuted_grid


def segments(sheet, units):
    """Ends of all pieces of the line, each piece in one order."""
    ax = draw_outline(sheet, units, draw_sheet(sheet, np.zeros(sheet.n_units)))
    (lines,) = ax.collections
    return {tuple(sorted(map(tuple, one.tolist()))) for one in lines.get_segments()}


def test_a_line_runs_around_one_unit():
    units = np.zeros(15, bool)
    units[7] = True  # row 1, column 2
    corners = [(1.5, 0.5), (2.5, 0.5), (2.5, 1.5), (1.5, 1.5)]
    expected = {tuple(sorted(pair)) for pair in zip(corners, corners[1:] + corners[:1], strict=True)}
    assert segments(grid((3, 5)), units) == expected


def test_no_line_between_units_that_are_both_inside():
    units = np.ones(15, bool)
    found = segments(grid((3, 5)), units)
    assert len(found) == 2 * (3 + 5), "only the border of the sheet"
    assert {abs(x) for piece in found for x, _ in piece} >= {0.5, 4.5}
    assert segments(grid((3, 5)), ~units) == set()


def test_the_line_follows_positions_not_the_order_of_units():
    sheet = permuted_grid(15, "s", seed=3)
    for unit in (0, 4, 9):
        row, column = sheet.positions_mm[unit].tolist()
        found = np.array(list(segments(sheet, np.arange(15) == unit)))
        np.testing.assert_allclose(found.reshape(-1, 2).mean(axis=0), [column, row])


def test_units_off_a_lattice_have_rings():
    positions = np.array([[0.0, 0.0], [0.3, 1.7], [2.2, 0.4]])
    sheet = from_positions(positions)(3, "s")
    ax = draw_outline(sheet, np.array([True, False, True]), draw_sheet(sheet, np.zeros(3)))
    rings = ax.collections[-1]
    np.testing.assert_allclose(np.asarray(rings.get_offsets()), positions[[0, 2]][:, ::-1])
    assert len(rings.get_facecolors()) == 0


def test_one_truth_value_per_unit():
    with pytest.raises(ValueError, match=r"units of shape \(14,\) for the 15 units.*one truth value per unit"):
        draw_outline(grid((3, 5)), np.ones(14, bool), draw_sheet(grid((3, 5)), np.zeros(15)))


@pytest.mark.parametrize(("side", "spacing_mm", "said"), [(14, 1.0, "2 mm"), (28, 1.0, "5 mm"), (14, 0.1, "0.2 mm")])
def test_the_bar_is_as_long_as_it_says(side, spacing_mm, said):
    sheet = grid((side, side), spacing_mm=spacing_mm)
    ax = draw_scale_bar(sheet, draw_sheet(sheet, np.zeros(side * side)))
    assert [text.get_text() for text in ax.texts] == [said]
    ends = np.asarray(ax.lines[0].get_xdata())
    assert np.diff(ends) * spacing_mm == pytest.approx(float(said.split()[0]))
    assert ax.get_xlim() == (-0.5, side - 0.5), "the picture is as wide as before"


def test_a_bar_off_a_lattice_counts_in_millimetres():
    sheet = from_positions(np.array([[0.0, 0.0], [0.3, 9.7], [5.2, 0.4]]))(3, "s")
    ax = draw_scale_bar(sheet, draw_sheet(sheet, np.zeros(3)))
    assert np.diff(np.asarray(ax.lines[0].get_xdata())) == pytest.approx(float(ax.texts[0].get_text().split()[0]))


def test_the_examples_run():
    assert doctest.testmod(marks).failed == 0
