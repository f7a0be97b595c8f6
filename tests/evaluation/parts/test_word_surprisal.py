import dataclasses

import numpy as np
import pandas as pd
import pytest

from topographic.brain.folds import run_folds
from topographic.brain.word_scores import likelihood_gain
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


def test_the_number_of_tokens_of_a_word_is_no_gain(readers, word_data):
    """Reading times that follow into how many tokens words fall: no surprisal may claim them, not that of noise."""
    (corpus,) = readers.corpora.values()
    tokens = corpus.controls(tokenizer=readers.tokenizer)["tokens"]
    assert len(np.unique(tokens)) > 2
    table = pd.read_csv(word_data / "all_measures.csv")
    table["self_paced_reading_time"] = 250 + 40 * tokens + 5 * np.random.default_rng(0).normal(size=len(tokens))
    table.to_csv(word_data / "all_measures.csv", index=False)
    read = dataclasses.replace(readers)
    found = word_surprisal_gain(read, Choices(n_draws=19, word_folds=5, spill_over=1)).to_frame()
    own = found.query("measure == 'self-paced reading time (ms)'").set_index("surprisal")[GAIN]
    assert own[["this model", "untrained weights"]].abs().max() < 30
    without = likelihood_gain(
        table["self_paced_reading_time"].to_numpy(),
        corpus.controls(),
        {"surprisal": corpus.per_word(readers.surprisal(corpus.texts))},
        run_folds(corpus.text, 5),
    )
    assert 1000 * without.mean() > 100, "it would claim them if tokens were not counted"


def test_too_few_words_are_said_and_no_row(readers):
    found = word_surprisal_gain(readers, Choices(n_draws=19, word_folds=4, spill_over=5))
    assert not found["gains"].rows
    assert "N400: 120 words have all that is needed" in " ".join(found.notes)


def test_a_folder_without_corpora_is_not_measurable(readers, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(NotMeasurable, match="no corpus that was measured word by word lies below"):
        word_surprisal_gain(dataclasses.replace(readers, shown=Shown(data=str(empty))), Choices())
