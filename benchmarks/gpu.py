"""Everything that needs a CUDA device, in a few minutes on one card, as one Markdown table.

    make gpu
    python benchmarks/gpu.py --device cpu --tiny     # a rehearsal: everything small, nothing compiled

Tests marked ``gpu``; both losses alone, beside plain transcriptions; both inside compiled bfloat16 steps of the paper's
model beside alpha = 0; kernel launches; tokens per second of recipes/topolm/paper.yaml; attention with heads of 49 as
they are and padded to 56; recording of 12 blocks. Without a device it says so in one line and ends well.
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from plain_spatial_loss import as_masks, plain_spatial_loss
from pyramid_loss import interpolated_loss
from recording import Words, arguments, compared
from spatial_loss import (
    PlainTerm,
    count_launches,
    draw_neighborhoods,
    machine,
    milliseconds,
    paired_seconds,
    spread,
)
from torch import Tensor

from topographic.losses import laplacian_pyramid_loss, spatial_correlation_loss
from topographic.models import TopoLMForCausalLM, preset
from topographic.objectives.objective import Objective, SpatialCorrelation, Term
from topographic.sheets import permuted_grid

Row = tuple[str, str, str]
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="everything small, to see that it runs")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device: nothing to measure here (rehearse with --device cpu --tiny)")
        return
    sizes = {"sheets": 24, "units": 784, "tokens": 49152, "radius": 5, "preset": "paper", "batch": 48, "length": 1024}
    if options.tiny:
        sizes = {"sheets": 2, "units": 36, "tokens": 32, "radius": 2, "preset": "tiny", "batch": 2, "length": 16}
    rounds = {"repeats": 1, "warmup": 0} if options.tiny else {"repeats": 10, "warmup": 3}
    vars(options).update(sizes, **rounds, neighborhoods=5)
    if options.device == "cuda":
        torch.set_float32_matmul_precision("high")
    print(f"{machine(options.device)}\n\n| measured | figure | beside |\n|---|---|---|")
    for part in PARTS:
        for row in part(options):
            print(f"| {' | '.join(row)} |", flush=True)


def marked_tests(options: argparse.Namespace) -> Iterator[Row]:
    """What pytest says of the tests that need a device; a rehearsal has none."""
    if options.device == "cpu":
        yield "tests marked gpu", "not run", "they need a device"
        return
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "tests/losses"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    last = next((line for line in reversed(ended.stdout.splitlines()) if "passed" in line or "failed" in line), "")
    yield "tests marked gpu", "passed" if ended.returncode == 0 else f"exit status {ended.returncode}", last.strip("= ")


def losses_alone(options: argparse.Namespace) -> Iterator[Row]:
    """Forward and backward of both losses beside plain transcriptions."""
    sheets = [permuted_grid(options.units, f"sheet.{number}") for number in range(options.sheets)]
    chosen = torch.stack([draw_neighborhoods(sheet, options, number) for number, sheet in enumerate(sheets)])
    chosen = chosen.to(options.device)
    positions_mm = torch.stack([sheet.positions_mm for sheet in sheets]).to(options.device, torch.float32)
    masks = as_masks(chosen, options.units)
    drawn = torch.randn(options.sheets, options.tokens, options.units, device=options.device, dtype=torch.bfloat16)
    activations = [sheet.requires_grad_() for sheet in drawn.unbind()]
    n_layers, width = (1, 8) if options.tiny else (12, 768)
    weights = [torch.randn(3072, width, device=options.device, requires_grad=True) for _ in range(n_layers)]
    pairs: dict[str, tuple[list[Tensor], Callable[[], Tensor], Callable[[], Tensor]]] = {
        "spatial loss": (
            activations,
            lambda: plain_spatial_loss([one.float() for one in activations], positions_mm, masks),
            lambda: spatial_correlation_loss(activations, positions_mm, chosen),
        ),
        "pyramid loss": (
            weights,
            lambda: torch.stack([interpolated_loss(one.view(48, 64, -1), 3.0) for one in weights]).mean(),
            lambda: torch.stack([laplacian_pyramid_loss(one, 3.0) for one in weights]).mean(),
        ),
    }
    for name, (inputs, plain, fast) in pairs.items():

        def both_ways(loss: Callable[[], Tensor], inputs: list[Tensor] = inputs) -> None:
            torch.autograd.grad(loss(), inputs)

        torch.testing.assert_close(fast().float(), plain().float(), rtol=1e-2, atol=1e-3)
        arms = {"plain": lambda plain=plain: both_ways(plain), "fast": lambda fast=fast: both_ways(fast)}
        seconds = paired_seconds(arms, options)
        ratios = [one / other for one, other in zip(seconds["plain"], seconds["fast"], strict=True)]
        launches = [count_launches(arm, options.device)[0] for arm in arms.values()]
        yield f"{name} alone", milliseconds(seconds["fast"]), f"plain over it {spread(ratios, '{:.2f}')}"
        yield f"{name}, launches", str(launches[1]), f"plain {launches[0]}"


def training_steps(options: argparse.Namespace) -> Iterator[Row]:
    """Steps of the paper's model, compiled and in bfloat16, with and without the losses; tokens per second."""
    torch.manual_seed(0)
    model = TopoLMForCausalLM(preset(options.preset)).to(options.device).train()
    sheets = model.sheets()
    own = SpatialCorrelation(layout=sheets, radius=options.radius, n_neighborhoods=options.neighborhoods)
    terms: dict[str, list[Term]] = {"alpha = 0": [], "spatial loss": [own], "plain loop": [PlainTerm(sheets, options)]}
    objectives = {name: Objective(model, chosen) for name, chosen in terms.items()}
    running = model if options.tiny else torch.compile(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=options.device == "cuda")
    ids = torch.randint(model.config.vocab_size, (options.batch, options.length), device=options.device)
    weights = [parameter for name, parameter in model.named_parameters() if name.endswith("c_fc.weight")]

    def step(objective: Objective, *, pyramid: bool = False) -> None:
        with torch.autocast(options.device, dtype=torch.bfloat16), objective.listen(running):
            task_loss = running(input_ids=ids, labels=ids).loss
        loss = objective(task_loss, draw=0)[0]
        if pyramid:
            loss = loss + torch.stack([laplacian_pyramid_loss(one, 3.0) for one in weights]).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    arms = {name: lambda one=one: step(one) for name, one in objectives.items()}
    if weights:
        arms["pyramid loss"] = lambda: step(objectives["alpha = 0"], pyramid=True)
    seconds = paired_seconds(arms, options)
    for name, own_seconds in seconds.items():
        more = [100 * (one / bare - 1) for one, bare in zip(own_seconds, seconds["alpha = 0"], strict=True)]
        rate = options.batch * options.length / statistics.median(own_seconds)
        beside = "" if name == "alpha = 0" else f"over alpha = 0 {spread(more, '{:+.1f} %')}"
        yield f"training step, {name}", f"{milliseconds(own_seconds)}, {rate:,.0f} tokens/s", beside


