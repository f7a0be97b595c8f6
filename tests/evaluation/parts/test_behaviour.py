import dataclasses

import numpy as np
import pytest

from topographic.behaviour import load_suites, minimal_pairs, perplexity, syntaxgym, token_log_probabilities
from topographic.evaluation.parts.behaviour import grammar, lesions, syntax
from topographic.evaluation.subject import Choices
from topographic.interventions import ablate


def test_grammar_is_what_the_function_says(tiny_bench):
    found = grammar(tiny_bench, Choices())
    pairs = tiny_bench.minimal_pairs()
    scores = minimal_pairs(tiny_bench.model, tiny_bench.tokenizer, pairs, progress=False)
    passages = tiny_bench.passages(pairs)
    surprisal = token_log_probabilities(tiny_bench.model, tiny_bench.tokenizer, passages, progress=False)
    phenomena, texts, paradigms = (table.rows for table in found.tables)
    assert {row["phenomenon"]: row["accuracy"] for row in phenomena} == {
        row["name"]: row["accuracy"] for row in (*scores.by_phenomenon(), scores.overall())
    }
    assert [row["paradigm"] for row in paradigms] == [row["name"] for row in scores.by_paradigm()]
    agreement = next(row for row in phenomena if row["phenomenon"] == "subject_verb_agreement")
    assert (agreement["TopoLM (published)"], agreement["control (published)"]) == (0.7093, 0.8423)
    assert agreement["low"] < agreement["accuracy"] < agreement["high"]
    assert phenomena[-1]["TopoLM (published)"] == 0.7071
    assert texts == [{"text": "good sentences", "passages": 64, "perplexity": pytest.approx(perplexity(surprisal))}]
    assert found.notes == ([f"{scores.n_ties} of 64 pairs tie."] if scores.n_ties else [])


def test_passages_of_ones_own_are_read_beside_the_pairs(tiny_bench, tmp_path):
    file = tmp_path / "passages.txt"
    file.write_text("The dog ran home.\nA bird sang.\n", encoding="utf-8")
    found = grammar(dataclasses.replace(tiny_bench, text=str(file)), Choices())
    surprisal = token_log_probabilities(
        tiny_bench.model, tiny_bench.tokenizer, ["The dog ran home.", "A bird sang."], progress=False
    )
    (row,) = found.tables[1].rows
    assert row == {"text": str(file), "passages": 2, "perplexity": pytest.approx(perplexity(surprisal))}
    assert found.tables[0].rows == grammar(tiny_bench, Choices()).tables[0].rows


def test_syntax_is_what_the_function_says(tiny_bench, suite_file):
    bench = dataclasses.replace(tiny_bench, syntaxgym=str(suite_file))
    suites, predictions = (table.rows for table in syntax(bench, Choices()).tables)
    scores = syntaxgym(tiny_bench.model, tiny_bench.tokenizer, load_suites(suite_file), progress=False)
    assert [row["suite"] for row in suites] == ["all", "number"]
    assert suites[1]["accuracy"] == scores.accuracy
    assert suites[1]["items"] == 2
    assert suites[1]["low"] < suites[1]["accuracy"] + 1e-9 < suites[1]["high"] + 1e-9
    (same,) = [row for row in predictions if "(1;%match%)" in row["prediction"]]
    assert same["accuracy"] == 1.0, "regions before the difference have equal surprisal"


def test_lesions_stand_beside_their_controls(tiny_bench):
    found = lesions(tiny_bench, Choices(lesion_fractions=(0.05,), lesion_draws=2, lesion_pairs=2))
    rows = {row["measure"]: row for row in found.tables[0].rows}
    pairs = tiny_bench.minimal_pairs(2)
    assert list(rows)[:2] == ["perplexity", "accuracy"]
    assert {f"accuracy: {term}" for term in pairs.labels["phenomenon"]} == set(rows) - {"perplexity", "accuracy"}
    for row in rows.values():
        assert row["units"] == 7, "5 % of 144 units"
        for control in ("model", "layer", "connected"):
            assert 1 / 3 <= row[f"p ({control})"] <= 1
            assert np.isfinite(row[control])
    options = {"batch_size": 32, "progress": False}
    passages = tiny_bench.passages(pairs)
    intact = perplexity(token_log_probabilities(tiny_bench.model, tiny_bench.tokenizer, passages, **options))
    assert rows["perplexity"]["intact"] == pytest.approx(intact)
    chosen = [one for one in tiny_bench.network(rule="top", level=0.05).values() if one.n_selected]
    with ablate(tiny_bench.model, chosen):
        silenced = perplexity(token_log_probabilities(tiny_bench.model, tiny_bench.tokenizer, passages, **options))
    assert rows["perplexity"]["lesion"] == pytest.approx(silenced)
    assert silenced != pytest.approx(intact, rel=1e-6)


def test_a_lesion_without_room_for_controls_is_told_and_not_dropped(tiny_bench):
    found = lesions(tiny_bench, Choices(lesion_fractions=(0.01, 0.5), lesion_draws=1, lesion_pairs=1))
    assert {row["size"] for row in found.tables[0].rows} == {"top 1 %"}
    (note,) = found.notes
    assert note.startswith("top 50 %: not measured.")
    assert "choose a smaller" in note


@pytest.mark.parametrize("mode", ["mean", "resample"])
def test_other_kinds_of_lesion(tiny_bench, mode):
    choices = Choices(lesion_fractions=(0.05,), lesion_draws=1, lesion_pairs=1, lesion_mode=mode)
    found = lesions(tiny_bench, choices)
    zero = lesions(tiny_bench, Choices(lesion_fractions=(0.05,), lesion_draws=1, lesion_pairs=1))
    assert found.tables[0].rows[0]["intact"] == zero.tables[0].rows[0]["intact"]
    assert found.tables[0].rows[0]["lesion"] != zero.tables[0].rows[0]["lesion"]
    assert f"mode {mode!r}" in found.text
