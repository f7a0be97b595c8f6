import math

from topographic.evaluation import wording
from topographic.evaluation.wording import count, counted, duration, percent, plus_minus
from topographic.maps.wording import number, p_value


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


def test_pages_and_sentences_have_one_format():
    assert wording.number is number
    assert wording.p_value is p_value
