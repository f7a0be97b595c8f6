"""Speed of the rotation that lays a population out on a sheet, against the plain way, side by side.

    python benchmarks/layouts.py                 # a site of 576 units, 8,000 samples
    python benchmarks/layouts.py --quick         # see that it runs
    python benchmarks/layouts.py --cache 50000   # memory while so many tokens of 60 sites are recorded

The plain way is torch's orthogonal parametrization by the matrix exponential, Adam, and all samples of a batch; both
take as many steps on as many neighbourhoods. Prints a Markdown table. The two are timed in turns.
"""

import argparse
import contextlib
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal
from tqdm.auto import tqdm
from transformers import LlamaConfig, LlamaForCausalLM

from topographic.layouts import cached_activations, fit_assignment, fit_rotation, moments
from topographic.layouts.blocks import fitting_neighborhoods
from topographic.losses import spatial_correlation_loss
from topographic.sheets import Sheet, grid, sample_neighborhoods
from topographic.training.text.tokenizer import train_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=576)
    parser.add_argument("--samples", type=int, default=8000, help="as many again are held out")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=int, metavar="TOKENS", help="measure the memory of a recording, nothing else")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.units, options.samples, options.steps, options.pairs = 36, 200, 5, 1
    torch.set_num_threads(options.threads)
    if options.cache:
        print(memory_of_a_recording(options.cache, options.units, n_layers=2 if options.quick else 30))
        return
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


def memory_of_a_recording(n_tokens: int, n_units: int, n_layers: int) -> str:
    """Attention and MLP of every layer of a model as wide as SmolLM2 and with hardly any weights; a table."""
    text = " ".join(f"word{number % 997}" for number in range(n_tokens))
    tokenizer = train_tokenizer([text[:20_000]], 400)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=n_units, intermediate_size=32, num_hidden_layers=n_layers,
        num_attention_heads=n_units // 12, max_position_embeddings=1024,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        before = _memory_gib()
        with highest_memory() as seen:
            model = LlamaForCausalLM(config).eval()
            weights_gib = sum(one.nbytes for one in model.parameters()) / 2**30
            cached_activations(model, tokenizer, text, ["attn", "mlp"], folder, n_tokens=n_tokens)
        on_disk = sum(file.stat().st_size for file in Path(folder).rglob("*.npy")) / 2**30
    columns = ("sites", "tokens", "units", "GiB on disk", "GiB of weights", "GiB before", "GiB of memory at most")
    found = (
        2 * n_layers,
        n_tokens,
        n_units,
        f"{on_disk:.2f}",
        f"{weights_gib:.2f}",
        f"{before:.2f}",
        f"{max(seen):.2f}",
    )
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (columns, ["---"] * len(columns), found))


@contextlib.contextmanager
def highest_memory() -> Iterator[list[float]]:
    """Memory of this process every few milliseconds; files that are mapped do not count, the system can drop them."""
    seen, ended = [_memory_gib()], threading.Event()

    def look() -> None:
        while not ended.wait(0.005):
            seen.append(_memory_gib())

    watching = threading.Thread(target=look)
    watching.start()
    try:
        yield seen
    finally:
        ended.set()
        watching.join()


def _memory_gib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 2**20


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
