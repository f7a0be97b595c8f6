"""Encoding models: ridge regression from features to a recording, fitted by himalaya, tested on what it never saw."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Shaped
from tqdm.auto import tqdm

from topographic.brain.folds import Folds, contiguous_folds, run_folds
from topographic.brain.scores import pearson_r, r2_score
from topographic.storage import load_noun, save_arrays

__all__ = ["SELECTION_SCORES", "Encoding", "checked_bands", "encode", "folds_for", "himalaya_backend", "usable_targets"]

DEFAULT_ALPHAS = tuple(float(10**power) for power in range(11))
# numbers in one temporary array of a fit; 256 MB of float32
_BATCH_SIZE = 1 << 26
# of these, predictions of all penalties: they are gone through several times, and 16 MB stay in a processor's cache
_PREDICTIONS_AT_ONCE = 1 << 22


@dataclass(frozen=True, eq=False)
class Encoding:
    """What an encoding model predicts of a recording, target by target.

    Parameters
    ----------
    r, r2 : ndarray, shape (targets,)
        Correlation and coefficient of determination of held-out samples, means over folds. NaN where a target has no
        score (constant, or not finite).
    fold_r, fold_r2 : ndarray, shape (folds, targets)
        The same in each fold.
    alphas : ndarray, shape (folds, targets)
        The penalty chosen in each fold.
    band_names : tuple of str
        Names of the feature bands.
    band_r2 : ndarray, shape (bands, targets)
        The part of r2 that each band's share of the prediction has (product measure); the parts add up to r2.
    band_weights : ndarray, shape (folds, bands, targets)
        Weight of each band, adding up to 1; the smaller, the more its features are shrunk.
    folds : str
        How samples were divided.
    warnings : tuple of str
        What speaks against these scores.
    weights : ndarray, shape (features, targets), optional
        Means over folds, in the units of features and targets.
    intercepts : ndarray, shape (targets,), optional
        Means over folds.
    predictions : ndarray, shape (samples, targets), optional
        Held-out predictions; NaN where a sample was never tested.
    provenance : mapping
        What decided the fit.
    """

    r: Float[np.ndarray, " targets"]
    r2: Float[np.ndarray, " targets"]
    fold_r: Float[np.ndarray, "folds targets"]
    fold_r2: Float[np.ndarray, "folds targets"]
    alphas: Float[np.ndarray, "folds targets"]
    band_names: tuple[str, ...]
    band_r2: Float[np.ndarray, "bands targets"]
    band_weights: Float[np.ndarray, "folds bands targets"]
    folds: str
    warnings: tuple[str, ...] = ()
    weights: Float[np.ndarray, "features targets"] | None = None
    intercepts: Float[np.ndarray, " targets"] | None = None
    predictions: Float[np.ndarray, "samples targets"] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """One line."""
        scored = self.r[np.isfinite(self.r)]
        said = f"mean r {scored.mean():.3f}, largest {scored.max():.3f}" if len(scored) else "no scores"
        warned = f", {len(self.warnings)} warnings" if self.warnings else ""
        return f"Encoding({len(self.r)} targets from {' + '.join(self.band_names)}, {said}, {self.folds}{warned})"

    def to_frame(self) -> pd.DataFrame:
        """One row per target."""
        columns = {"r": self.r, "r2": self.r2, "alpha": np.exp(np.log(self.alphas).mean(axis=0))}
        if len(self.band_names) > 1:
            columns |= {f"r2 of {name}": part for name, part in zip(self.band_names, self.band_r2, strict=True)}
        return pd.DataFrame(columns).rename_axis("target")

    def predict(self, features: Shaped[np.ndarray, "samples features"]) -> Float[np.ndarray, "samples targets"]:
        """Predictions for other samples from the mean weights; bands side by side in their order."""
        if self.weights is None or self.intercepts is None:
            raise ValueError("this encoding has no weights; fit it with keep_weights=True")
        return features @ self.weights + self.intercepts

    def save(self, path: str | Path) -> None:
        """Write to one safetensors file with a JSON header."""
        arrays = {one.name: getattr(self, one.name) for one in fields(self)}
        kept = {name: value for name, value in arrays.items() if isinstance(value, np.ndarray)}
        words = {name: arrays[name] for name in ("band_names", "folds", "warnings")}
        save_arrays(path, kept, {"noun": "Encoding", **words, "provenance": dict(self.provenance)})

    @classmethod
    def load(cls, path: str | Path) -> "Encoding":
        """Read what `save` wrote."""
        arrays, metadata = load_noun(path, "Encoding")
        return cls(
            **arrays,
            band_names=tuple(metadata["band_names"]),
            folds=metadata["folds"],
            warnings=tuple(metadata["warnings"]),
            provenance=metadata["provenance"],
        )


@contextlib.contextmanager
def himalaya_backend(name: str) -> Iterator[Any]:
    """Let himalaya compute with "numpy", "torch", "torch_cuda", "torch_mps", "cupy"; its own choice is restored."""
    from himalaya.backend import get_backend, set_backend

    before = get_backend().name
    try:
        yield set_backend(name)
    finally:
        set_backend(before)


@dataclass(frozen=True)
class _Fitting:
    """How one fold is fitted."""

    alphas: tuple[float, ...]
    select_by: str
    alpha_per_target: bool
    n_band_draws: int
    n_targets_batch: int | None
    seed: int
    backend: str
    dtype: str


def encode(
    features: Shaped[np.ndarray, "samples features"] | Mapping[str, np.ndarray],
    targets: Shaped[np.ndarray, "rows targets"],
    *,
    runs: Shaped[np.ndarray, " entries"] | None = None,
    folds: Folds | None = None,
    n_folds: int | None = None,
    gap: int = 10,
    n_inner_folds: int = 5,
    alphas: Sequence[float] | np.ndarray = DEFAULT_ALPHAS,
    alpha_per_target: bool = True,
    select_by: str = "r2",
    n_band_draws: int = 50,
    keep_weights: bool = False,
    keep_predictions: bool = False,
    n_targets_batch: int | None = None,
    backend: str = "torch",
    dtype: str = "float32",
    seed: int = 0,
    progress: bool = True,
) -> Encoding:
    """Predict a recording from features by cross-validated ridge regression.

    ``min_b |Y - b0 - sum over bands k of sqrt(g_k) X_k b_k|^2 + alpha |b|^2``, features z-scored and everything
    centred by the training samples of each fold; alpha and, with several bands, their weights g are chosen per target
    in inner folds of the training samples.

    Parameters
    ----------
    features : ndarray, shape (samples, features), or mapping of str to such arrays
        At the times of scans (`downsample`, `delay`). Each entry of a mapping is a band with a penalty of its own:
        layers, controls, "nuisance".
    targets : ndarray, shape (samples, targets)
        Voxels, vertices, parcels, electrodes. One that is constant or has no finite values gets no score (NaN) and a
        warning.
    runs : ndarray, shape (samples,), optional
        Run or story of each sample. Folds are then whole runs, inside as outside.
    folds : Folds, optional
        Other folds: `contiguous_folds`, `run_folds`, or, warned of, `shuffled_folds`.
    n_folds : int, optional
        Number of folds where none are given: as many as runs, or 5.
    gap : int
        Without runs, samples left out on each side of those tested.
    n_inner_folds : int
        Folds in which alpha is chosen; at most one per run of the training samples.
    alphas : sequence of float
        Penalties tried.
    alpha_per_target : bool
        One alpha per target, or one for all.
    select_by : {"r2", "r"}
        Score that chooses.
    n_band_draws : int
        With several bands: weightings tried (the first is an equal one, the others Dirichlet).
    keep_weights, keep_predictions : bool
        Keep them in the result.
    n_targets_batch : int, optional
        Targets fitted at once; from the size of the problem unless given.
    backend : str
        What himalaya computes with (`himalaya_backend`): "torch", "numpy", "torch_cuda", ...
    dtype : {"float32", "float64"}
        Precision.
    seed : int
        Seed of the bands' weightings.
    progress : bool
        Show a bar over folds.

    Returns
    -------
    Encoding
        Scores of held-out samples, with everything that was chosen.

    Raises
    ------
    ValueError
        If lengths differ, a feature is not finite, a target holds some NaN, no target varies, or folds are impossible.

    Notes
    -----
    Kernel ridge regression where features outnumber samples, the same model in other coordinates. A score alone says
    little: `partition` sets it beside controls and `significance` beside its null.

    References
    ----------
    Dupré la Tour et al. 2022 (himalaya, banded ridge).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(120, 4))
    >>> y = x @ rng.normal(size=(4, 3)) + rng.normal(size=(120, 3))
    >>> encode(x, y, runs=np.repeat([0, 1, 2], 40), progress=False).r.min() > 0.5
    np.True_
    """
    bands = checked_bands(features, len(targets), dtype)
    usable, notes = usable_targets(targets)
    if select_by not in SELECTION_SCORES:
        raise ValueError(f"select_by={select_by!r}; expected one of {sorted(SELECTION_SCORES)}")
    grid = np.asarray(alphas, dtype=np.float64)
    if grid.ndim != 1 or not len(grid) or not (grid > 0).all():
        raise ValueError(f"alphas={list(np.ravel(grid))}; expected positive numbers")
    folds = folds_for(len(targets), runs, folds, n_folds, gap)
    fitting = _Fitting(
        tuple(grid.tolist()), select_by, alpha_per_target, n_band_draws, n_targets_batch, seed, backend, dtype
    )
    n_targets, shape = targets.shape[1], (len(folds), targets.shape[1])
    found = {name: np.full(shape, np.nan) for name in ("r", "r2", "alpha")}
    band_r2 = np.full((len(folds), len(bands), n_targets), np.nan)
    shares = np.full((len(folds), len(bands), n_targets), np.nan)
    n_features = sum(band.shape[1] for band in bands.values())
    weights = np.zeros((n_features, n_targets), dtype) if keep_weights else None
    intercepts = np.zeros(n_targets, dtype) if keep_weights else None
    predictions = np.full(targets.shape, np.nan, dtype) if keep_predictions else None
    observed = np.ascontiguousarray(targets[:, usable], dtype=dtype)
    with himalaya_backend(backend) as engine:
        for fold, (train, test) in enumerate(tqdm(folds.pairs, desc="folds", disable=not progress)):
            inner = _inner_folds(train, runs, n_inner_folds, gap)
            one = _fit_fold(engine, list(bands.values()), observed[train], (train, test), inner, fitting, keep_weights)
            predicted = one["parts"].sum(axis=0) + one["intercept"]
            found["r"][fold, usable] = pearson_r(observed[test], predicted)
            found["r2"][fold, usable] = r2_score(observed[test], predicted)
            found["alpha"][fold, usable], shares[fold][:, usable] = one["alphas"], one["shares"]
            if len(bands) > 1:
                band_r2[fold][:, usable] = _split_r2(observed[test], one["parts"], one["intercept"])
            else:
                band_r2[fold] = found["r2"][fold]
            if weights is not None and intercepts is not None:
                weights[:, usable] += one["weights"] / len(folds)
                intercepts[usable] += one["raw_intercept"] / len(folds)
            if predictions is not None:
                predictions[np.ix_(test, usable)] = predicted
    if weights is not None and intercepts is not None:
        weights[:, ~usable], intercepts[~usable] = np.nan, np.nan
    notes += _second_thoughts(folds, found, usable, grid)
    provenance = {
        **asdict(fitting),
        "n_samples": len(targets),
        "n_features": {name: band.shape[1] for name, band in bands.items()},
        "n_inner_folds": n_inner_folds,
    }
    return Encoding(
        found["r"].mean(axis=0),
        found["r2"].mean(axis=0),
        found["r"],
        found["r2"],
        found["alpha"],
        tuple(bands),
        band_r2.mean(axis=0),
        shares,
        folds.name,
        tuple(notes),
        weights,
        intercepts,
        predictions,
        provenance,
    )


def checked_bands(
    features: np.ndarray | Mapping[str, np.ndarray], n_samples: int, dtype: str = "float32"
) -> dict[str, np.ndarray]:
    """Bands of features by name, or a refusal of what cannot be fitted."""
    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype={dtype!r}; expected 'float32' or 'float64'")
    given = dict(features) if isinstance(features, Mapping) else {"features": features}
    if not given:
        raise ValueError("no features; expected an array (samples, features) or {band: array}")
    bands = {}
    for name, band in given.items():
        array = np.asarray(band, dtype=dtype)
        if array.ndim != 2 or len(array) != n_samples or not array.shape[1]:
            raise ValueError(
                f"band {name!r} has shape {array.shape} for a recording of {n_samples} samples; expected one row per "
                "sample: downsample the features to the scans, and trim both alike"
            )
        bad = int((~np.isfinite(array)).sum())
        if bad:
            raise ValueError(f"band {name!r}: {bad} values are not finite; replace them or drop those samples")
        bands[str(name)] = array
    return bands


def usable_targets(targets: Shaped[np.ndarray, "samples targets"]) -> tuple[Bool[np.ndarray, " targets"], list[str]]:
    """Which targets can be scored, and what to say of the others."""
    if targets.ndim != 2 or not targets.size:
        raise ValueError(f"targets of shape {targets.shape}; expected (samples, targets)")
    finite = np.isfinite(targets)
    some = finite.any(axis=0) & ~finite.all(axis=0)
    if some.any():
        raise ValueError(
            f"{int(some.sum())} targets hold NaN in some samples (first: target {int(some.argmax())}); drop those "
            "samples or targets, or fill them in"
        )
    empty = ~finite.any(axis=0)
    varied = np.zeros(targets.shape[1], dtype=bool)
    varied[~empty] = np.ptp(targets[:, ~empty], axis=0) > 0
    notes = []
    if empty.any():
        notes.append(f"{int(empty.sum())} targets hold only NaN and have no score; mask them out")
    if (constant := ~empty & ~varied).any():
        notes.append(f"{int(constant.sum())} targets are constant and have no score; mask them out")
    if not varied.any():
        raise ValueError(
            f"none of {len(varied)} targets varies; check the mask and the order of axes (samples, targets)"
        )
    return varied, notes


def folds_for(n_samples: int, runs: np.ndarray | None, folds: Folds | None, n_folds: int | None, gap: int) -> Folds:
    """Folds given, or by run where runs are known, or contiguous with a gap."""
    if runs is not None and len(runs) != n_samples:
        raise ValueError(f"{len(runs)} entries of runs for {n_samples} samples; expected one per sample")
    if folds is not None:
        last = max(int(part.max()) for pair in folds.pairs for part in pair)
        if last >= n_samples:
            raise ValueError(f"{folds!r} name sample {last} of {n_samples}; make folds of this recording")
        return folds
    if runs is not None:
        return run_folds(runs, n_folds)
    return contiguous_folds(n_samples, n_folds or 5, gap=gap)


def _inner_folds(
    train: np.ndarray, runs: np.ndarray | None, n_inner_folds: int, gap: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Folds of the training samples, by their position among these."""
    if runs is not None and (n_runs := len(np.unique(runs[train]))) > 1:
        return list(run_folds(runs[train], min(n_inner_folds, n_runs)).pairs)
    return list(contiguous_folds(len(train), n_inner_folds, gap=gap).pairs)


