import math

import pytest

from topographic.evaluation import Choices, Shown


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"fwhm_mm": (-2.0,)}, r"fwhm_mm=\[-2.0\]; expected widths in mm of 0"),
        ({"fwhm_mm": (math.nan,)}, r"fwhm_mm=\[nan\]; expected widths"),
        ({"fwhm_mm": (math.inf,)}, r"fwhm_mm=\[inf\]; expected widths"),
        ({"fwhm_mm": ()}, r"fwhm_mm=\[\]; expected widths"),
        ({"fwhm_mm": (2.0, 2.0)}, "names a width twice"),
        ({"n_draws": -1}, "n_draws=-1; expected a whole number of at least 19: with fewer draws of a null no p"),
        ({"n_draws": 18}, "n_draws=18; expected a whole number of at least 19"),
        ({"lesion_draws": 98}, "lesion_draws=98; expected a whole number of at least 99: with fewer control lesions"),
        ({"lesion_draws": 0, "quick": True}, "lesion_draws=0; expected a whole number of at least 1"),
        ({"lesion_pairs": 0}, "lesion_pairs=0; expected a whole number of at least 1"),
        ({"lesion_fractions": (0.6,)}, r"lesion_fractions=\[0.6\]; expected shares above 0 and at most 0.5"),
        ({"lesion_fractions": (math.nan,)}, r"lesion_fractions=\[nan\]; expected shares"),
        ({"cluster_threshold": 0.0}, "cluster_threshold=0.0; expected a t above 0"),
        ({"cluster_threshold": math.nan}, "cluster_threshold=nan; expected a t above 0"),
        ({"cluster_threshold": math.inf}, "cluster_threshold=inf; expected a t above 0"),
        ({"removed": (0.5, 1.0)}, r"removed=\[0.5, 1.0\]; expected shares above 0 and below 1"),
        ({"removed": (math.nan,)}, r"removed=\[nan\]; expected shares"),
        ({"removed": ()}, r"removed=\[\]; expected shares"),
        ({"permuted_draws": 1}, "permuted_draws=1; expected a whole number of at least 2"),
        ({"window_words": 7}, "window_words=7; expected a whole number of at least 8: a window has four lags"),
        ({"window_sequences": 0}, "window_sequences=0; expected a whole number of at least 1"),
        ({"seed": -1}, "seed=-1; expected a whole number of at least 0"),
    ],
)
def test_numbers_that_nothing_can_be_measured_with(choices, message):
    with pytest.raises(ValueError, match=message):
        Choices(**choices)


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        ({"pairs_per_paradigm": 0}, "pairs_per_paradigm=0; expected a whole number of at least 1: or none for all"),
        ({"n_images": 1}, "n_images=1; expected a whole number of at least 2"),
        ({"n_test_images": 0}, "n_test_images=0; expected a whole number of at least 1"),
        ({"batch_size": 0}, "batch_size=0; expected a whole number of at least 1"),
    ],
)
def test_numbers_that_nothing_can_be_shown_with(shown, message):
    with pytest.raises(ValueError, match=message):
        Shown(**shown)


def test_a_quick_look_has_few_draws_and_never_more_than_were_asked_for():
    whole, quick = Choices().as_measured(), Choices(quick=True).as_measured()
    assert (whole.n_draws, whole.lesion_fractions, whole.lesion_draws) == (200, (0.01, 0.05), 99)
    assert (quick.n_draws, quick.lesion_fractions, quick.lesion_draws) == (20, (0.01,), 3)
    assert (whole.removed, whole.permuted_draws, whole.window_sequences) == ((0.2, 0.5, 0.8), 20, 20)
    assert (quick.removed, quick.permuted_draws, quick.window_sequences) == ((0.2, 0.5, 0.8), 3, 3)
    fewer = Choices(quick=True, lesion_draws=1, n_draws=19, removed=(0.8, 0.2)).as_measured()
    assert (fewer.lesion_draws, fewer.n_draws, fewer.removed) == (1, 19, (0.2, 0.8))
