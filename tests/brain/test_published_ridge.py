import numpy as np
import pytest

from topographic.brain import fit_published_ridge


@pytest.mark.parametrize("score", ["r", "r2"])
@pytest.mark.parametrize("suffix", ["", "_normalised"])
def test_published_weights_and_predictions(shared, suffix, score):
    golden = np.load(shared / "golden" / "litcoder_ridge.npz")
    n = int(golden["n_train"])
    x, y = golden["X"], golden["Y"]
    found = fit_published_ridge(
        x[:n], y[:n], alphas=golden["alphas" + suffix], normalize_alphas=bool(suffix), score=score
    )
    of = ("_r2" if score == "r2" else "") + suffix
    kind = "correlation" if score == "r" else "signed_sqrt_r2"
    np.testing.assert_allclose(found.inner_scores, golden[f"mean_inner_{kind}{suffix}"], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.alphas, golden[f"best_alpha{of}"])
    np.testing.assert_allclose(found.weights, golden[f"weights{of}"], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(found.predict(x[n:]), golden[f"predictions{of}"], rtol=1e-8, atol=1e-10)


def test_the_published_default_grid(shared):
    golden = np.load(shared / "golden" / "litcoder_ridge.npz")
    n = int(golden["n_train"])
    found = fit_published_ridge(golden["X"][:n], golden["Y"][:n], normalize_alphas=True)
    np.testing.assert_allclose(found.inner_scores, golden["mean_inner_correlation_default_grid"], rtol=1e-7, atol=1e-12)
    np.testing.assert_allclose(found.alphas, golden["best_alpha_default_grid"])


def test_an_unknown_score():
    with pytest.raises(ValueError, match="score='p'; expected one of"):
        fit_published_ridge(np.ones((9, 2)), np.ones((9, 2)), score="p")
