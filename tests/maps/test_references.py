import numpy as np
import pytest

from topographic.maps import NullReference, Referenced, UnitMap, against_nulls, mean_over_sheets, morans_i
from topographic.maps.references import compare, passing_sheets
from topographic.sheets import grid


def test_compare_counts_and_never_gives_zero():
    draws = np.array([1.0, 2.0, 3.0, 4.0])
    null = compare(2.5, draws)
    assert (null.mean, null.sd, null.n_draws) == (2.5, pytest.approx(np.std(draws, ddof=1)), 4)
    assert (null.z, null.p) == (0, 3 / 5)
    assert compare(9.0, draws).p == 1 / 5
    assert compare(-9.0, draws).p == 1
    assert compare(4.0, draws).p == 2 / 5  # reaching the value counts
    assert compare(4.0 + 1e-8, draws).p == 2 / 5  # also but for the last bits
    assert compare(-4.0 - 1e-8, -draws).p == 1
    assert str(compare(9.0, draws)) == "2.500 ± 1.291 over 4 draws: z = 5.0, p = .200"


def test_draws_that_do_not_vary_have_no_z():
    null = compare(1.0, np.full(5, 1.0))
    assert np.isnan(null.z)
    assert null.p == 1


@pytest.mark.parametrize("draws", [np.array([1.0]), np.array([1.0, 2.0, np.nan])])
def test_too_few_or_missing_draws_are_refused(draws):
    with pytest.raises(ValueError, match="a null needs at least 2 finite draws and has"):
        compare(1.0, draws)


def test_a_number_is_computed_in_the_same_way_on_map_and_nulls():
    rng = np.random.default_rng(0)
    nulls = {"unit": rng.standard_normal((50, 9)), "label": rng.standard_normal((40, 9)) + 3}
    unit_map = UnitMap("s", rng.standard_normal(9), grid(9), "t", nulls=nulls)
    number = against_nulls(unit_map, lambda maps: maps.max(axis=1))
    assert number.value == unit_map.values.max()
    assert number.floor is None
    assert number.unit_null.mean == pytest.approx(nulls["unit"].max(1).mean(), rel=1e-6)
    assert number.label_null.mean == pytest.approx(nulls["label"].max(1).mean(), rel=1e-6)
    assert (number.unit_null.n_draws, number.label_null.n_draws) == (50, 40)


def test_the_mean_over_sheets_is_tested_draw_by_draw():
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((2, 30))
    sheets = [Referenced(value, {"unit": compare(value, one)}) for value, one in zip((1.0, 4.0), draws, strict=True)]
    mean = mean_over_sheets(sheets)
    assert mean.value == 2.5
    assert mean.floor is None
    np.testing.assert_allclose(mean.unit_null.draws, draws.mean(0))
    # sheets that move together keep their spread, independent ones lose it
    together = [Referenced(1.0, {"unit": compare(1.0, draws[0])})] * 4
    assert mean_over_sheets(together).unit_null.sd == pytest.approx(draws[0].std(ddof=1))
    assert mean.unit_null.sd < 0.8 * draws[0].std(ddof=1)


def test_sheets_with_other_numbers_of_draws_are_refused():
    sheets = [Referenced(1.0, {"floor": compare(1.0, np.arange(float(n)))}) for n in (3, 4)]
    with pytest.raises(ValueError, match=r"sheets carry \[3, 4\] draws; expected equally many"):
        mean_over_sheets(sheets)


def test_nulls_of_any_name_are_computed_averaged_and_told():
    rng = np.random.default_rng(0)
    nulls = {"spin": rng.standard_normal((9, 9)), "unit": rng.standard_normal((9, 9))}
    unit_map = UnitMap("s", rng.standard_normal(9), grid(9), "t", nulls=nulls)
    number, index = against_nulls(unit_map, lambda maps: maps.max(axis=1)), morans_i(unit_map)
    for one in (number, index, mean_over_sheets([number, number]), mean_over_sheets([index])):
        assert list(one.nulls) == ["spin", "unit"]
        assert (one.unit_null, one.floor, one.label_null) == (one.nulls["unit"], None, None)
    assert number.nulls["spin"].mean == pytest.approx(nulls["spin"].max(1).mean(), rel=1e-6)
    assert [line.split()[:2] for line in str(index).splitlines()[1:]] == [["spin", "null"], ["unit", "null"]]
    bare = against_nulls(UnitMap("s", np.ones(9), grid(9), "t", nulls={"spin": nulls["spin"]}), lambda maps: maps[:, 0])
    assert list(mean_over_sheets([number, bare]).nulls) == ["spin"], "those that all sheets carry"


def test_a_number_beside_its_nulls_becomes_columns():
    floor, spin = compare(1.0, np.array([0.0, 1.0, 2.0])), compare(1.0, np.array([-1.0, 0.0, 0.5]))
    number = Referenced(1.0, {"floor": floor, "spin": spin})
    assert number.to_columns("I") == {
        "I": 1.0,
        "floor": 1.0,
        "sd (floor)": 1.0,
        "p (floor)": 0.75,
        "spin null": spin.mean,
        "sd (spin)": spin.sd,
        "p (spin)": 0.25,
    }
    assert list(number.to_columns("I", show=("z",))) == ["I", "z (floor)", "z (spin)"]
    of_one = number.to_columns("mean |t|", of="spin", show=("mean", "p"))
    assert of_one == {"mean |t|": 1.0, "mean |t| null": spin.mean, "p (mean |t|)": 0.25}
    assert number.to_columns("I", of="label") == Referenced(1.0).to_columns("I") == {"I": 1.0}


def test_sheets_are_named_after_correction():
    def with_p(p):
        return Referenced(1.0, {"label": NullReference(0.0, 1.0, 1.0, p, 999)})

    numbers = {site: with_p(p) for site, p in zip("abcd", (0.04, 0.001, 0.02, 0.9), strict=True)}
    # 4 p / rank: .0533, .004, .04, .9
    assert passing_sheets(numbers, "label") == ["b", "c"]
    assert passing_sheets(numbers, "label", alpha=0.06) == ["a", "b", "c"]
    assert passing_sheets({"a": with_p(0.04)}, "label") == ["a"]
