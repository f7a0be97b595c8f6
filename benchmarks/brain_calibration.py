"""Does the p of an encoding model mean what it says? False alarms and power where the truth is known.

    python benchmarks/brain_calibration.py          # minutes; --quick for seconds

Ten features, forty targets, runs of 80 scans, AR(1) on both sides. A rate is a mean over simulations of the share of
targets with p <= .05, and its interval that of the simulations, since the targets of one share their features.
"""

import argparse
from collections.abc import Callable

import numpy as np
from scipy.signal import lfilter
from tqdm.auto import tqdm

from topographic.brain import encode, group_sign_flip, shift_test, significance

Simulation = Callable[[np.random.Generator, int], float]


def series(rng: np.random.Generator, n_runs: int, columns: int, phi: float, n_scans: int = 80) -> np.ndarray:
    """Independent runs, each stationary."""
    return np.vstack([
        lfilter([1.0], [1.0, -phi], rng.normal(size=(n_scans + 100, columns)), axis=0)[100:] for _ in range(n_runs)
    ])


def refitted(rng: np.random.Generator, n_draws: int, *, phi: float, signal: float = 0.0, **options: object) -> float:
    """The test of this library: runs shifted, everything fitted again."""
    x, y = series(rng, 5, 10, phi), series(rng, 5, 40, phi)
    y += signal * x @ rng.normal(size=(10, 40))
    runs = np.repeat(range(5), 80)
    return float((significance(x, y, runs=runs, n_draws=n_draws, progress=False, **options).p <= 0.05).mean())


def band(rng: np.random.Generator, n_draws: int) -> float:
    """What a band adds, where others explain the recording and the band knows them in part."""
    base, runs = series(rng, 5, 5, 0.9), np.repeat(range(5), 80)
    y = base @ rng.normal(size=(5, 40)) + series(rng, 5, 40, 0.9)
    bands = {"base": base, "band": np.hstack([base[:, :2], series(rng, 5, 5, 0.9)])}
    found = significance(bands, y, runs=runs, band="band", n_draws=n_draws, progress=False)
    return float((found.p <= 0.05).mean())


def held_out(rng: np.random.Generator, n_draws: int) -> float:
    """Shifted predictions of one held-out run of 400 scans."""
    y, predicted = (series(rng, 1, 40, 0.9, 400) for _ in range(2))
    return float((shift_test(y, predicted, n_draws=n_draws)[0] <= 0.05).mean())


def gathered(rng: np.random.Generator, n_draws: int) -> float:
    """The field's test: predictions gathered over folds and shifted, no model fitted again."""
    x, y, runs = series(rng, 5, 10, 0.9), series(rng, 5, 40, 0.9), np.repeat(range(5), 80)
    predicted = encode(x, y, runs=runs, alphas=[100.0], keep_predictions=True, progress=False).predictions
    return float((shift_test(y, predicted, n_draws=n_draws)[0] <= 0.05).mean())


def group(rng: np.random.Generator, n_draws: int) -> float:
    """Sign flips over eight subjects, 40 targets that share half their variance."""
    scores = rng.normal(size=(8, 1)) + rng.normal(size=(8, 40))
    return float((group_sign_flip(scores)["p"] <= 0.05).mean())


ROWS: tuple[tuple[str, str, str, Simulation], ...] = (
    ("significance", "AR(.9), 5 runs of 80", "false alarms", lambda rng, n: refitted(rng, n, phi=0.9)),
    ("significance", "AR(.5), 5 runs of 80", "false alarms", lambda rng, n: refitted(rng, n, phi=0.5)),
    ("significance", "AR(.9), planted signal", "power", lambda rng, n: refitted(rng, n, phi=0.9, signal=0.5)),
    (
        "significance, block permutation of 10",
        "AR(.9), 5 runs of 80",
        "false alarms",
        lambda rng, n: refitted(rng, n, phi=0.9, null="block permutation"),
    ),
    ("significance of a band", "AR(.9), shares features with others", "false alarms", band),
    ("shifted predictions", "AR(.9), one held-out run of 400", "false alarms", held_out),
    ("shifted predictions", "AR(.9), gathered over folds: not valid", "false alarms expected", gathered),
    ("sign flips over subjects", "8 subjects", "false alarms", group),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--simulations", type=int, default=100)
    options = parser.parse_args()
    n_simulations, n_draws = (2, 19) if options.quick else (options.simulations, 99)
    print("| test | data | what | rate | 95 % interval |\n|---|---|---|---|---|")
    for index, (test, data, what, simulate) in enumerate(ROWS):
        rng = np.random.default_rng([index, 0])
        rates = [simulate(rng, n_draws) for _ in tqdm(range(n_simulations), desc=test, disable=options.quick)]
        error = 1.96 * np.std(rates, ddof=1) / np.sqrt(n_simulations)
        mean = float(np.mean(rates))
        print(f"| {test} | {data} | {what} | {mean:.3f} | [{max(0.0, mean - error):.3f}, {mean + error:.3f}] |")


if __name__ == "__main__":
    main()
