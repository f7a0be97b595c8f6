import dataclasses

import numpy as np
import pytest

from topographic.brain import ResponseAssembly, score_assembly
from topographic.brain.assembly_scores import LENGTH, NEIGHBOURS


def made(responses, *, n_groups=12, n_subjects=4, texts=None):
    """Sentences of topics, and targets dealt to subjects."""
    n_items, n_targets = responses.shape
    topics = [f"topic {row * n_groups // n_items}" for row in range(n_items)]
    texts = texts or [f"Sentence {row}." for row in range(n_items)]
    return ResponseAssembly(
        "made", texts, topics, topics, responses, [f"s{at % n_subjects}" for at in range(n_targets)]
    )


@pytest.fixture
def states():
    return np.random.default_rng(0).normal(size=(96, 6))


def scored(features, assembly, **options):
    found = score_assembly(features, assembly, **{"n_folds": 6, "n_draws": 99, "progress": False, **options})
    return found.to_frame().set_index("features")


def test_what_the_states_say_is_found_and_controls_say_nothing(states):
    source = np.random.default_rng(1)
    responses = states @ source.normal(size=(6, 12)) + 2 * source.normal(size=(96, 12))
    other = source.normal(size=(96, 6))
    found = score_assembly({"layer": states, "other": other}, made(responses, n_subjects=6), n_folds=6, n_draws=99,
                           progress=False)  # fmt: skip
    table = found.table.set_index("features")
    assert list(table.index) == [LENGTH, NEIGHBOURS, "layer", "other"]
    assert table.loc["layer", "low"] > 0.6
    assert table.loc["layer", "p"] == 1 / 64  # all six subjects above 0
    assert table.loc["layer", "p (R2)"] == 0.01
    assert table.loc["layer", "low (R2)"] > 0.3
    assert (table.drop("layer")["high"] < 0.2).all()
    assert (table.loc[[NEIGHBOURS, "other"], "added R2"] < 0.02).all()
    assert np.isnan(table.loc[LENGTH, "added R2"])
    persons = found.subjects[found.subjects["features"] == "layer"]
    assert persons["subject"].tolist() == [f"s{number}" for number in range(6)]
    assert persons["r"].mean() == pytest.approx(table.loc["layer", "r"])


def test_scores_are_those_of_scipy_and_numpy(states):
    """One target, three folds of whole topics: r and added R2 written out."""
    from sklearn.linear_model import Ridge

    source = np.random.default_rng(2)
    y = states[:, 0] + source.normal(size=96)
    texts = [" ".join(["word"] * n) for n in source.integers(1, 30, 96)]
    assembly = made(y[:, None], n_groups=3, n_subjects=1, texts=texts)
    table = scored({"layer": states}, assembly, n_folds=3, alphas=(10.0,))
    length = np.column_stack(list(assembly.controls().values()))
    within, lost = [], {"length": np.zeros(96), "both": np.zeros(96)}
    for test in np.split(np.arange(96), 3):
        train = np.setdiff1d(np.arange(96), test)
        z = (states - states[train].mean(0)) / states[train].std(0)
        predicted = Ridge(alpha=10.0).fit(z[train], y[train]).predict(z[test])
        within.append(np.corrcoef(y[test], predicted)[0, 1])
        design = np.column_stack([np.ones(96), length])
        left_y = y - design @ np.linalg.lstsq(design[train], y[train])[0]
        left_x = states - design @ np.linalg.lstsq(design[train], states[train])[0]
        z = (left_x - left_x[train].mean(0)) / left_x[train].std(0)
        lost["length"][test] = left_y[test] ** 2
        lost["both"][test] = (left_y[test] - Ridge(alpha=10.0).fit(z[train], left_y[train]).predict(z[test])) ** 2
    assert table.loc["layer", "r"] == pytest.approx(np.mean(within), abs=1e-6)
    added = (lost["length"].mean() - lost["both"].mean()) / y.var()
    assert table.loc["layer", "added R2"] == pytest.approx(added, abs=1e-6)
    assert np.isnan(table.loc["layer", "p"]), "one subject has no p over subjects"


