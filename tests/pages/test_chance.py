import numpy as np
import pytest

from topographic.evaluation.results import Findings, Table
from topographic.pages.chance import chance_of_part, chance_of_table


def effects(*p, **more):
    return Table("lesions", "Effects", [{"measure": str(index), "p": one, **more} for index, one in enumerate(p)])


def pairs(*rows):
    cells = [{"pairs": n, "accuracy": a, "low": low, "high": high} for n, a, low, high in rows]
    return Table("phenomena", "By phenomenon", cells)


def test_no_p_at_the_level_is_chance():
    assert chance_of_table(effects(0.25, 1.0, None)) == "no effect shown: the smallest of 2 p values is .250"
    assert chance_of_table(effects(0.05, 0.9)) == ""
    assert chance_of_table(effects(np.float64(0.6))) == "no effect shown: the smallest of 1 p value is .600"


def test_where_some_p_are_corrected_these_count():
    assert chance_of_table(effects(0.01, **{"p (corrected)": 0.2})) != ""
    assert chance_of_table(effects(0.3, **{"p (label)": 0.01})) == ""


def test_accuracies_whose_every_interval_holds_a_half_are_chance():
    reason = chance_of_table(pairs((16, 0.5, 0.28, 0.72), (64, 0.516, 0.396, 0.634)))
    assert reason == "every interval of the accuracy holds the 0.5 of chance (overall 0.52 of 64 pairs, 0.40 to 0.63)"
    assert chance_of_table(pairs((16, 0.5, 0.28, 0.72), (64, 0.7, 0.58, 0.8))) == ""
    assert chance_of_table(pairs((16, 0.2, 0.05, 0.4))) == "", "below chance is not at chance"


@pytest.mark.parametrize("rows", [[], [{"perplexity": 20.0}], [{"p": None}], [{"p": float("nan")}]])
def test_what_was_not_tested_is_not_at_chance(rows):
    assert chance_of_table(Table("t", "T", rows)) == ""
    assert chance_of_part(Findings("F", "", [Table("t", "T", rows)])) == ""


def test_a_part_is_at_chance_where_all_its_tested_tables_are():
    plain = Table("text", "Text", [{"perplexity": 20.0}])
    assert chance_of_part(Findings("F", "", [plain, effects(0.4), effects(0.7)])).endswith("is .400")
    assert chance_of_part(Findings("F", "", [plain, effects(0.4), effects(0.01)])) == ""
