import math

import pytest

from topographic.evaluation.wording import count, counted, duration, number, p_value, percent, plus_minus


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


def test_counts_and_durations():
    assert count(1234567) == "1,234,567"
    assert count(None) == "\N{EN DASH}"
    assert [duration(seconds) for seconds in (41.6, 192, 3600 * 5 + 7 * 60 + 1, 86400 * 2 + 3 * 3600)] == [
        "42 s",
        "3 min 12 s",
        "5 h 07 min",
        "2 d 3 h",
    ]
    assert duration(None) == "\N{EN DASH}"


def test_shares_and_spreads():
    assert [percent(share) for share in (0.1234, 0.0, math.nan, None)] == ["12.3 %", "0.0 %", *["\N{EN DASH}"] * 2]
    joined = "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"
    assert plus_minus(-0.5, 0.25) == f"\N{MINUS SIGN}0.50{joined}0.25"
    assert plus_minus(0.5, math.nan, 1) == f"0.5{joined}\N{EN DASH}"


def test_one_is_told_in_the_singular():
    assert [counted(n, "sheet") for n in (0, 1, 2)] == ["0 sheets", "1 sheet", "2 sheets"]