def test_noise_that_lasts_through_a_topic_is_no_score(states):
    """Neighbours are alike, and a model that only knows neighbours scores where sentences are dealt at random."""
    from topographic.brain import encode, orthogonal_autocorrelated_features, shuffled_folds

    source = np.random.default_rng(3)
    lasting = np.repeat(source.normal(size=(24, 20)), 4, axis=0) + 0.3 * source.normal(size=(96, 20))
    assembly = made(lasting, n_groups=24)
    table = scored({"layer": states}, assembly)
    assert table.loc[NEIGHBOURS, ["r", "low", "high"]].tolist() == [0, 0, 0]
    assert table.loc[NEIGHBOURS, "added R2"] < 0.01
    assert table.loc[NEIGHBOURS, "p"] == 1.0
    neighbours = orthogonal_autocorrelated_features(np.array(assembly.contexts), 1.0)
    leaking = encode(neighbours, lasting, folds=shuffled_folds(96, 6, seed=0), progress=False)
    assert leaking.r.mean() > 0.5, "what shuffled folds would have called a score"


def test_noise_gives_no_small_p(states):
    """Of 30 made-up experiments without any effect, one in twenty may have a p of .05 or less."""
    source = np.random.default_rng(4)
    found = []
    for _ in range(30):
        assembly = made(source.normal(size=(96, 5)), n_subjects=5)
        table = scored({"layer": states}, assembly, n_folds=3, alphas=(1.0, 100.0))
        found.append(table.loc["layer", ["r", "p", "p (R2)"]].astype(float).tolist())
    r, *p = np.transpose(found)
    assert abs(r.mean()) < 2 * r.std() / np.sqrt(30), "about 0, not below"
    assert (np.array(p) <= 0.05).sum(axis=1).max() <= 4
    assert np.median(p, axis=1).min() > 0.2


def test_length_is_called_length():
    texts = [" ".join(["word"] * n) for n in np.random.default_rng(5).integers(1, 30, 96)]
    length = np.array([len(one) for one in texts], dtype=float)
    source = np.random.default_rng(6)
    responses = length[:, None] / 40 + source.normal(size=(96, 8))
    table = scored({"layer": length[:, None] + source.normal(size=(96, 3))}, made(responses, texts=texts))
    assert table.loc[LENGTH, "r"] > 0.5
    assert table.loc["layer", "r"] > 0.5
    assert abs(table.loc["layer", "added R2"]) < 0.02
    assert table.loc["layer", "p (R2)"] > 0.1


def test_subjects_who_saw_other_parts_are_fitted_on_these(states):
    source = np.random.default_rng(7)
    responses = states @ source.normal(size=(6, 8)) + source.normal(size=(96, 8))
    whole = made(responses)
    holes = responses.copy()
    holes[48:, [1, 5]] = np.nan  # s1 saw six topics
    holes[16:, [2, 6]] = np.nan  # s2 two, which is too few
    found = score_assembly({"layer": states}, dataclasses.replace(whole, responses=holes), n_folds=6, n_draws=19,
                           progress=False)  # fmt: skip
    assert found.notes == ("2 targets have values in fewer than three groups and are left out",)
    per = found.subjects.set_index(["features", "subject"])["r"]
    assert sorted(per["layer"].index) == ["s0", "s1", "s3"]
    full = score_assembly({"layer": states}, whole, n_folds=6, n_draws=19, progress=False)
    expected = full.subjects.set_index(["features", "subject"])["r"]["layer"]
    assert per["layer"][["s0", "s3"]].tolist() == pytest.approx(expected[["s0", "s3"]].tolist())
    first = score_assembly({"layer": states[:48]}, whole.take(range(48)), n_folds=6, n_draws=19, progress=False)
    assert per["layer"]["s1"] == pytest.approx(first.subjects.set_index(["features", "subject"])["r"]["layer"]["s1"])


def test_what_cannot_be_scored(states):
    assembly = made(np.random.default_rng(0).normal(size=(96, 4)))
    with pytest.raises(ValueError, match=r"'layer' has shape \(95, 6\) for 96 parts; expected a row per part"):
        score_assembly({"layer": states[:95]}, assembly)
    with pytest.raises(ValueError, match=r"features are called 'length and position', as one of the controls"):
        score_assembly({LENGTH: states}, assembly)
    with pytest.raises(ValueError, match=r"'made': no target has values in three groups"):
        score_assembly({"layer": states[:16]}, assembly.take(range(16)))
