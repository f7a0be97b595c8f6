import numpy as np
import pytest

from topographic.sheets.expectations import expect_kind, expect_number, expect_whole


@pytest.mark.parametrize(
    ("value", "described"),
    [
        ("gpt2", "the string 'gpt2'"),
        (["a b"], "a list of 1 str"),
        ((1, "a"), "a tuple of 2 int and str"),
        ({"site": 1.0}, "a dict of 1 float"),
        ([], "a list"),
        (None, "None"),
        (np.zeros(3), "a ndarray"),
        (int, "the class int"),
        (np.mean, "the function mean"),
        (1, "an int"),
    ],
)
def test_says_what_it_got_and_what_it_expected(value, described):
    with pytest.raises(TypeError, match=r"^thing is .*; expected a bytes: encode it$") as raised:
        expect_kind("thing", value, bytes, "encode it")
    assert described in str(raised.value)
    expect_kind("thing", b"", bytes, "encode it")


@pytest.mark.parametrize("value", [-1, 0.5, "3", None, True, float("nan")])
def test_no_whole_number_from_0_on(value):
    with pytest.raises(ValueError, match=rf"^seed={value!r}; expected .*at least 0$"):
        expect_whole("seed", value)


def test_whole_numbers():
    for number in (0, 7, np.int64(3)):
        expect_whole("seed", number)
    with pytest.raises(ValueError, match="n_draws=1; expected at least 2"):
        expect_whole("n_draws", 1, 2)


def test_numbers_within_limits():
    for number in (0, 2.5, np.float32(1)):
        expect_number("fwhm_mm", number, "a width")
    for number in (-2, float("nan"), float("inf"), "2", None):
        with pytest.raises(ValueError, match=rf"^fwhm_mm={number}; expected a width$"):
            expect_number("fwhm_mm", number, "a width")
    with pytest.raises(ValueError, match="share=2; expected 0 to 1"):
        expect_number("share", 2, "0 to 1", most=1.0)
