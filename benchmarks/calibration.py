"""Does a p mean what it says? False alarms, power and coverage on populations whose truth is known.

    python benchmarks/calibration.py --out docs/calibration.md      # some minutes; --quick for seconds

Every row repeats one test on simulated data. Populations lie on sheets of 14 x 14 units, smooth (Gaussian, sigma 1.5
units) unless said, their items independent unless said. Rates come with their exact 95 % interval (Clopper & Pearson).
"""

import argparse
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.stats import binomtest
from tqdm.auto import tqdm

from topographic.behaviour.minimal_pairs import accuracy_interval
from topographic.interventions.controls import connected_control, layer_control
from topographic.maps import (
    Selection,
    UnitMap,
    cluster_mass_test,
    control_fdr,
    map_correlation,
    morans_i,
    response_profile,
    split_half_stability,
    t_map,
)
from topographic.recording.responses import Responses
from topographic.sheets import grid
from topographic.stimuli import StimulusSet

SIDE, SHEETS = 14, ("a", "b", "c")
Simulation = Callable[[np.random.Generator], bool]


def smooth(rng: np.random.Generator, n: int, sigma: float = 1.5) -> np.ndarray:
    """Noise of unit variance, smooth over the sheet, one map a row."""
    noise = gaussian_filter(rng.normal(size=(n, SIDE, SIDE)), (0, sigma, sigma), mode="wrap").reshape(n, -1)
    return noise / noise.std()


def shown(sizes: tuple[int, int], group: int = 1) -> StimulusSet:
    """Items of two conditions, sampled one by one or in passages of so many."""
    n = sum(sizes)
    labels = {} if group == 1 else {"passage": [f"p{index // group}" for index in range(n)]}
    sampled = {} if group == 1 else {"sampled_by": "passage"}
    items = [f"item {index}" for index in range(n)]
    return StimulusSet("simulated", items, ["x"] * sizes[0] + ["y"] * sizes[1], labels=labels, **sampled)


