import numpy as np
import pytest
from sklearn.linear_model import Ridge

from topographic.brain import Encoding, encode, pearson_r, run_folds, shuffled_folds
from topographic.brain.encoding import himalaya_backend

RUNS = np.repeat([0, 1, 2, 3], 50)
EXACT = {"dtype": "float64", "progress": False}


def planted(n_features=12, n_targets=6, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(200, n_features)) * rng.uniform(0.5, 3, n_features) + 5
    y = x @ rng.normal(size=(n_features, n_targets)) / 3 + noise * rng.normal(size=(200, n_targets)) - 7
    return x, y


@pytest.mark.parametrize("n_features", [12, 300])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_one_penalty_gives_scikit_learn_s_ridge(n_features, backend):
    x, y = planted(n_features)
    found = encode(x, y, runs=RUNS, alphas=[7.0], keep_predictions=True, backend=backend, **EXACT)
    for fold, (train, test) in enumerate(run_folds(RUNS).pairs):
        m, s = x[train].mean(axis=0), x[train].std(axis=0)
        predicted = Ridge(alpha=7.0).fit((x[train] - m) / s, y[train]).predict((x[test] - m) / s)
        np.testing.assert_allclose(found.predictions[test], predicted, rtol=1e-7)
        np.testing.assert_allclose(found.fold_r[fold], pearson_r(y[test], predicted), rtol=1e-7)
    assert found.folds == "whole runs"


def test_the_penalty_is_chosen_within_the_training_runs():
    x, y = planted(noise=6.0)
    grid = 10.0 ** np.arange(5)
    found = encode(x, y, runs=RUNS, alphas=grid, **EXACT)
    train = run_folds(RUNS).pairs[1][0]
    m, s = x[train].mean(axis=0), x[train].std(axis=0)
    z, losses = (x[train] - m) / s, []
    for alpha in grid:
        loss = []
        for fitted, tested in run_folds(RUNS[train]).pairs:
            predicted = Ridge(alpha=alpha).fit(z[fitted], y[train][fitted]).predict(z[tested])
            loss.append(np.square(y[train][tested] - predicted).mean(axis=0))
        losses.append(np.mean(loss, axis=0))
    np.testing.assert_allclose(found.alphas[1], grid[np.argmin(losses, axis=0)])


@pytest.mark.parametrize("n_features", [12, 300])
def test_weights_are_in_the_units_of_the_data(n_features):
    x, y = planted(n_features)
    found = encode(x, y, runs=RUNS, keep_weights=True, **EXACT)
    mean_r = found.r
    again = encode(x * 100 + 3, y * 2 + 1, runs=RUNS, keep_weights=True, **EXACT)
    np.testing.assert_allclose(again.r, mean_r, rtol=1e-6)  # neither shift nor scale matters: there is an intercept
    np.testing.assert_allclose(again.predict(x * 100 + 3), found.predict(x) * 2 + 1, rtol=1e-6)
    assert (pearson_r(y, found.predict(x)) > found.r - 0.05).all()


@pytest.mark.parametrize("sizes", [(5, 7), (150, 90)])
def test_bands_add_up_and_find_the_one_that_matters(sizes):
    rng = np.random.default_rng(1)
    first, second = (rng.normal(size=(200, size)) for size in sizes)
    y = first[:, :4] @ rng.normal(size=(4, 3)) + 0.5 * rng.normal(size=(200, 3))
    bands = {"first": first, "second": second}
    found = encode(bands, y, runs=RUNS, n_band_draws=20, keep_weights=True, keep_predictions=True, **EXACT)
    np.testing.assert_allclose(found.band_r2.sum(axis=0), found.r2, atol=1e-6)
    assert (found.band_r2[0] > 0.5 * found.r2).all()
    assert (found.band_weights.mean(axis=0)[0] > 0.5).all()
    together = encode(np.hstack([first, second]), y, runs=RUNS, **EXACT)
    assert found.r2.mean() > together.r2.mean() - 0.02
    # what each band is given is himalaya's own prediction: weights reproduce it
    assert (pearson_r(y, found.predict(np.hstack([first, second]))) > 0.8).all()
    assert list(found.to_frame().columns) == ["r", "r2", "alpha", "r2 of first", "r2 of second"]


