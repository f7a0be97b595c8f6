import math
import re

import pytest

from topographic.behaviour.formulas import parse_formula

BITS = {("a", 1): 1.0, ("a", 2): 5.0, ("b", 1): 2.0, ("b", 2): 3.0, ("no-obj_x", 1): 0.0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(1;%a%) < (1;%b%)", True),
        ("(1;%b%) < (1;%a%)", False),
        ("(2;%a%)>(2;%b%)", True),
        ("((1;%a%) < (1;%b%)) & ((2;%a%) < (2;%b%))", False),
        ("((1;%a%) < (1;%b%)) | ((2;%a%) < (2;%b%))", True),
        # & and | bind alike, from left to right: (true | true) & false, where Python would say true
        ("(1;%a%) < (1;%b%) | (1;%a%) < (1;%b%) & (1;%a%) > (1;%b%)", False),
        # + and - from left to right: 5 - 3 - 2 = 0, not 5 - (3 - 2) = 4
        ("(2;%a%) - (2;%b%) - (1;%b%) = 0", True),
        ("(2;%a%) - ((2;%b%) - (1;%b%)) = 4", True),
        ("(1;%a%) + (2;%a%) > (1;%b%) + (2;%b%)", True),
        # all regions: 6 against 5
        ("(*;%a%) - (*;%b%) = 1", True),
        ("(*;%a%) > 6.5", False),
        ("[(1;%a%) < (1;%b%)] & [(1;%no-obj_x%) = 0]", True),
        (" ( ( 1 ; %a% ) < ( 1 ;%b%) ) ", True),
        ("((((1;%a%)+(2;%a%))-((1;%b%)))-((2;%b%)))>0", True),
    ],
)
def test_formulas_say_what_arithmetic_says(text, expected):
    assert parse_formula(text).holds(BITS) is expected


@pytest.mark.parametrize(("difference", "equal"), [(0.0, True), (9e-4, True), (1.2e-3, False), (-1.2e-3, False)])
def test_equality_has_the_tolerance_of_the_syntaxgym_tools(difference, equal):
    formula = parse_formula("(1;%a%) = (1;%b%)")
    assert formula.holds({("a", 1): 10 + difference, ("b", 1): 10.0}) is equal
    # the relative part: 1e-5 of a thousand bits
    assert formula.holds({("a", 1): 1000.0105, ("b", 1): 1000.0})
    assert not formula.holds({("a", 1): 1000.012, ("b", 1): 1000.0})


def test_regions_are_listed():
    formula = parse_formula("((12;%no-obj_x%) < (1;%a%)) & ((*;%b%) > (1;%a%))")
    assert formula.regions == {("no-obj_x", "12"), ("a", "1"), ("b", "*")}
    assert formula.text.startswith("((12;")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(1;%a%)", "a comparison with <, > or ="),
        ("(1;%a%) + 1", "a comparison"),
        ("", "got 'the end'"),
        ("(1;%a%) <", "got 'the end'"),
        ("((1;%a%) < (1;%b%)", "a closing bracket"),
        ("(1;%a%) < (1;%b%))", "nothing after the end, got ')'"),
        ("(1;%a%) < (1;%b%) < (2;%b%)", "nothing after the end, got '<'"),
        ("((1;%a%) < (1;%b%)) < (2;%b%)", "numbers on both sides of '<'"),
        ("((1;%a%) < (1;%b%)) + (2;%b%) > 0", "numbers on both sides of '+'"),
        ("((1;%a%) < (1;%b%)) & (2;%b%)", "comparisons on both sides of '&'"),
        ("(1;a) < (1;%b%)", "at ';a) < (1;%b%'"),
        ("__import__('os').system('true')", 'at "__import__(\'"'),
        ("(1;%a%) * (1;%b%) > 0", "at '* (1;%b%) > '"),
        ("& (1;%a%)", "a region, a number or a bracket, got '&'"),
    ],
)
def test_other_texts_are_refused(text, expected):
    with pytest.raises(ValueError, match="cannot be read; expected") as raised:
        parse_formula(text)
    assert re.search(re.escape(expected), str(raised.value)), str(raised.value)


def test_nothing_is_rounded():
    assert parse_formula("(1;%a%) < (1;%b%)").holds({("a", 1): 1.0, ("b", 1): math.nextafter(1.0, 2.0)})
