import pytest

from topographic.sweeps.choices import CONTROL, CellMaps, Mechanisms


def test_the_same_choices_at_one_readout():
    one = CellMaps(contrasts=["syntax"], n_draws=19, seed=3).at(2.0)
    assert (one.contrasts, one.n_draws, one.seed, one.fwhm_mm) == (["syntax"], 19, 3, 2.0)


@pytest.mark.parametrize("widths", [[], [0.0, 0.0], [-1.0]])
def test_readouts_that_say_nothing_are_refused(widths):
    with pytest.raises(ValueError, match=r"maps\.fwhm_mm=.*expected different widths in mm"):
        CellMaps(fwhm_mm=widths)


def test_the_control_has_no_topography():
    assert CONTROL == {"spatial.weight": 0, "smoothness.weight": 0}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"weights": {"MLP": "a"}}, r"mechanisms.weights=\['MLP'\]; expected places among \[\], as in sites"),
        ({"sites": {"a": "b"}, "lesioned": ["c"]}, r"mechanisms.lesioned=\['c'\]; expected places among \['a'\]"),
        ({"removed": 1.0}, "mechanisms.removed=1.0; expected a share above 0 and below 1"),
        ({"lesion": 0.0}, "mechanisms.lesion=0.0; expected a share above 0 and below 1"),
        ({"n_models": 1}, "mechanisms.n_models=1; expected at least 2 draws"),
        ({"n_windows": 0}, "mechanisms.n_windows=0; expected at least 1 window"),
    ],
)
def test_what_mechanisms_cannot_be_compared_by_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        Mechanisms(**given)
    assert not Mechanisms().is_on
