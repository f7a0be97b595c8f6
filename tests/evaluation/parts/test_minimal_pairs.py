import pytest

from topographic.behaviour import minimal_pairs, perplexity, token_log_probabilities
from topographic.evaluation import Choices
from topographic.evaluation.parts.minimal_pairs import grammar


def test_grammar_is_what_the_function_says(tiny_subject):
    found = grammar(tiny_subject, Choices())
    pairs = tiny_subject.minimal_pairs()
    scores = minimal_pairs(tiny_subject.model, tiny_subject.tokenizer, pairs, progress=False)
    passages = tiny_subject.passages(pairs)
    surprisal = token_log_probabilities(tiny_subject.model, tiny_subject.tokenizer, passages, progress=False)
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


def test_passages_of_ones_own_are_read_beside_the_pairs(show, tiny_subject, tmp_path):
    file = tmp_path / "passages.txt"
    file.write_text("The dog ran home.\nA bird sang.\n", encoding="utf-8")
    found = grammar(show(tiny_subject, text=str(file)), Choices())
    surprisal = token_log_probabilities(
        tiny_subject.model, tiny_subject.tokenizer, ["The dog ran home.", "A bird sang."], progress=False
    )
    (row,) = found.tables[1].rows
    assert row == {"text": str(file), "passages": 2, "perplexity": pytest.approx(perplexity(surprisal))}
    assert found.tables[0].rows == grammar(tiny_subject, Choices()).tables[0].rows
