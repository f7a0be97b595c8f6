import csv
import dataclasses

import pytest

from topographic.objectives.config import SmoothnessConfig
from topographic.pages.findings import write_findings
from topographic.plots.sweep_figures import draw_trade_offs
from topographic.sweeps import Measures
from topographic.sweeps.collect import CellNumbers, read_cell, settings_of
from topographic.sweeps.plan import level_of
from topographic.sweeps.tables import anchor_levels, factor_levels, write_sweep


@pytest.fixture(scope="module")
def found(swept):
    return [read_cell(cell, Measures(swept.maps)) for cell in swept.plan().cells]


def settings(swept, found):
    references = swept.plan().references
    return settings_of(found, lambda cell: references[cell.name])


def write(swept, found, folder, **words):
    base = {key: level_of(swept.plan().base, key) for key in found[0].cell.levels}
    return page_of(folder, *write_sweep(folder, found, settings(swept, found), base=base, **words))


def page_of(folder, lead, parts):
    return write_findings(folder, "Sweep", lead, parts, name="sweep")[1]


def test_the_page_holds_tables_and_pictures(swept, found, tmp_path):
    page = write(swept, found, tmp_path, notes=["Something is missing."])
    assert page == tmp_path / "index.html"
    text = page.read_text()
    pictures = sorted(path.relative_to(tmp_path / "collected").as_posix() for path in tmp_path.rglob("*.png"))
    assert pictures == [
        *(f"factors/{name}_noun-verb_fwhm_{width}.png" for name in ("alpha", "layout") for width in (0, 2)),
        "trade_off/cost_noun-verb.png",
        "trade_off/trade_off_noun-verb.png",
    ]
    assert text.count("data:image/png;base64,") == len(pictures)
    for words in ("12 models of 4 settings", "Something is missing.", "no p of the sign-flip test is below .250"):
        assert words in text
    assert "(collected/trade_off/trade_off_noun-verb.png)" in (tmp_path / "sweep.md").read_text()
    with open(tmp_path / "table.csv", newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert len(rows) == 24
    assert float(rows[0]["validation loss"]) == 4.0
    with open(tmp_path / "grouped.csv", newline="") as opened:
        grouped = list(csv.DictReader(opened))
    (row,) = (one for one in grouped if (one["setting"], one["measure"]) == ("alpha_1", "validation loss"))
    assert float(row["difference"]) == pytest.approx(0.11)
    assert row["reference"] == "alpha_0"


def test_what_makes_models_less_comparable_is_said(swept, found, tmp_path):
    few = [one for one in found if one.cell.seed == 0]
    first = few[0]
    few[0] = CellNumbers(first.cell, first.record, {**first.about, "tokens": 512}, first.maps)
    late = dataclasses.replace(few[1].cell.recipe.training, eval_steps=4)
    recipe = dataclasses.replace(few[1].cell.recipe, training=late)
    few[1] = CellNumbers(dataclasses.replace(few[1].cell, recipe=recipe), few[1].record, few[1].about, few[1].maps)
    text = write(swept, few, tmp_path).read_text()
    assert "Fewer than 3 seeds, so that sd and intervals mean little: alpha_0, base, alpha_1, layout_grid." in text
    assert "The models differ in tokens: 512 to 10,240." in text
    assert "The last validation was up to 2 steps before the end" in text
    assert "sign-flip" not in text, "nothing is paired twice"


def test_without_maps_or_validation_there_are_still_tables(swept, found, tmp_path):
    bare = [CellNumbers(one.cell, one.record, {**one.about, "validation loss": None}, {}) for one in found]
    text = write(swept, bare, tmp_path).read_text()
    assert "there is no validation loss" in text
    assert not list(tmp_path.rglob("*.png"))
    assert "Spatial loss" in text


def test_factors_depart_from_the_recipe_one_at_a_time(swept, found):
    all_settings = settings(swept, found)
    base = {"spatial.weight": 0.25, "model.layout": "permuted_grid"}
    anchor = anchor_levels(all_settings, base)
    assert anchor == base
    assert [one.name for one in factor_levels(all_settings, "spatial.weight", anchor)] == ["alpha_0", "base", "alpha_1"]
    assert [one.name for one in factor_levels(all_settings, "model.layout", anchor)] == ["base", "layout_grid"]
    # where no cell is like the recipe, the commonest level stands in for it
    assert anchor_levels(all_settings, {**base, "spatial.weight": 7.0}) == base


def test_models_with_smooth_weights_are_told_apart_by_tau(swept, found, tmp_path, monkeypatch):
    smooth = []
    for one in found:
        if one.cell.levels["model.layout"] == "permuted_grid":
            recipe, tau = one.cell.recipe, one.cell.recipe.spatial.weight
            recipe = dataclasses.replace(
                recipe,
                spatial=dataclasses.replace(recipe.spatial, weight=0.0),
                smoothness=SmoothnessConfig(weight=tau, sites=["transformer.h.*.mlp.c_fc"]),
            )
            cell = dataclasses.replace(one.cell, recipe=recipe, levels={"smoothness.weight": tau})
            smooth.append(CellNumbers(cell, one.record, one.about, one.maps))
    drawn = []

    def draw(panels, **words):
        drawn.append((sorted({one.level for settings in panels.values() for one in settings}), words["level_name"]))
        return draw_trade_offs(panels, **words)

    monkeypatch.setattr("topographic.sweeps.tables.draw_trade_offs", draw)
    control = {0: "alpha_0-seed_0", 1: "alpha_0-seed_1", 2: "alpha_0-seed_2"}
    together = settings_of(smooth, lambda cell: control[cell.seed])
    write_sweep(tmp_path, smooth, together, base={"smoothness.weight": 1.0})
    assert drawn == [([0.0, 0.25, 1.0], "tau")] * 2


def test_more_kinds_than_markers_are_told(swept, found, tmp_path):
    many = []
    for index in range(12):
        for one in found:
            if one.cell.name.startswith("base"):
                levels = {**one.cell.levels, "spatial.k": index}
                cell = dataclasses.replace(one.cell, levels=levels, name=f"k_{index}-seed_{one.cell.seed}")
                many.append(CellNumbers(cell, one.record, one.about, one.maps))
    alone = settings_of(many, lambda _: None)
    base = {"spatial.weight": 0.25, "model.layout": "permuted_grid", "spatial.k": 0}
    text = page_of(tmp_path, *write_sweep(tmp_path, many, alone, base=base)).read_text()
    assert "11 settings have no marker of their own and are in the tables only." in text