def _fit_fold(
    engine: Any,
    bands: list[np.ndarray],
    observed: np.ndarray,
    pair: tuple[np.ndarray, np.ndarray],
    inner: list[tuple[np.ndarray, np.ndarray]],
    fitting: _Fitting,
    keep_weights: bool,
) -> dict[str, np.ndarray]:
    """Fit one fold: each band's part of the prediction of its test samples, and what was chosen."""
    train, test = pair
    means = [band[train].mean(axis=0) for band in bands]
    sds = [
        np.where(sd > 1e-6 * np.abs(m), sd, np.inf)
        for band, m in zip(bands, means, strict=True)
        for sd in [band[train].std(axis=0)]
    ]
    sds = [np.where(sd == 0, np.inf, sd) for sd in sds]
    scaled = [(band - m) / sd for band, m, sd in zip(bands, means, sds, strict=True)]
    fitted, tested = [one[train] for one in scaled], [one[test] for one in scaled]
    n, p = len(train), sum(band.shape[1] for band in bands)
    size = min(n, p)
    params = {
        "score_func": SELECTION_SCORES[fitting.select_by],
        "local_alpha": fitting.alpha_per_target,
        "n_targets_batch": fitting.n_targets_batch or max(256, _PREDICTIONS_AT_ONCE // (n * len(fitting.alphas))),
        "n_alphas_batch": max(1, min(len(fitting.alphas), _BATCH_SIZE // (n * size))),
    }
    fit = _fit_one_band if len(bands) == 1 else _fit_bands
    alphas, shares, dual, coefficients, intercept = fit(engine, fitted, observed, inner, params, fitting)
    if dual is not None:  # in kernel form: each band's weights are share * X' dual
        parts = np.stack([
            share * (other @ (one.T @ dual) if one.shape[1] < len(test) else (other @ one.T) @ dual)
            for share, one, other in zip(shares, fitted, tested, strict=True)
        ])
        if keep_weights:
            coefficients = [share * (one.T @ dual) for share, one in zip(shares, fitted, strict=True)]
    else:
        parts = np.stack([other @ weight for other, weight in zip(tested, coefficients, strict=True)])
    found = {"parts": parts, "intercept": intercept, "alphas": alphas, "shares": shares / shares.sum(axis=0)}
    if keep_weights:
        raw = np.concatenate([weight / sd[:, None] for weight, sd in zip(coefficients, sds, strict=True)])
        found |= {"weights": raw, "raw_intercept": intercept - np.concatenate(means) @ raw}
    return found


def _fit_one_band(
    engine: Any, fitted: list[np.ndarray], observed: np.ndarray, inner: list, params: dict, fitting: _Fitting
) -> tuple:
    from himalaya.kernel_ridge import solve_kernel_ridge_cv_eigenvalues
    from himalaya.ridge import solve_ridge_cv_svd

    # the solvers of KernelRidgeCV and RidgeCV, without the estimators' second look at every number
    x, y, alphas = (engine.asarray(one, dtype=fitting.dtype) for one in (fitted[0], observed, fitting.alphas))
    shared = {"alphas": alphas, "fit_intercept": True, "cv": inner, **params}
    ones = np.ones((1, observed.shape[1]), fitting.dtype)
    if x.shape[1] > x.shape[0]:
        chosen, dual, _, intercept = (
            engine.to_numpy(one) for one in solve_kernel_ridge_cv_eigenvalues(x @ x.T, y, **shared)
        )
        return chosen, ones, dual, None, intercept
    chosen, weights, _, intercept = (engine.to_numpy(one) for one in solve_ridge_cv_svd(x, y, **shared, warn=False))
    return chosen, ones, None, [weights], intercept


def _fit_bands(
    engine: Any, fitted: list[np.ndarray], observed: np.ndarray, inner: list, params: dict, fitting: _Fitting
) -> tuple:
    from himalaya.kernel_ridge import MultipleKernelRidgeCV
    from himalaya.ridge import GroupRidgeCV

    in_kernel = sum(band.shape[1] for band in fitted) > len(observed)
    params = params | {
        "alphas": engine.asarray(np.asarray(fitting.alphas, dtype=fitting.dtype)),
        "n_iter": fitting.n_band_draws,
        "progress_bar": False,
    }
    if not in_kernel:
        params |= {"warn": False}
    shared = {"solver_params": params, "fit_intercept": True, "cv": inner, "random_state": fitting.seed}
    model: Any
    if in_kernel:
        model = MultipleKernelRidgeCV(kernels="precomputed", solver="random_search", **shared)
        model.fit(np.stack([band @ band.T for band in fitted]), observed)
    else:
        model = GroupRidgeCV(groups="input", solver="random_search", **shared)
        model.fit(fitted, observed)
    deltas, intercept = engine.to_numpy(model.deltas_), engine.to_numpy(model.intercept_)
    shares = np.exp(deltas)  # weight over alpha
    chosen = 1 / shares.sum(axis=0)
    if in_kernel:
        return chosen, shares, engine.to_numpy(model.dual_coef_), None, intercept
    edges = np.cumsum([band.shape[1] for band in fitted])[:-1]
    return chosen, shares, None, np.split(engine.to_numpy(model.coef_), edges), intercept


def _split_r2(observed: np.ndarray, parts: np.ndarray, intercept: np.ndarray) -> np.ndarray:
    """Product measure: parts of R2 that add up to it; the intercept's error is shared equally."""
    y = observed - intercept.astype(np.float64)
    centred = observed - observed.mean(axis=0, dtype=np.float64)
    total = np.square(centred).sum(axis=0)
    whole = parts.sum(axis=0)
    gained = np.stack([(2 * y * part - part * whole).sum(axis=0) for part in parts])
    # 1 - |y - whole|^2 / total, with what the training mean already loses
    lost = (total - np.square(y).sum(axis=0)) / len(parts)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (gained + lost) / total


def _second_thoughts(folds: Folds, found: dict[str, np.ndarray], usable: np.ndarray, grid: np.ndarray) -> list[str]:
    """What the fit itself says against its scores."""
    notes = [folds.warning] if folds.warning else []
    undefined = usable & ~np.isfinite(found["r"]).all(axis=0)
    if undefined.any():
        notes.append(
            f"{int(undefined.sum())} targets or their predictions are constant in a fold and have no score; "
            "use longer folds"
        )
    lowest = np.isclose(found["alpha"][:, usable], grid.min(), rtol=1e-3).mean()
    if len(grid) > 1 and lowest > 0.1:
        notes.append(f"{lowest:.0%} of the fits chose the smallest alpha, {grid.min():g}; extend alphas downwards")
    return notes


def _negative_loss(observed: Any, predicted: Any) -> Any:
    """Mean squared error, negative, of arrays of any backend: the order of alphas that R2 gives, in two passes."""
    predicted -= observed
    predicted *= predicted
    return -predicted.mean(-2)


def _correlation(observed: Any, predicted: Any) -> Any:
    """Correlation of arrays of any backend in the fewest passes; himalaya's own goes through float64."""
    centred = observed - observed.mean(0)
    size = (centred * centred).sum(0) ** 0.5
    product = (predicted * centred).sum(-2)
    predicted -= predicted.mean(-2)[..., None, :]
    predicted *= predicted
    return product / (predicted.sum(-2) ** 0.5 * size + 1e-30)


SELECTION_SCORES = {"r2": _negative_loss, "r": _correlation}