def test_one_weighting_of_bands_is_plain_ridge():
    """With one draw, which is the equal one, two bands are one of half the weight."""
    x, y = planted(12)
    bands = {"a": x[:, :5], "b": x[:, 5:]}
    banded = encode(bands, y, runs=RUNS, alphas=[4.0], n_band_draws=1, **EXACT)
    plain = encode(x, y, runs=RUNS, alphas=[8.0], **EXACT)
    np.testing.assert_allclose(banded.r, plain.r, rtol=1e-6)
    wide, y = planted(300)
    banded = encode({"a": wide[:, :100], "b": wide[:, 100:]}, y, runs=RUNS, alphas=[4.0], n_band_draws=1, **EXACT)
    np.testing.assert_allclose(banded.r, encode(wide, y, runs=RUNS, alphas=[8.0], **EXACT).r, rtol=1e-6)


def test_batches_and_precision_change_nothing_that_matters():
    x, y = planted(300, 9)
    whole = encode(x, y, runs=RUNS, **EXACT)
    np.testing.assert_allclose(encode(x, y, runs=RUNS, n_targets_batch=2, **EXACT).r, whole.r, rtol=1e-8)
    np.testing.assert_allclose(encode(x, y, runs=RUNS, progress=False).r, whole.r, atol=1e-3)


def test_himalaya_s_choice_of_backend_is_restored():
    from himalaya.backend import get_backend

    before = get_backend().name
    with pytest.raises(RuntimeError), himalaya_backend("torch"):
        assert get_backend().name == "torch"
        raise RuntimeError
    assert get_backend().name == before


def test_results_are_kept_and_read_back(tmp_path):
    x, y = planted()
    found = encode(x, y, runs=RUNS, keep_weights=True, **EXACT)
    found.save(tmp_path / "encoding.safetensors")
    again = Encoding.load(tmp_path / "encoding.safetensors")
    assert np.array_equal(again.r, found.r)
    assert np.array_equal(again.weights, found.weights)
    assert again.predictions is None
    assert (again.band_names, again.folds, again.warnings) == (found.band_names, found.folds, found.warnings)
    assert again.provenance["n_features"] == {"features": 12}
    assert repr(found).startswith("Encoding(6 targets from features, mean r 0.")
    assert "\n" not in repr(found)
    with pytest.raises(ValueError, match="fit it with keep_weights=True"):
        encode(x, y, runs=RUNS, **EXACT).predict(x)


def test_what_speaks_against_a_score_stands_in_it():
    x, y = planted()
    y[:, 1], y[:, 2] = 3.0, np.nan
    found = encode(x, y, folds=shuffled_folds(200, 4, seed=0), alphas=[1e3, 1e4], keep_weights=True, **EXACT)
    assert np.isnan(found.r).tolist() == [False, True, True, False, False, False]
    assert np.isnan(found.weights[:, 1:3]).all()
    text = "\n".join(found.warnings)
    assert "1 targets hold only NaN and have no score" in text
    assert "1 targets are constant and have no score" in text
    assert "shuffled folds: neighbours in time" in text
    assert "chose the smallest alpha, 1000; extend alphas downwards" in text
    assert repr(found).endswith("shuffled, seed 0, 4 warnings)")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.ones((150, 2))}, r"band 'features' has shape \(150, 2\) for a recording of 200 samples"),
        ({"features": {"a": np.full((200, 1), np.nan)}}, "band 'a': 200 values are not finite"),
        ({"features": {}}, "no features; expected an array"),
        ({"targets": np.where(np.arange(600).reshape(200, 3) == 4, np.nan, 1.0)}, "1 targets hold NaN in some samples"),
        ({"targets": np.ones((200, 3))}, "none of 3 targets varies; check the mask"),
        ({"runs": np.zeros(200)}, "1 run only; folds by run need two or more"),
        ({"runs": np.zeros(20)}, "20 entries of runs for 200 samples"),
        ({"folds": shuffled_folds(300, 3, seed=0)}, "name sample 299 of 200"),
        ({"alphas": [0.0]}, "expected positive numbers"),
        ({"select_by": "p"}, "select_by='p'; expected one of"),
        ({"dtype": "float16"}, "expected 'float32' or 'float64'"),
    ],
)
def test_bad_input_is_refused_in_one_line(change, message):
    x, y = planted()
    with pytest.raises(ValueError, match=message) as caught:
        encode(**({"features": x, "targets": y, "progress": False} | change))
    assert "\n" not in str(caught.value)
