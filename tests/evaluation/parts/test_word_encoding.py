import dataclasses

import numpy as np
import pandas as pd

from topographic.evaluation import Choices
from topographic.evaluation.parts.word_encoding import states_of, word_encoding
from topographic.evaluation.word_readings import CONTROLS


def test_every_score_stands_beside_its_controls(readers):
    found = word_encoding(readers, Choices(n_draws=20, word_folds=4))
    table = found.to_frame()
    names = table["features"].unique().tolist()
    assert names[:4] == [
        "mean of the training words",
        "length, tokens, frequency, position, punctuation",
        "length, tokens, frequency, position, punctuation, surprisal",
        "embedding layer",
    ]
    assert [name.split(",")[0] for name in names[-2:]] == ["untrained", "random tokens"]
    r = table.set_index(["measure", "features"])
    with_surprisal = r.loc[("N400", names[2])]
    assert with_surprisal["low"] > r.loc[("N400", names[1]), "high"]
    assert with_surprisal["r (types)"] > 0.5
    assert r.loc[("self-paced reading time (ms)", names[1]), "r"] > 0.9
    assert r.loc[("self-paced reading time (ms)", names[0]), "r"] < 0
    assert abs(r.loc[("N400", names[-1]), "r"]) < 0.2  # random tokens know no word
    context = found["context"].to_frame()
    assert set(context["sheet"]) == set(names[4:-2])
    assert context["p"].between(0, 1).all()


def test_the_number_of_tokens_of_a_word_is_told_by_no_state(told_by_tokens, uncounted):
    """What follows into how many tokens words fall is the controls': neither states nor surprisal add to it."""
    counted = word_encoding(told_by_tokens, Choices(n_draws=49, word_folds=4))
    uncounted()
    without = word_encoding(dataclasses.replace(told_by_tokens), Choices(n_draws=49, word_folds=4))
    r, r_without = (
        one.to_frame().query("measure == 'N400'").set_index("features")["r"].iloc[1:3] for one in (counted, without)
    )
    assert list(r.index) == [CONTROLS, f"{CONTROLS}, surprisal"]
    assert r.iloc[0] > 0.9
    assert abs(r.iloc[1] - r.iloc[0]) < 0.01
    assert r_without.iloc[0] < 0.1 < 0.9 < r_without.iloc[1], "surprisal, a sum over tokens, would claim it"
    added, claimed = (one["context"].to_frame().query("measure == 'N400'") for one in (counted, without))
    assert (added["added R2"] < 0.01).all()
    assert (added["p"] > 0.05).all()
    assert (claimed["low (R2)"] > 0.1).all(), "so would layers, beside the embedding of the last token"


def test_states_come_in_the_order_of_the_words(readers):
    corpus, site = readers.corpora["ucl_erp"], next(iter(readers.sheets))
    whole = states_of(readers, corpus, [site])[site]
    order = np.random.default_rng(0).permutation(len(corpus))
    table = pd.read_csv(f"{readers.shown.data}/all_measures.csv")
    assert len(whole) == len(table)
    shuffled = type(corpus)(
        "shuffled",
        corpus.texts,
        corpus.text[order],
        corpus.position[order],
        {name: one[order] for name, one in corpus.measures.items()},
        corpus.log_frequencies[order],
    )
    np.testing.assert_allclose(states_of(readers, shuffled, [site])[site], whole[order], atol=1e-6)


def test_a_corpus_that_holds_nothing_new_is_left_out(readers, tmp_path):
    corpus = readers.corpora["ucl_erp"]
    folder = tmp_path / "data"
    pd.DataFrame({
        "text_id": corpus.text, "position": corpus.position, "word": corpus.words,
        "log_freq": corpus.log_frequencies, "rt": corpus.measures["self-paced reading time (ms)"],
    }).to_csv(folder / "again.csv", index=False)  # fmt: skip
    (folder / "again_texts.txt").write_text("\n".join(corpus.texts) + "\n")
    found = word_encoding(type(readers)(**{
        name: getattr(readers, name) for name in ("model", "tokenizer", "sites", "layout", "shown", "progress")
    }), Choices(n_draws=20, word_folds=4))  # fmt: skip
    assert set(found.to_frame()["corpus"]) == {"ucl_erp"}
    assert "again: the same measures" in found.notes[0]