def population(
    rng: np.random.Generator,
    sizes: tuple[int, int] = (20, 20),
    *,
    spread: float = 1.0,
    effect: float = 0.0,
    sigma: float = 1.5,
    group: int = 1,
    shared: float = 0.5,
) -> dict[str, Responses]:
    """Responses of three sheets: unequal spreads, passages that share variance, a planted patch of 3 x 6 units."""
    stimuli, found = shown(sizes, group), {}
    for site in SHEETS:
        values = smooth(rng, sum(sizes), sigma)
        if group > 1:
            passages = smooth(rng, sum(sizes) // group, sigma).repeat(group, axis=0)
            values = np.sqrt(1 - shared) * values + np.sqrt(shared) * passages
        values[: sizes[0]] *= spread
        if effect and site == "a":
            patch = np.zeros((SIDE, SIDE))
            patch[4:7, 4:10] = effect
            values[: sizes[0]] += patch.ravel()
        found[site] = Responses(site, values.astype(np.float32), grid((SIDE, SIDE), site), stimuli)
    return found


def maps_of(rng: np.random.Generator, n_draws: int = 99, **truth: Any) -> dict[str, UnitMap]:
    """Maps of t of a population."""
    seed = int(rng.integers(1 << 31))
    return {site: t_map(one, "x", "y", n_draws=n_draws, seed=seed) for site, one in population(rng, **truth).items()}


def moran(rng: np.random.Generator, **truth: Any) -> bool:
    """Label null of Moran's I of one sheet."""
    return morans_i(maps_of(rng, **truth)["a"]).label_null.p <= 0.05


def clusters(rng: np.random.Generator, *, sign: str = "both", **truth: Any) -> bool:
    """Any cluster of t > 3 over three sheets."""
    return any(one.p_mass <= 0.05 for one in cluster_mass_test(maps_of(rng, **truth), threshold=3.0, sign=sign))


def discoveries(rng: np.random.Generator, **truth: Any) -> bool:
    """Any unit with q < .05 over three sheets."""
    return any((one.q < 0.05).any() for one in control_fdr(maps_of(rng, n_draws=0, **truth)).values())


def stability(rng: np.random.Generator, measure: str, **truth: Any) -> bool:
    """Agreement of two halves, all sheets together."""
    found = split_half_stability(population(rng, **truth), "x", "y", rule="top", level=0.1, n_draws=99)[-1]
    return getattr(found, measure).label_null.p <= 0.05


def correlation(rng: np.random.Generator, null: str, directions: int = 0, signal: float = 0.0) -> bool:
    """Two maps of one sheet: independent smooth noise, or random labels of a population of few directions."""
    sheet = grid((SIDE, SIDE), "a")
    if not directions:
        one, two = smooth(rng, 2)
        return (
            map_correlation(
                UnitMap("a", one, sheet, "noise"),
                UnitMap("a", two + signal * one, sheet, "noise"),
                null=null,
                n_draws=99,
            )
            .nulls[null]
            .p
            <= 0.05
        )
    axes = smooth(rng, directions, 2.0)
    maps = []
    for _ in range(2):
        values = rng.normal(size=(40, directions)) @ axes + 0.05 * rng.normal(size=(40, SIDE**2))
        maps.append(t_map(Responses("a", values.astype(np.float32), sheet, shown((20, 20))), "x", "y", n_draws=99))
    return map_correlation(*maps, null=null, n_draws=99, seed=int(rng.integers(1 << 31))).nulls[null].p <= 0.05


def lesion(rng: np.random.Generator, share: float, *, connected: bool = True, worth: float = 0.0) -> bool:
    """A random disc, or random units, whose units are worth as much as any others, where worth is smooth."""
    sheet, value = grid((SIDE, SIDE), "a"), smooth(rng, 1)[0]
    size, control = round(share * SIDE**2), connected_control if connected else layer_control
    mask = rng.permutation(SIDE**2) < size
    if connected:
        away = np.linalg.norm(sheet.positions_mm.numpy() - sheet.positions_mm.numpy()[rng.integers(SIDE**2)], axis=1)
        mask = (away + 1e-6 * rng.random(SIDE**2)).argsort().argsort() < size
    chosen = Selection("a", mask, sheet, "random")
    value = value + worth * mask
    drawn = [value[control([chosen], {"a": sheet}, generator=rng)[0].mask].sum() for _ in range(19)]
    return (1 + sum(abs(one) >= abs(value[mask].sum()) - 1e-9 for one in drawn)) / 20 <= 0.05


def profile(rng: np.random.Generator, n: int, *, lognormal: bool = False) -> bool:
    """Whether the interval of a profile's mean holds the truth."""
    draw, truth = (rng.lognormal, np.exp(0.5)) if lognormal else (rng.normal, 0.0)
    stimuli = StimulusSet("simulated", [f"item {index}" for index in range(n)], ["x"] * n)
    responses = {"a": Responses("a", draw(size=(n, 1)).repeat(4, 1).astype(np.float32), grid(4, "a"), stimuli)}
    chosen = Selection("a", np.ones(4, bool), responses["a"].sheet, "all")
    found = response_profile(responses, chosen, seed=int(rng.integers(1 << 31)))
    return bool(found.low[0] <= truth <= found.high[0])


def pairs(rng: np.random.Generator, n_pairs: int, n_paradigms: int) -> bool:
    """Whether the interval of a mean accuracy over paradigms holds the truth."""
    truth = rng.beta(4, 1.5, n_paradigms)
    counts = np.full(n_paradigms, n_pairs)
    low, high = accuracy_interval(rng.binomial(n_pairs, truth), counts)
    return low <= truth.mean() <= high


NULL = "no effect"
ROWS: list[tuple[str, str, str, float, int, Simulation]] = [
    ("Moran's I, label null", NULL, "false alarms", 0.05, 400, moran),
    ("Moran's I, label null", "8 passages of 5 items, declared", "false alarms", 0.05, 400,
     functools.partial(moran, group=5)),
    ("clusters, t > 3, either sign", NULL, "false alarms", 0.05, 400, clusters),
    ("clusters, t > 3, either sign", "10 + 30 items", "false alarms", 0.05, 400,
     functools.partial(clusters, sizes=(10, 30))),
    ("clusters, t > 3, either sign", "10 + 30 items, sd 3 : 1", "false alarms", 0.05, 400,
     functools.partial(clusters, sizes=(10, 30), spread=3.0)),
    ("clusters, t > 3, either sign", "20 + 20 items, sd 3 : 1", "false alarms", 0.05, 400,
     functools.partial(clusters, spread=3.0)),
    ("clusters, t > 3, either sign", "8 passages of 5 items, declared", "false alarms", 0.05, 400,
     functools.partial(clusters, group=5)),
    ("clusters, t > 3, either sign", "patch of 3 x 6 units, 1.5 sd", "power", 1.0, 100,
     functools.partial(clusters, effect=1.5)),
    ("any unit with q < .05", NULL, "false alarms", 0.05, 1000, discoveries),
    ("any unit with q < .05", "10 + 30 items, sd 3 : 1", "false alarms", 0.05, 1000,
     functools.partial(discoveries, sizes=(10, 30), spread=3.0)),
    ("any unit with q < .05", "8 passages of 5 items, declared", "false alarms", 0.05, 1000,
     functools.partial(discoveries, group=5)),
    ("localizer: Dice of two halves", NULL, "false alarms", 0.05, 400, functools.partial(stability, measure="dice")),
    ("localizer: r of two halves", NULL, "false alarms", 0.05, 400,
     functools.partial(stability, measure="correlation")),
    ("localizer: r of two halves", "sigma 3", "false alarms", 0.05, 400,
     functools.partial(stability, measure="correlation", sigma=3.0)),
    ("localizer: Dice of two halves", "patch of 3 x 6 units, 1.5 sd", "power", 1.0, 100,
     functools.partial(stability, measure="dice", effect=1.5)),
    ("correlation of two maps, spectral", "independent smooth maps", "false alarms", 0.05, 1000,
     functools.partial(correlation, null="spectral")),
    ("correlation of two maps, spectral", "half of their variance shared", "power", 1.0, 200,
     functools.partial(correlation, null="spectral", signal=1.0)),
    ("correlation of two maps, spectral", "random labels, population of 6 directions", "false alarms", 0.05, 400,
     functools.partial(correlation, null="spectral", directions=6)),
    ("correlation of two maps, label", "random labels, population of 6 directions", "false alarms", 0.05, 400,
     functools.partial(correlation, null="label", directions=6)),
    ("lesion of random units, layer controls", "5 % of the sheet", "false alarms", 0.05, 2000,
     functools.partial(lesion, share=0.05, connected=False)),
    ("lesion of random units, layer controls", "45 % of the sheet", "false alarms", 0.05, 2000,
     functools.partial(lesion, share=0.45, connected=False)),
    ("lesion of a disc, connected controls", "5 % of the sheet", "false alarms", 0.05, 2000,
     functools.partial(lesion, share=0.05)),
    ("lesion of a disc, connected controls", "10 % of the sheet", "false alarms", 0.05, 1000,
     functools.partial(lesion, share=0.10)),
    ("lesion of a disc, connected controls", "25 % of the sheet", "false alarms", 0.05, 1000,
     functools.partial(lesion, share=0.25)),
    *(("interval of a profile's mean", f"{n} items, {name}", "coverage", 0.95, 1000,
       functools.partial(profile, n=n, lognormal=name == "lognormal"))
      for name in ("normal", "lognormal") for n in (5, 10, 20, 60)),
    *(("interval of accuracy over paradigms", f"{k} paradigms of {n} pairs", "coverage", 0.95, 2000,
       functools.partial(pairs, n_pairs=n, n_paradigms=k)) for k, n in ((67, 5), (12, 5), (67, 10), (12, 20))),
]  # fmt: skip


def table(quick: bool, seed: int) -> Iterator[str]:
    """The rows of the table; a rate whose interval leaves out what it should be is marked."""
    yield "| what | where | measured | rate [95 % interval] | nominal | simulations |"
    yield "|---|---|---|---|---|---|"
    for index, (what, where, kind, nominal, n, simulate) in enumerate(tqdm(ROWS, desc="calibration", disable=None)):
        rng, n = np.random.default_rng([seed, index]), 3 if quick else n
        found = binomtest(sum(bool(simulate(rng)) for _ in range(n)), n)
        low, high = found.proportion_ci()
        off = (kind == "false alarms" and low > nominal) or (kind == "coverage" and high < nominal)
        rate = f"{found.statistic:.3f} [{low:.3f}, {high:.3f}]{' **off**' if off else ''}"
        yield f"| {what} | {where} | {kind} | {rate} | {'' if kind == 'power' else f'{nominal:g}'} | {n} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three simulations a row, to see that it runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="Markdown file whose table is replaced")
    arguments = parser.parse_args()
    rows = "\n".join(table(arguments.quick, arguments.seed))
    if arguments.out is None:
        print(rows)
        return
    page = arguments.out.read_text(encoding="utf-8") if arguments.out.is_file() else "| |\n"
    before, _, rest = page.partition("| ")
    after = rest.partition("\n\n")[2]
    arguments.out.write_text(f"{before}{rows}\n" + (f"\n{after}" if after else ""), encoding="utf-8")


if __name__ == "__main__":
    main()
