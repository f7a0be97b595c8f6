import dataclasses

import numpy as np

from topographic.evaluation.wording import number, p_value
from topographic.pages.tables import Cells, headline_table, last_value, settings_table, statistics_table


def cells(made):
    """All rows, the header first."""
    return [list(made.header), *map(list, made.rows)]


def test_statistics_equal_the_summary(measured):
    summary = measured["topographic"]
    header, *rows, mean = cells(statistics_table(summary))
    assert len(header) == 15
    groups = [("", 1), ("Moran's I", 2), ("unit null", 3), ("label null", 3), ("responses", 2), ("t map", 4)]
    assert statistics_table(summary).groups == groups
    assert [row[0] for row in rows] == [one.site for one in summary.rows]
    for row, one in zip(rows, summary.rows, strict=True):
        index = one.morans_i
        assert row[1] == number(index.value)
        assert row[2].replace("\N{NO-BREAK SPACE}", " ") == f"{number(index.floor.mean)} ± {number(index.floor.sd)}"
        for start, null in ((3, index.unit_null), (6, index.label_null)):
            assert row[start : start + 3] == [number(null.mean), number(null.z, 1, signed=True), p_value(null.p)]
        assert row[9] == number(one.effective_dimensionality, 1)
        assert row[10:12] == [number(one.correlation_range), number(one.difference_rise)]
        assert row[12] == f"{100 * one.fraction_significant:.1f} %"
        assert row[13:] == [number(one.mean_abs_t.value), number(one.max_abs_d)]
    assert mean[0] == "mean over 8 sheets"
    assert mean[1] == number(summary.morans_i.value)
    assert mean[4] == number(summary.morans_i.unit_null.z, 1, signed=True)
    assert mean[8] == p_value(summary.morans_i.label_null.p)
    assert mean[9] == number(np.mean([one.effective_dimensionality for one in summary.rows]), 1)
    assert mean[12] == f"{100 * np.mean([one.fraction_significant for one in summary.rows]):.1f} %"
    assert mean[13] == number(summary.mean_abs_t.value)


def test_the_two_models_differ_as_they_were_made(measured):
    """The planted truth reaches the table: smooth against its unit null, noise not."""
    made = cells(headline_table(measured, {"topographic": [], "control": []}))
    rows = {row[0]: row[1:] for row in made}
    smooth, noise = (float(text.replace("\N{MINUS SIGN}", "-")) for text in rows["Moran's I of the maps"])
    assert smooth > 0.6 > 0.1 > abs(noise)


def test_headline_equals_the_summary_and_has_a_column_per_run(measured):
    metrics = {"control": [{"step": 1, "eval_loss": 5.43219}], "topographic": [], "unmapped": []}
    header, *rows = cells(headline_table(measured, metrics))
    assert header[1:] == ["control", "topographic", "unmapped"]
    rows = {row[0]: row[1:] for row in rows}
    for place, run in enumerate(("control", "topographic")):
        index = measured[run].morans_i
        assert rows["Moran's I of the maps"][place] == number(index.value, 3)
        floor = rows["its kernel floor"][place].replace("\N{NO-BREAK SPACE}", " ")
        assert floor == f"{number(index.floor.mean, 3)} ± {number(index.floor.sd, 3)}"
        for name, null in (
            ("I against the unit null", index.unit_null),
            ("I against the label null", index.label_null),
        ):
            expected = f"z = {number(null.z, 1, signed=True)}, p {p_value(null.p, sign=True)}"
            assert rows[name][place].replace("\N{NO-BREAK SPACE}", " ") == expected
    assert {row[2] for row in rows.values()} == {"\N{EN DASH}"}
    assert rows["last validation loss (nats)"][:2] == ["5.432", "\N{EN DASH}"]


def test_maps_without_nulls_have_dashes_in_place_of_references(measured):
    bare = dataclasses.replace(measured["control"].morans_i, nulls={})
    summary = dataclasses.replace(measured["control"], morans_i=bare)
    *_, mean = cells(statistics_table(summary))
    assert mean[2:9] == ["\N{EN DASH}"] * 7


def test_last_value_is_that_of_the_highest_step():
    assert last_value([{"step": 20, "x": 1.0}, {"step": 10, "x": 2.0}], "x") == "1.000"
    assert last_value([{"step": 20, "x": None}, {"step": 10, "x": 2.0}], "x") == "\N{EN DASH}"
    assert last_value([], "x") == "\N{EN DASH}"


def test_settings_side_by_side():
    settings = {
        "a": {"spatial": {"weight": 0.25}, "seed": 1},
        "b": {"spatial": {"weight": 0.0}, "seed": 1, "new": "<x>"},
    }
    assert cells(settings_table(settings)) == [
        ["", "a", "b"],
        ["spatial.weight", "0.25", "0.0"],
        ["seed", "1", "1"],
        ["new", "\N{EN DASH}", "<x>"],
    ]
    made = settings_table(settings, differing=True)
    assert [row[0] for row in cells(made)] == ["", "spatial.weight", "new"]
    assert settings_table({"a": {"x": 1}, "b": {"x": 1}}, differing=True) is None


def test_tables_of_which_most_cells_say_nothing_are_sparse():
    assert Cells(["a", "b", "c"], [["x", "\u2013", "1"], ["y", "\u2013", "\u2013"]]).is_sparse
    assert not Cells(["a", "b", "c"], [["x", "\u2013", "1"], ["y", "\u2013", "2"]]).is_sparse
    assert not Cells(["a"], []).is_sparse
