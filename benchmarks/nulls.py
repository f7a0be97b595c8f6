"""How long null maps and the numbers computed on them take, beside plain transcriptions and beside `esda`.

    python benchmarks/nulls.py readout --side 28     # floor and unit null of read-out maps
    python benchmarks/nulls.py moran                 # Moran's I with three nulls, beside esda with one
    python benchmarks/nulls.py clusters              # largest cluster of every null map
    python benchmarks/nulls.py readout --quick       # see that it runs

Both sides run in turns (A B A B ...) and are compared before they are timed. Prints a Markdown table.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from esda import Moran
from libpysal.weights import W, lat2W
from scipy.sparse.csgraph import connected_components
from spatial_loss import machine, spread

from topographic.maps import UnitMap, cluster_mass_test, morans_i
from topographic.maps.nulls import floor_maps, unit_maps
from topographic.maps.two_sample import group_moments, welch_t
from topographic.recording.readout import lattice_kernel, readout_kernel
from topographic.sheets import Sheet, adjacency, adjacent_pairs, permuted_grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=sorted(BENCHMARKS))
    parser.add_argument("--side", type=int, default=28, help="of the sheet, in units")
    parser.add_argument("--items", type=int, default=576)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--maps", type=int, default=24)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: this process's own time")
    parser.add_argument("--quick", action="store_true", help="everything small, to see that it runs")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(side=6, items=20, draws=9, maps=2, pairs=1)
    torch.set_num_threads(1)
    print(f"Machine: {machine('cpu')}, {options.clock} clock\n")
    BENCHMARKS[options.benchmark](options)


def readout_nulls(options: argparse.Namespace) -> None:
    """Floor and unit null through a Gaussian readout."""
    sheet, generator = permuted_grid(options.side**2, "sheet"), np.random.default_rng(0)
    in_condition = np.arange(options.items) % 2 == 0
    values = generator.standard_normal((options.items, sheet.n_units))
    kernel, factors = readout_kernel(sheet, 2.0), lattice_kernel(sheet, 2.0)
    whole = {"n_draws": options.draws, "kernel": kernel}
    through = {"n_draws": options.draws, "kernel": factors}
    units = np.arange(sheet.n_units)

    def plain_floor() -> np.ndarray:
        noise = np.random.default_rng(1)
        return plain_maps(in_condition, kernel, options.draws, lambda: noise.standard_normal(values.shape, np.float32))

    def plain_unit() -> np.ndarray:
        order, given = np.random.default_rng(2), values.astype(np.float32)
        return plain_maps(in_condition, kernel, options.draws, lambda: given[:, order.permutation(units)])

    def floor(drawn: dict) -> np.ndarray:
        return floor_maps(welch_t, in_condition, n_units=len(units), generator=np.random.default_rng(1), **drawn)

    def unit(drawn: dict) -> np.ndarray:
        return unit_maps(welch_t, values, in_condition, generator=np.random.default_rng(2), **drawn)

    for name, plain, fast in (("floor", plain_floor, floor), ("unit", plain_unit, unit)):
        np.testing.assert_allclose(fast(through), plain(), atol=1e-5)
        np.testing.assert_allclose(fast(whole), plain(), atol=1e-5)
        what = f"{name} null, {options.side} x {options.side}, {options.items} items, {options.draws} draws"
        table(what, {"plain": plain, "topographic": lambda fast=fast: fast(through)}, options)


def plain_maps(
    in_condition: np.ndarray, kernel: np.ndarray, n_draws: int, population: Callable[[], np.ndarray]
) -> np.ndarray:
    """One population after the other through the whole kernel."""
    kernel = kernel.astype(np.float32)
    return np.stack([welch_t(group_moments(population() @ kernel, in_condition[None]))[0] for _ in range(n_draws)])


def autocorrelation(options: argparse.Namespace) -> None:
    """Moran's I: three nulls here, one there."""
    n_draws, generator = 5 * options.draws - 1, np.random.default_rng(0)
    sheets = [permuted_grid(options.side**2, f"sheet.{number}") for number in range(options.maps)]
    maps = [random_map(sheet, n_draws, generator) for sheet in sheets]
    values = [one.values.astype(np.float64) for one in maps]
    warnings.simplefilter("ignore")
    lattice = lat2W(options.side, options.side, rook=False)
    own = neighbours(sheets[0])
    np.testing.assert_allclose(morans_i(maps[0]).value, Moran(values[0], own, permutations=0).I, atol=1e-6)
    draws = [Moran(one.astype(np.float64), own, permutations=0).I for one in maps[0].nulls["unit"][:3]]
    np.testing.assert_allclose(morans_i(maps[0]).unit_null.draws[:3], draws, atol=1e-6)
    table(
        f"Moran's I of {options.maps} maps of {options.side} x {options.side}, {n_draws} draws",
        {
            "esda, one null, weights made before": lambda: [
                Moran(one, lattice, permutations=n_draws) for one in values
            ],
            "topographic, three nulls, weights made before": lambda: [morans_i(one) for one in maps],
        },
        options,
    )


