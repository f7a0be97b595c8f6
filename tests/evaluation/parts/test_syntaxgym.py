from topographic.behaviour import load_suites, syntaxgym
from topographic.evaluation import Choices
from topographic.evaluation.parts.syntaxgym import syntax


def test_syntax_is_what_the_function_says(show, tiny_subject, suite_file):
    bench = show(tiny_subject, syntaxgym=str(suite_file))
    suites, predictions = (table.rows for table in syntax(bench, Choices()).tables)
    scores = syntaxgym(tiny_subject.model, tiny_subject.tokenizer, load_suites(suite_file), progress=False)
    assert [row["suite"] for row in suites] == ["all", "number"]
    assert suites[1]["accuracy"] == scores.accuracy
    assert suites[1]["items"] == 2
    assert suites[1]["low"] < suites[1]["accuracy"] + 1e-9 < suites[1]["high"] + 1e-9
    (same,) = [row for row in predictions if "(1;%match%)" in row["prediction"]]
    assert same["accuracy"] == 1.0, "regions before the difference have equal surprisal"
