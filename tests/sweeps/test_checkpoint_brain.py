import csv

import numpy as np
import pytest

from topographic.brain.word_corpora import WordCorpus
from topographic.brain.word_scores import grouped_correlation, held_out_words
from topographic.evaluation import Choices, NotMeasurable, Shown
from topographic.evaluation.parts.word_encoding import states_of
from topographic.evaluation.word_readings import CONTROLS, EMBEDDING, embedding_site, word_surprisal
from topographic.recording import align_words, record
from topographic.stimuli import StimulusSet
from topographic.sweeps import checkpoint_brain as module
from topographic.sweeps.checkpoint_brain import (
    RANDOM_TOKENS,
    BrainMaterial,
    UnitSets,
    alignment,
    reading_gain,
)
from topographic.sweeps.series import series_of
from topographic.sweeps.trajectory_parts import Watched, subject_at

WORDS = ("the", "cat", "saw", "a", "dog", "and", "near", "old", "house", "window", "red", "stone")
CHOICES = Choices(n_draws=99, word_folds=4)
CHOSEN = np.arange(6)
SETS = {"localized here": [CHOSEN], "random units": [np.arange(20, 26), np.arange(30, 36)]}


def write_corpus(folder, texts, columns):
    """A corpus of one's own: every word measured."""
    folder.mkdir(exist_ok=True)
    (folder / "own_texts.txt").write_text("\n".join(texts) + "\n")
    with open(folder / "own.csv", "w", newline="") as opened:
        out = csv.writer(opened)
        out.writerow(["text_id", "position", "word", "log_freq", *columns])
        place = 0
        for index, text in enumerate(texts):
            for position, word in enumerate(text.split()):
                row = [values[place] for values in columns.values()]
                out.writerow([index, position, word, WORDS.index(word) / 3 if word in WORDS else 0.0, *row])
                place += 1


@pytest.fixture(scope="module")
def planted(tmp_path_factory, stand_ins):
    """A potential made of six units of the second layer's sheets, one of noise alone, a time made of surprisal."""
    source = np.random.default_rng(0)
    texts = [" ".join(source.choice(WORDS, 9)) for _ in range(60)]
    (series,) = series_of([str(stand_ins)], ["step0", "step2"], tokens_per_step=1)
    subject = subject_at(*series.checkpoints[0].load(), series, Watched(Shown(batch_size=64)))
    count = 9 * len(texts)
    text, position = np.repeat(np.arange(60), 9), np.tile(np.arange(9), 60)
    bare = WordCorpus("bare", tuple(texts), text, position, {"x": np.zeros(count)}, np.zeros(count))
    sites = list(subject.sheets)
    every = np.column_stack([states_of(subject, bare, sites)[site] for site in sites])
    own = every[:, CHOSEN] / every[:, CHOSEN].std(axis=0)
    surprisal = bare.per_word(word_surprisal(subject.model, subject.tokenizer, texts, batch_size=64, progress=False))
    noise = source.standard_normal((3, count))
    folder = tmp_path_factory.mktemp("data")
    times = 200 + 800 * (surprisal - surprisal.mean()) / surprisal.std() + 10 * noise[1]
    signal = own @ source.standard_normal(6)
    write_corpus(folder, texts, {"n400": signal / signal.std() + 0.3 * noise[0], "rt": times})
    nothing = tmp_path_factory.mktemp("nothing")
    write_corpus(nothing, texts, {"n400": noise[2], "rt": 200 + noise[1]})
    return subject, sites, folder, nothing


def scores(subject, sites, folder, sets=SETS):
    found = alignment(subject, BrainMaterial(folder, CHOICES), UnitSets(sites, sets), CHOICES)
    return {row["features"]: row for row in found["rows"]}


def test_units_that_were_planted_are_found_beside_their_controls(planted):
    subject, sites, folder, _ = planted
    found = scores(subject, sites, folder)
    assert list(found) == ["localized here", "random units", RANDOM_TOKENS, EMBEDDING, CONTROLS]
    assert {row["number"] for name, row in found.items() if name != CONTROLS} == {6}
    own = found["localized here"]
    assert own["low"] < own["r"] < own["high"]
    assert own["r"] > 0.85
    assert own["r (types)"] > 0.5
    assert found[RANDOM_TOKENS]["r"] < 0.4
    assert found["random units"]["low (first - this)"] > 0
    assert found["random units"]["first - this"] == pytest.approx(own["r"] - found["random units"]["r"])
    assert own["low (R2)"] > 0
    assert own["p (R2)"] == 0.01


def test_noise_follows_no_units(planted):
    subject, sites, _, nothing = planted
    found = scores(subject, sites, nothing)
    assert all(row["low"] < 0.12 for row in found.values())
    assert found["localized here"]["low (R2)"] < 0.01


