"""Speed of the rotation that lays a population out on a sheet, against the plain way, side by side.

    python benchmarks/layouts.py                 # a site of 576 units, 8,000 samples
    python benchmarks/layouts.py --quick         # see that it runs

The plain way is torch's orthogonal parametrization by the matrix exponential, Adam, and all samples of a batch; both
take as many steps on as many neighbourhoods. Prints a Markdown table. The two are timed in turns.
"""

import argparse
import statistics
import time

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal
from tqdm.auto import tqdm

from topographic.layouts import fit_assignment, fit_rotation, moments
from topographic.layouts.blocks import fitting_neighborhoods
from topographic.losses import spatial_correlation_loss
from topographic.sheets import Sheet, grid, sample_neighborhoods


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=576)
    parser.add_argument("--samples", type=int, default=8000, help="as many again are held out")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.units, options.samples, options.steps, options.pairs = 36, 200, 5, 1
    torch.set_num_threads(options.threads)
    sheet = grid(options.units)
    values, others = population(sheet, 2 * options.samples).chunk(2)
    mean, scale = moments(values)
    held_out = (others - mean) / scale
    arms = {
        "plain": lambda: plain_rotation((values - mean) / scale, sheet, options.steps),
        "fit_rotation": lambda: fit_rotation(values, sheet, steps=options.steps),
    }
    seconds: dict[str, list[float]] = {name: [] for name in [*arms, "fit_assignment"]}
    losses = {}
    for _ in tqdm(range(options.pairs), desc="pairs"):
        for name, arm in arms.items():
            start = time.perf_counter()
            rotation = arm()
            seconds[name].append(time.perf_counter() - start)
            losses[name] = loss(held_out @ rotation, sheet)
        start = time.perf_counter()
        order = fit_assignment(values, sheet)
        seconds["fit_assignment"].append(time.perf_counter() - start)
        losses["fit_assignment"] = loss(held_out[:, order], sheet)
    ratios = [slow / fast for slow, fast in zip(seconds["plain"], seconds["fit_rotation"], strict=True)]
    print(f"{options.units} units, {options.samples} samples, {options.steps} steps, {options.threads} threads\n")
    print("| way | seconds a site (median) | loss on held-out samples |\n|---|---|---|")
    print(f"| row-major | | {loss(held_out, sheet):.3f} |")
    for name, found in seconds.items():
        print(f"| {name} | {statistics.median(found):.2f} | {losses[name]:.3f} |")
    print(f"\nplain / fit_rotation: median of {options.pairs} ratios {statistics.median(ratios):.1f}")


def population(sheet: Sheet, n_samples: int) -> Tensor:
    """Smooth activity on a sheet, mixed by a random rotation."""
    generator = torch.Generator().manual_seed(0)
    apart = torch.cdist(sheet.positions_mm, sheet.positions_mm)
    kernel = torch.exp(-apart.square() / 4.5).float()
    mixing = torch.linalg.qr(torch.randn(kernel.shape, generator=generator))[0]
    smooth = torch.randn(n_samples, len(kernel), generator=generator) @ (kernel / kernel.norm(dim=0))
    return (smooth + 0.3 * torch.randn(smooth.shape, generator=generator)) @ mixing


def plain_rotation(values: Tensor, sheet: Sheet, n_steps: int) -> Tensor:
    """What one would write first."""
    generator = torch.Generator().manual_seed(0)
    every = fitting_neighborhoods(sheet)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = orthogonal(nn.Linear(sheet.n_units, sheet.n_units, bias=False), orthogonal_map="matrix_exp")
    adam = torch.optim.Adam(layer.parameters(), lr=3e-3)
    for _ in range(n_steps):
        chosen = sample_neighborhoods(every, min(16, len(every)), generator=generator)
        rows = torch.randperm(len(values), generator=generator)[:2048]
        spatial_correlation_loss(layer(values[rows]), sheet.positions_mm, chosen).backward()
        adam.step()
        adam.zero_grad()
    return layer.weight.detach().T


def loss(z: Tensor, sheet: Sheet) -> float:
    """Over all neighbourhoods."""
    return float(spatial_correlation_loss(z, sheet.positions_mm, fitting_neighborhoods(sheet)))


if __name__ == "__main__":
    main()
