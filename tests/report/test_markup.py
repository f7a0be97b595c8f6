import math
import re

import pytest

from topographic.report.markup import Html, count, duration, missing, number, p_value, resource, table, tag


def test_text_and_attributes_are_escaped_and_markup_is_not():
    inner = tag("b", "<script>")
    assert inner == "<b>&lt;script&gt;</b>"
    assert tag("p", "a & b", inner, None, title='"><x>', class_="y", data_row=None) == (
        '<p title="&quot;&gt;&lt;x&gt;" class="y">a &amp; b<b>&lt;script&gt;</b></p>'
    )
    assert tag("img", alt="it's") == '<img alt="it&#x27;s">'
    assert isinstance(inner, Html)


def test_joined_markup_is_plain_text_again_unless_it_says_otherwise():
    """str methods give str, so forgetting Html() escapes too much, never too little."""
    assert tag("p", tag("b", "x") + tag("b", "y")) == "<p>&lt;b&gt;x&lt;/b&gt;&lt;b&gt;y&lt;/b&gt;</p>"


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


def test_tables_name_rows_and_columns_for_screen_readers():
    made = table(["sheet", "I"], [("<a>", "0.5"), ("mean over 1 sheets", "0.5")], groups=[("", 1), ("Moran", 1)])
    assert made.count('<th scope="col">') == 2
    assert '<th scope="row">&lt;a&gt;</th><td>0.5</td>' in made
    assert '<tr class="mean">' in made
    assert '<th colspan="1" scope="colgroup">Moran</th>' in made
    assert made.startswith('<div class="scroll" tabindex="0">')


def test_what_is_missing_names_the_command():
    assert missing("No maps:", "topo map a&b") == '<p class="missing">No maps: <code>topo map a&amp;b</code></p>'


def test_rows_with_several_names_and_rows_that_go_on():
    made = table(["what", "run", "I"], [["a", "one", "1"], ["", "two", "2"], ["mean over 2", "one", "3"]], n_names=2)
    assert re.findall(r"<tr[^>]*>", made) == ["<tr>", "<tr>", '<tr class="more">', '<tr class="mean">']
    assert made.count('<th scope="row">') == 6
    assert made.count("<td>") == 3
    assert re.findall(r'<th scope="col"[^>]*>[^<]*', made)[1] == '<th scope="col" class="name">run'


def test_files_of_the_room():
    assert "$main" in resource("page.html")
    assert "prefers-color-scheme: dark" in resource("page.css")
