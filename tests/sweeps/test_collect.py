import itertools
import json
import math

import numpy as np
import pytest
from scipy import stats

from topographic.objectives.config import SmoothnessConfig, SpatialConfig
from topographic.runs.recipe import ModelConfig, Recipe
from topographic.storage import load_json
from topographic.sweeps import Measures
from topographic.sweeps.choices import CONTROL
from topographic.sweeps.collect import (
    CellNumbers,
    Measure,
    grouped_rows,
    level_word,
    long_rows,
    over_replicates,
    paired_difference,
    read_cell,
    settings_of,
)
from topographic.sweeps.plan import find_reference, plan_cells, short_name

Z = Measure("z (unit)", "noun-verb", 2.0)


@pytest.fixture(scope="module")
def found(swept):
    return [read_cell(cell, Measures(swept.maps)) for cell in swept.plan().cells]


@pytest.fixture(scope="module")
def settings(swept, found):
    references = swept.plan().references
    return settings_of(found, lambda cell: references[cell.name])


def test_every_number_is_the_one_on_disk(swept, found):
    for one in found:
        for fwhm_mm, part in ((0.0, "maps"), (2.0, "maps/fwhm_2")):
            content = json.loads((one.cell.folder / part / "noun-verb" / "summary.json").read_text())
            row = one.maps["noun-verb", fwhm_mm]
            assert row["I"] == pytest.approx(np.mean([site["morans_i"]["value"] for site in content["rows"]]))
            for name in ("unit", "label"):
                null = content["morans_i"][f"{name}_null"]
                assert (row[f"z ({name})"], row[f"p ({name})"]) == (null["z"], null["p"])
                assert row[f"{name} null"] == null["mean"]
            assert row["floor"] == content["morans_i"]["floor"]["mean"]
            assert row["mean |t|"] == content["mean_abs_t"]["value"]
            dimensions = [site["effective_dimensionality"] for site in content["rows"]]
            assert row["dimensions"] == pytest.approx(np.mean(dimensions))
        assert one.number(Measure("validation loss")) == load_json(one.cell.folder / "run.json")["eval_loss"]


def test_the_spatial_loss_is_a_mean_over_sheets_without_its_weight(found):
    # planted: 0.3 and 0.1, summed and weighted in the log
    losses = {one.cell.recipe.spatial.weight: one.number(Measure("spatial loss")) for one in found}
    assert losses == {0.0: None, 0.25: pytest.approx(0.2), 1.0: pytest.approx(0.2)}


def test_an_untrained_cell_has_no_numbers(swept):
    (cell, *_) = swept.plan().cells
    record = (cell.folder / "run.json").read_text()
    try:
        (cell.folder / "run.json").write_text(record.replace("finished", "running"))
        assert read_cell(cell, Measures(swept.maps)) is None
    finally:
        (cell.folder / "run.json").write_text(record)


def test_the_long_table_has_a_row_per_cell_contrast_and_readout(found):
    rows = long_rows(found)
    assert len(rows) == len(found) * 2
    assert {(row["cell"], row["FWHM (mm)"]) for row in rows} == {
        (one.cell.name, width) for one in found for width in (0.0, 2.0)
    }
    first = rows[0]
    assert (first["cell"], first["seed"], first["alpha"], first["layout"]) == (
        "alpha_0-seed_0",
        0,
        "0",
        "permuted_grid",
    )


def test_replicates_come_together_and_each_has_its_control(settings):
    names = {one.name: (one.reference.name if one.reference else None, len(one.cells)) for one in settings}
    assert names == {
        "alpha_0": (None, 3),
        "base": ("alpha_0", 3),
        "alpha_1": ("alpha_0", 3),
        "layout_grid": ("alpha_0", 3),  # there is no control on a plain grid, so that of the recipe
    }


def test_paired_differences_are_paired(settings):
    by_name = {one.name: one for one in settings}
    values, controls = (list(by_name[name].numbers(Z).values()) for name in ("base", "alpha_0"))
    rows = {(row["setting"], row["measure"]): row for row in grouped_rows(settings, [Measure("validation loss"), Z])}
    row = rows["base", "z (unit)"]
    assert (row["n"], row["mean"], row["sd"]) == (
        3,
        pytest.approx(np.mean(values)),
        pytest.approx(np.std(values, ddof=1)),
    )
    assert row["difference"] == pytest.approx(np.mean(np.subtract(values, controls)))
    assert row["p (t)"] == pytest.approx(stats.ttest_rel(values, controls).pvalue)
    # planted: seeds differ by 1 nat, alpha costs 0.1 + 0.01 seed, so only pairing finds it
    loss = rows["alpha_1", "validation loss"]
    assert (loss["sd"], loss["difference"]) == (pytest.approx(1.01), pytest.approx(0.11))
    assert loss["sd (difference)"] == pytest.approx(0.01)
    assert "difference" not in rows["alpha_0", "validation loss"]