def test_numbers_are_those_of_ridge_regression_on_whole_sentences(planted):
    subject, sites, folder, _ = planted
    material = BrainMaterial(folder, CHOICES)
    read = material.targets(subject.tokenizer)
    (target,) = read.of["potentials"]
    heard = states_of(subject, target.corpus, [*sites, embedding_site(subject.model)])
    every = np.column_stack([heard[site] for site in sites])
    y = target.corpus.measures["n400"]
    predicted = held_out_words(every[:, CHOSEN], y[:, None], target.folds[""])[:, 0]
    expected = grouped_correlation(y, predicted, target.corpus.text, n_draws=99)
    row = scores(subject, sites, folder)["localized here"]
    assert (row["r"], row["low"]) == pytest.approx((expected.value, expected.low))
    assert material.targets(subject.tokenizer) is read  # once for all checkpoints of a tokenizer
    assert target.controls.shape[1] == 5


def test_the_number_of_tokens_of_a_word_is_told_by_no_units(planted, tmp_path, monkeypatch):
    subject, sites, *_ = planted
    source = np.random.default_rng(0)
    texts = [" ".join(f"{a}{b}e" for a, b in source.choice(list("dogthc"), (8, 2))) for _ in range(60)]
    tokens = np.concatenate([align_words(subject.tokenizer, text.split()).n_tokens for text in texts])
    assert len(np.unique(tokens)) > 2
    said = (tokens - tokens.mean()) / tokens.std()
    write_corpus(tmp_path / "own", texts, {"n400": said + 0.3 * source.normal(size=len(tokens))})
    sets = {"localized here": [np.arange(30)]}
    counted = scores(subject, sites, tmp_path / "own", sets)
    assert counted[CONTROLS]["r"] > 0.9
    for name in ("localized here", EMBEDDING):
        assert counted[name]["added R2"] < 0.01
        assert counted[name]["p (R2)"] > 0.05
    controls = WordCorpus.controls
    monkeypatch.setattr(WordCorpus, "controls", lambda corpus, tokenizer: controls(corpus))
    without = scores(subject, sites, tmp_path / "own", sets)
    assert without["localized here"]["low (R2)"] > 0.1, "units would seem to add it"


def test_units_are_counted_site_after_site_in_the_order_given(planted):
    subject, sites, folder, _ = planted
    turned = [sites[-1], *sites[:-1]]
    last = subject.sheets[sites[-1]].positions_mm.shape[0]
    same = scores(subject, turned, folder, {"localized here": [CHOSEN + last], "random units": SETS["random units"]})
    assert same["localized here"]["r"] == pytest.approx(scores(subject, sites, folder)["localized here"]["r"])


def test_times_that_follow_surprisal_gain_and_others_do_not(planted):
    subject, _, folder, nothing = planted
    found = reading_gain(subject, BrainMaterial(folder, CHOICES), CHOICES)
    (row,) = found["rows"]
    assert (row["measure"], row["corpus"]) == ("rt (ms)", "own")
    assert found["low"] > 100
    assert (found["gain"], found["low"]) == pytest.approx((row["gain"], row["low"]))
    none = reading_gain(subject, BrainMaterial(nothing, CHOICES), CHOICES)
    assert none["low"] < 0 < none["high"] or none["gain"] < 0


def test_intervals_over_corpora_are_narrower_than_those_of_each():
    each = {"gain": 2.0, "low": 1.0, "high": 3.0}
    one = module._over_corpora([{"corpus": "a", **each}, {"corpus": "a", **each}])
    two = module._over_corpora([{"corpus": "a", **each}, {"corpus": "b", **each}])
    assert one == {"gain": 2.0, "low": 1.0, "high": 3.0}  # two measures of the same words are no more
    assert two["high"] == pytest.approx(2 + 1 / np.sqrt(2))


def test_sentences_are_read_whole_and_topics_held_out(planted, tmp_path):
    subject, sites, *_ = planted
    source = np.random.default_rng(1)
    sentences = [" ".join(source.choice(WORDS, 4 + index % 5)) for index in range(48)]
    shown = StimulusSet("own", tuple(sentences), ("sentence",) * 48)
    heard = record(subject.model, subject.tokenizer, shown, sites, pooling="last", progress=False)
    first = heard[sites[0]].values[:, 0]
    response = (first - first.mean()) / first.std() + 0.2 * source.standard_normal(48)
    lines = ["experiment,story,sentence,effect_size"]
    lines += [
        f"384,{index % 8},{one},{value}" for index, (one, value) in enumerate(zip(sentences, response, strict=True))
    ]
    (tmp_path / "pereira2018_langnet_avg.csv").write_text("\n".join(lines))
    found = scores(subject, sites, tmp_path)
    assert found["localized here"]["of"] == "sentence averages"
    assert found["localized here"]["items"] == 8
    assert found["localized here"]["r"] > 0.7
    assert "r (types)" not in found["localized here"]
    assert list(found)[-1] == "length and position"


def test_what_no_corpus_was_given_for_says_so(planted, tmp_path):
    subject, sites, *_ = planted
    with pytest.raises(NotMeasurable, match="no corpus of potentials or averages per sentence lies below"):
        scores(subject, sites, tmp_path)
    with pytest.raises(NotMeasurable, match="no reading times of 200 words or more"):
        reading_gain(subject, BrainMaterial(tmp_path, CHOICES), CHOICES)
