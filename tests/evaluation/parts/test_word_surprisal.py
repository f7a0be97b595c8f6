import dataclasses

import pytest

from topographic.evaluation import Choices, NotMeasurable, Shown
from topographic.evaluation.parts.word_surprisal import word_surprisal_gain

GAIN = "gain (nats per 1,000 words)"


def test_planted_surprisal_is_found_where_it_was_planted(readers):
    found = word_surprisal_gain(readers, Choices(n_draws=99, word_folds=5, spill_over=1))
    table = found.to_frame().set_index(["measure", "surprisal"])
    assert table.loc[("N400", "this model"), GAIN] > 100
    assert table.loc[("N400", "this model"), "p"] <= 0.05
    for other in ("ELAN", "P600", "self-paced reading time (ms)"):
        assert abs(table.loc[(other, "this model"), GAIN]) < 30
    assert 0 < table.loc[("N400", "GPT2 (given)"), GAIN] < table.loc[("N400", "this model"), GAIN]
    assert table["words"].nunique() == 1, "all surprisals are compared on the same words"
    assert found["corpora"].to_frame()["words"].tolist() == [320]


def test_too_few_words_are_said_and_no_row(readers):
    found = word_surprisal_gain(readers, Choices(n_draws=19, word_folds=4, spill_over=5))
    assert not found["gains"].rows
    assert "N400: 120 words have all that is needed" in " ".join(found.notes)


def test_a_folder_without_corpora_is_not_measurable(readers, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(NotMeasurable, match="no corpus that was measured word by word lies below"):
        word_surprisal_gain(dataclasses.replace(readers, shown=Shown(data=str(empty))), Choices())