def test_smooth_cells_are_told_from_rough_ones(settings):
    bare = Measure("z (unit)", "noun-verb", 0.0)  # a readout of 2 mm leaves little of sheets of 8 x 8
    z = {one.name: np.mean(list(one.numbers(bare).values())) for one in settings}
    assert z["alpha_1"] > 4
    assert abs(z["alpha_0"]) < 3


def test_references_may_be_any_cell(swept):
    planned = swept.plan()
    cells = planned.cells

    def references(**keys):
        wanted = {key.replace("__", "."): value for key, value in keys.items()}
        return {cell.name: find_reference(cell, planned.base, wanted, cells) for cell in cells}

    found = references(model__layout="permuted_grid")
    assert found["layout_grid-seed_1"] == "base-seed_1"
    assert found["alpha_1-seed_2"] == "alpha_1-seed_2"
    assert set(references(spatial__weight=7).values()) == {None}
    with pytest.raises(ValueError, match=r"reference varies spatial.wight \(unknown\)"):
        references(spatial__wight=0)
    with pytest.raises(ValueError, match=r"reference, cell .*spatial.radius=0; expected at least 1"):
        references(spatial__radius=0)


def test_smooth_weights_are_compared_with_models_without():
    base = Recipe(
        model=ModelConfig("nanogpt_demo"),
        spatial=SpatialConfig(weight=0.0),
        smoothness=SmoothnessConfig(weight=1.0, sites=["transformer.h.*.mlp.c_fc"]),
    )
    cells = plan_cells(base, [{"smoothness.weight": [0, 1, 10], "seed": [0]}])
    found = {cell.name: find_reference(cell, base, CONTROL, cells) for cell in cells}
    assert found == dict.fromkeys(["tau_0-seed_0", "base-seed_0", "tau_10-seed_0"], "tau_0-seed_0")


def test_losses_by_different_blurs_are_not_subtracted():
    base = Recipe(
        model=ModelConfig("nanogpt_demo"),
        spatial=SpatialConfig(weight=0.0),
        smoothness=SmoothnessConfig(weight=1.0, sites=["transformer.h.*.mlp.c_fc"]),
    )
    blocks = [{"smoothness.weight": [0, 1], "seed": [0]}, {"smoothness.factor": [2.0], "seed": [0]}]
    cells = plan_cells(base, blocks)
    about = {"loss of weights": 0.5, "validation loss": 5.0}
    found = [CellNumbers(cell, {}, about, {}) for cell in cells]
    settings = settings_of(found, lambda cell: find_reference(cell, base, CONTROL, cells))
    rows = grouped_rows(settings, [Measure(name) for name in about])
    compared = {(row["setting"], row["measure"]) for row in rows if "difference" in row}
    assert compared == {
        ("base", "loss of weights"),
        ("base", "validation loss"),
        ("smoothness.factor_2", "validation loss"),
    }


@pytest.mark.parametrize(
    ("value", "word"), [(0.25, "0.25"), (0.0, "0"), (3, "3"), ("grid", "grid"), (None, "default"), (["a", "b"], "a, b")]
)
def test_levels_in_words(value, word):
    assert level_word(value) == word


VALUES = {0: 3.1, 1: 2.4, 2: 4.0, 5: 3.3}
REFERENCES = {0: 2.5, 1: 2.6, 2: 3.1, 9: 8.0}


@pytest.mark.parametrize("n", [2, 3, 7])
def test_interval_is_that_of_scipy(n):
    values = np.random.default_rng(n).normal(5, 2, n)
    found = over_replicates(values)
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    assert (found.n, found.mean, found.sd) == (n, pytest.approx(values.mean()), pytest.approx(values.std(ddof=1)))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    found = [over_replicates(rng.normal(size=3)) for _ in range(4000)]
    covered = np.mean([one.low <= 0 <= one.high for one in found])
    assert abs(covered - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 4000)


def test_one_replicate_has_no_spread():
    found = over_replicates([2.0])
    assert (found.n, found.mean) == (1, 2.0)
    assert all(math.isnan(value) for value in (found.sd, found.low, found.high))


