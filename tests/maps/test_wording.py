import math

import pytest

from topographic.maps.wording import number, p_value


@pytest.mark.parametrize(
    ("value", "digits", "signed", "text"),
    [
        (0.714, 2, False, "0.71"),
        (-0.034, 2, False, "\N{MINUS SIGN}0.03"),
        (-0.001, 2, False, "0.00"),
        (12.34, 1, True, "+12.3"),
        (-0.04, 1, True, "0.0"),
        (math.nan, 2, False, "\N{EN DASH}"),
        (None, 2, False, "\N{EN DASH}"),
        (-math.inf, 2, False, "\N{MINUS SIGN}∞"),
    ],
)
def test_numbers(value, digits, signed, text):
    assert number(value, digits, signed=signed) == text


@pytest.mark.parametrize(
    ("p", "text", "in_sentence"),
    [
        (0.0004, "< .001", "< .001"),
        (0.001, ".001", "= .001"),
        (0.0344, ".034", "= .034"),
        (1.0, "1.000", "= 1.000"),
        (math.nan, "\N{EN DASH}", "\N{EN DASH}"),
        (None, "\N{EN DASH}", "\N{EN DASH}"),
    ],
)
def test_p_values(p, text, in_sentence):
    assert p_value(p) == text
    assert p_value(p, sign=True) == in_sentence
