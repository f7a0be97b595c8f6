import pytest

from topographic.sweeps.choices import CONTROL, CellMaps


def test_the_same_choices_at_one_readout():
    one = CellMaps(contrasts=["syntax"], n_draws=19, seed=3).at(2.0)
    assert (one.contrasts, one.n_draws, one.seed, one.fwhm_mm) == (["syntax"], 19, 3, 2.0)


@pytest.mark.parametrize("widths", [[], [0.0, 0.0], [-1.0]])
def test_readouts_that_say_nothing_are_refused(widths):
    with pytest.raises(ValueError, match=r"maps\.fwhm_mm=.*expected different widths in mm"):
        CellMaps(fwhm_mm=widths)


def test_the_control_has_no_topography():
    assert CONTROL == {"spatial.weight": 0, "smoothness.weight": 0}