def neighbours(sheet: Sheet) -> W:
    found: dict[int, list[int]] = {unit: [] for unit in range(sheet.n_units)}
    for one, other in adjacent_pairs(sheet).tolist():
        found[one].append(other)
    return W(found, silence_warnings=True)


def largest_clusters(options: argparse.Namespace) -> None:
    """The largest cluster mass of every null map of every sheet."""
    sheets = [permuted_grid(options.side**2, f"sheet.{number}") for number in range(max(1, options.maps // 8))]
    generator = np.random.default_rng(0)
    maps = {sheet.name: random_map(sheet, options.draws, generator) for sheet in sheets}

    def plain() -> list[float]:
        p = []
        largest, masses = np.zeros(options.draws), []
        for one in maps.values():
            graph = adjacency(one.sheet, "rook")
            for sign in (1.0, -1.0):
                masses += plain_masses(graph, sign * one.values)
                drawn = [max(plain_masses(graph, sign * draw), default=0.0) for draw in one.nulls["label"]]
                largest = np.maximum(largest, drawn)
        for mass in sorted(masses, reverse=True):
            p.append((1 + (largest >= mass * (1 - 1e-6)).sum()) / (options.draws + 1))
        return p

    def ours() -> list[float]:
        return [test.p_mass for test in cluster_mass_test(maps, threshold=1.0)]

    np.testing.assert_allclose(ours(), plain())
    what = f"cluster masses of {len(maps)} maps of {options.side} x {options.side}, {options.draws} draws, both signs"
    table(what, {"one draw after the other": plain, "topographic": ours}, options)


def plain_masses(graph, values: np.ndarray) -> list[float]:
    members = np.flatnonzero(values > 1.0)
    if not len(members):
        return []
    labels = connected_components(graph[members][:, members], directed=False)[1]
    return np.bincount(labels, values[members].astype(np.float64) - 1.0).tolist()


def random_map(sheet: Sheet, n_draws: int, generator: np.random.Generator) -> UnitMap:
    nulls = {
        null: generator.standard_normal((n_draws, sheet.n_units)).astype(np.float32)
        for null in ("floor", "unit", "label")
    }
    return UnitMap(sheet.name, generator.standard_normal(sheet.n_units), sheet, "t", nulls=nulls)


def table(what: str, arms: dict[str, Callable[[], object]], options: argparse.Namespace) -> None:
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(options.pairs):
        for name, arm in arms.items():
            start = clock()
            arm()
            seconds[name].append(clock() - start)
    slow, fast = seconds.values()
    ratios = [one / other for one, other in zip(slow, fast, strict=True)]
    print(f"{what}, {options.pairs} pairs\n\n| {' | '.join(arms)} | ratio (interquartile range) |\n|---|---|---|")
    print(f"| {' | '.join(f'{statistics.median(one):.3f} s' for one in (slow, fast))} | {spread(ratios, '{:.1f}')} |\n")


BENCHMARKS = {"readout": readout_nulls, "moran": autocorrelation, "clusters": largest_clusters}

if __name__ == "__main__":
    main()