def test_pairs_are_matched_by_replicate_and_tested_like_scipy():
    found = paired_difference(VALUES, REFERENCES)
    shared = [0, 1, 2]
    ours, theirs = [VALUES[key] for key in shared], [REFERENCES[key] for key in shared]
    assert found.difference.n == 3
    assert found.difference.mean == pytest.approx(np.mean(np.subtract(ours, theirs)))
    assert found.p_t == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)
    flipped = stats.permutation_test(
        (np.subtract(ours, theirs),), lambda values, axis=-1: values.mean(axis=axis), permutation_type="samples"
    )
    assert found.p_sign_flip == pytest.approx(flipped.pvalue)


@pytest.mark.parametrize(
    "differences", [[0.7, -1.1, -2.0, 2.2, 0.2], [1.0, 1.0, -2.0], [0.1, 0.3, 0.3, -0.7, 2.0, 1.5]]
)
def test_sign_flips_are_all_tried(differences):
    """Written out; the first two sum to zero but for rounding, which every choice of signs reaches."""
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    expected = np.mean(np.array(sums) >= abs(sum(differences)) - 1e-9)
    found = paired_difference(dict(enumerate(differences)), dict.fromkeys(range(len(differences)), 0.0))
    assert found.p_sign_flip == expected
    assert found.p_t == pytest.approx(stats.ttest_1samp(differences, 0.0).pvalue)


@pytest.mark.parametrize("n", [3, 5, 8])
def test_sign_flips_cannot_go_below_their_smallest_p(n):
    found = paired_difference({seed: 10 + 0.01 * seed for seed in range(n)}, dict.fromkeys(range(n), 1.0))
    assert found.p_sign_flip == 2 / 2**n
    assert found.p_t < 1e-6


def test_under_the_null_p_values_are_honest():
    rng = np.random.default_rng(1)
    found = [paired_difference(dict(enumerate(rng.normal(size=6))), dict.fromkeys(range(6), 0.0)) for _ in range(2000)]
    for ps in ([one.p_t for one in found], [one.p_sign_flip for one in found]):
        assert np.mean(np.array(ps) <= 0.0625) <= 0.0625 + 3 * math.sqrt(0.0625 * 0.9375 / 2000)


def test_many_pairs_are_drawn_and_never_p_zero():
    rng = np.random.default_rng(2)
    differences = rng.normal(0.4, 1, 24)
    found = paired_difference(dict(enumerate(differences)), dict.fromkeys(range(24), 0.0))
    assert found.p_sign_flip == pytest.approx(found.p_t, abs=0.02)
    certain = paired_difference(dict.fromkeys(range(24), 1.0), dict.fromkeys(range(24), 0.0))
    assert 0 < certain.p_sign_flip < 1e-3
    assert math.isnan(certain.p_t), "differences that do not vary have no t"


def test_what_cannot_be_compared():
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
    one = paired_difference({0: 2.0}, {0: 1.0})
    assert one.difference.mean == 1.0
    assert math.isnan(one.p_t)
    assert math.isnan(one.p_sign_flip)
    same = paired_difference(VALUES, VALUES)
    assert (same.difference.mean, same.p_sign_flip) == (0.0, 1.0)
    with pytest.raises(ValueError, match="0 values, 0 of them finite; expected at least one"):
        over_replicates([])
    with pytest.raises(ValueError, match="2 values, 1 of them finite"):
        over_replicates([1.0, math.nan])


def test_settings_of_named_blocks_are_called_as_the_recipe_calls_them():
    blocks = [{"name": "no mechanism", "seed": [0, 1]}, {"name": "smooth, strongly", "neighbor_weights.weight": [2.0]}]
    blocks[1] |= {"neighbor_weights.sites": [["transformer.h.*.mlp.c_fc"]], "seed": [0, 1]}
    cells = plan_cells(Recipe(run="runs/x", model=ModelConfig("tiny", n_layer=1)), blocks)
    found = [CellNumbers(cell, {}, {"validation loss": 5.0 + cell.seed}, {}) for cell in cells]
    control = {cell.name: cells[cell.seed].name for cell in cells}
    none, smooth = settings_of(found, lambda cell: control[cell.name])
    assert (none.name, smooth.name) == ("no mechanism", "smooth, strongly")
    assert (none.reference, smooth.reference.name) == (None, "no mechanism")
    rows = grouped_rows([none, smooth], [Measure("validation loss")])
    assert [row["setting"] for row in rows] == ["no mechanism", "smooth, strongly"]
    lean = grouped_rows([none, smooth], [Measure("validation loss")], with_levels=False)
    columns, fewer = ({key for row in table for key in row} for table in (rows, lean))
    assert columns - fewer == {*map(short_name, none.levels)}
    assert lean[1]["difference"] == 0.0