def padded_heads(options: argparse.Namespace) -> Iterator[Row]:
    """Causal attention with heads of 49 as they are, and padded with zeros to 56."""
    shape = (options.batch, 16, options.length, 49)
    drawn = [torch.randn(shape, device=options.device, dtype=torch.bfloat16, requires_grad=True) for _ in range(3)]

    def attention() -> Tensor:
        return F.scaled_dot_product_attention(*drawn, is_causal=True)

    def padded() -> Tensor:
        # the scale is that of the 49; zeros add nothing to a product
        wide = [F.pad(one, (0, 7)) for one in drawn]
        return F.scaled_dot_product_attention(*wide, is_causal=True, scale=49**-0.5)[..., :49]

    torch.testing.assert_close(padded(), attention(), rtol=2e-2, atol=2e-2)
    arms = {"49": lambda: torch.autograd.grad(attention().sum(), drawn)}
    seconds = paired_seconds({**arms, "56": lambda: torch.autograd.grad(padded().sum(), drawn)}, options)
    ratios = [one / other for one, other in zip(seconds["49"], seconds["56"], strict=True)]
    yield "attention, heads of 49", milliseconds(seconds["49"]), f"over padded to 56 {spread(ratios, '{:.2f}')}"


def recording(options: argparse.Namespace) -> Iterator[Row]:
    """12 blocks beside a bare loop."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_layer": 12} if not options.tiny else {"n_layer": 2, "n_embd": 32, "n_head": 2, "vocab_size": 96}
    items = "8" if options.tiny else "960"
    own = arguments(["--device", options.device, "--items", items, "--pairs", str(options.repeats)])
    *_, figures = compared(GPT2LMHeadModel(GPT2Config(**sizes)), Words(), own).splitlines()
    bare, record, ratio = figures.strip("| ").split(" | ")
    yield f"recording of {sizes['n_layer']} blocks", record, f"bare loop {bare}, ratio {ratio}"


PARTS = (marked_tests, losses_alone, training_steps, padded_heads, recording)

if __name__ == "__main__":
    main()
