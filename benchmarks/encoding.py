"""Time and memory of an encoding model, beside LITcoder's ridge.

    python benchmarks/encoding.py                  # 600 samples x 768 features to 5,000 targets; --quick for a moment
    python benchmarks/encoding.py --litcoder CLONE # beside the published code itself (GT-LIT-Lab/litcoder_core)
    python benchmarks/encoding.py --memory         # 3,000 samples x 3,072 features to 20,484 targets: peak memory

Both do the same: five outer folds, in each of them five inner folds and ten penalties per target, float32, torch on
the CPU, held-out predictions and their correlations. The published algorithm is transcribed from its description: an
SVD per fold, one prediction and two z-scores per penalty; the published code adds a loop over targets for correlations
and parametric p values. Runs are paired and interleaved; the ratio is the median.
"""

import argparse
import contextlib
import importlib
import io
import logging
import resource
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from topographic.brain import contiguous_folds, encode

ALPHAS = tuple(np.logspace(1, 5, 5).tolist())  # memory does not grow with folds


def published(features: np.ndarray, targets: np.ndarray, alphas: np.ndarray, n_folds: int = 5) -> np.ndarray:
    """Held-out correlations of nested cross-validation as LITcoder computes them."""
    x, y = torch.from_numpy(features), torch.from_numpy(targets)
    index, scores = torch.arange(len(x)), []
    for test in index.tensor_split(n_folds):
        train = index[~torch.isin(index, test)]
        inner_index, inner = torch.arange(len(train)), []
        for left in inner_index.tensor_split(n_folds):
            kept = inner_index[~torch.isin(inner_index, left)]
            inner.append(scores_by_alpha(x[train][kept], x[train][left], y[train][kept], y[train][left], alphas))
        best = torch.as_tensor(alphas)[torch.stack(inner).mean(dim=0).argmax(dim=0)]
        u, s, vt = torch.linalg.svd(x[train], full_matrices=False)
        rotated, weights = u.T @ y[train], torch.zeros(x.shape[1], y.shape[1])
        for alpha in best.unique():
            chosen = best == alpha
            weights[:, chosen] = vt.T @ torch.diag(s / (s**2 + alpha**2)) @ rotated[:, chosen]
        scores.append((scored(y[test]) * scored(x[test] @ weights)).mean(dim=0))
    return torch.stack(scores).mean(dim=0).numpy()


def litcoder(checkout: str) -> Callable[[np.ndarray, np.ndarray, np.ndarray], object]:
    """Its nested cross-validation as it stands, contiguous folds, penalties as given, on the CPU; needs statsmodels."""
    for name in ("encoding", "encoding.models"):  # without their __init__, which want all that is read with a GPU
        package = types.ModuleType(name)
        package.__path__ = [str(Path(checkout, *name.split(".")))]
        sys.modules[name] = package
    model = importlib.import_module("encoding.models.nested_cv").NestedCVModel("ridge")
    logging.disable(logging.INFO)

    def fit(features: np.ndarray, targets: np.ndarray, alphas: np.ndarray) -> object:
        with contextlib.redirect_stdout(io.StringIO()):
            return model.fit_predict(
                features, targets, folding_type="kfold", alphas=alphas.tolist(), normalpha=False, use_gpu=False
            )

    return fit


def scores_by_alpha(
    x: torch.Tensor, x_left: torch.Tensor, y: torch.Tensor, y_left: torch.Tensor, alphas: np.ndarray
) -> torch.Tensor:
    """Correlation of each target at each penalty."""
    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    rotated, projected, observed = u.T @ y, x_left @ vt.T, scored(y_left)
    found = []
    for alpha in alphas:
        predicted = (projected * (s / (s**2 + float(alpha) ** 2))) @ rotated
        found.append(torch.nan_to_num((observed * scored(predicted)).mean(dim=0)))
    return torch.stack(found)


def scored(values: torch.Tensor) -> torch.Tensor:
    return (values - values.mean(dim=0)) / (values.std(dim=0) + 1e-8)


def ours(features: np.ndarray, targets: np.ndarray, alphas: np.ndarray, n_folds: int = 5) -> np.ndarray:
    folds = contiguous_folds(len(features), n_folds, gap=0)
    return encode(
        features, targets, folds=folds, n_inner_folds=n_folds, gap=0, alphas=alphas**2, select_by="r", progress=False
    ).r


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def made(n: int, p: int, n_targets: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p), dtype=np.float32)
    y = x[:, :50] @ rng.standard_normal((50, n_targets), dtype=np.float32) / 7
    return x, y + rng.standard_normal((n, n_targets), dtype=np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--litcoder", help="folder of a clone, for its own code in place of the transcription")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.memory:
        x, y = made(*((300, 400, 900) if options.quick else (3000, 3072, 20_484)))
        took = seconds(lambda: encode(x, y, n_folds=2, n_inner_folds=2, alphas=ALPHAS, progress=not options.quick))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{x.shape[0]} x {x.shape[1]} to {y.shape[1]} targets: {took:.1f} s, peak memory {peak:.2f} GiB")
        return
    x, y = made(*((60, 80, 50) if options.quick else (600, 768, 5000)))
    alphas = np.logspace(0, 4, 10)
    agreement = np.abs(published(x, y, alphas) - ours(x, y, alphas)).mean()  # ours has an intercept and z-scores
    arms = {"transcription": published} | ({"LITcoder": litcoder(options.litcoder)} if options.litcoder else {})
    arms["encode"] = ours
    repeats = 1 if options.quick else options.repeats
    rounds = [{name: seconds(lambda arm=arm: arm(x, y, alphas)) for name, arm in arms.items()} for _ in range(repeats)]
    print(f"{x.shape[0]} x {x.shape[1]} to {y.shape[1]} targets, {options.threads} threads\n")
    print(f"| | seconds (median of {repeats}) | over encode |\n|---|---|---|")
    for name in arms:
        ratio = np.median([one[name] / one["encode"] for one in rounds])
        print(f"| {name} | {np.median([one[name] for one in rounds]):.2f} | {ratio:.1f} |")
    print(f"Held-out correlations differ by {agreement:.3f} on average.")


if __name__ == "__main__":
    main()
