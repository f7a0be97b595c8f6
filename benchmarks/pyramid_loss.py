"""How long `laplacian_pyramid_loss` takes: beside the package topoloss 0.0.2, and in a training step of GPT-2 small.

    python benchmarks/pyramid_loss.py speed --pairs 15
    python benchmarks/pyramid_loss.py step --pairs 3
    python benchmarks/pyramid_loss.py step --quick           # see that it runs

Runs are paired (A B A B ...), so that whatever else the machine does falls on both. The table goes to stdout. To
compare with the package put it on the path (``pip install --no-deps topoloss==0.0.2 torchtyping typeguard``); without
it, `speed` compares with a transcription by ``F.interpolate`` and says so.
"""

import argparse
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from topographic.losses.pyramid import laplacian_pyramid_loss, sheet_shape
from topographic.losses.weight_sheets import weight_sheets


def main() -> None:
    """Read the command line and run one of the two benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("benchmark", choices=sorted(BENCHMARKS))
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: this process's own time, for a busy machine"
    )
    parser.add_argument("--factor", type=float, default=3.0)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768, help="of the stream; a sheet has four times as many units")
    parser.add_argument("--micro-batches", type=int, default=8, help="per optimiser step")
    parser.add_argument("--tokens", type=int, default=1024, help="of a micro-batch")
    parser.add_argument("--quick", action="store_true", help="everything small, to see that it runs")
    arguments = parser.parse_args()
    if arguments.quick:
        vars(arguments).update(pairs=1, layers=1, width=48, micro_batches=1, tokens=16)
    torch.set_num_threads(arguments.threads)
    BENCHMARKS[arguments.benchmark](arguments)


def compare_with_package(arguments: argparse.Namespace) -> None:
    """Forward and backward of the mean loss over layers of 3072 x 768."""
    torch.manual_seed(0)
    width = arguments.width
    model = nn.ModuleList(nn.Linear(width, 4 * width, bias=False) for _ in range(arguments.layers)).to(arguments.device)
    name, baseline = package_loss(model, arguments.factor)

    def ours() -> Tensor:
        return torch.stack([laplacian_pyramid_loss(layer.weight, arguments.factor) for layer in model]).mean()

    def timed(loss: Callable[[], Tensor]) -> float:
        model.zero_grad()
        start = now(arguments)
        loss().backward()
        return now(arguments) - start

    gradients = []
    for loss in (baseline, ours):
        timed(loss)
        gradients.append(model[0].weight.grad.clone())
    torch.testing.assert_close(ours(), baseline(), rtol=0, atol=1e-5)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-5 * gradients[0].abs().max().item())

    seconds = np.array([[timed(baseline), timed(ours)] for _ in range(arguments.pairs)])
    ratio = seconds[:, 0] / seconds[:, 1]
    print(f"{arguments.layers} layers of {4 * width} x {width}, factor {arguments.factor:g}, float32, both directions.")
    print(f"{conditions(arguments)}\n")
    print("| loss | median ms | IQR ms |\n|---|---|---|")
    for label, column in ((name, seconds[:, 0]), ("topographic", seconds[:, 1])):
        print(f"| {label} | {np.median(column) * 1e3:.1f} | {spread(column * 1e3, 1)} |")
    print(f"\nSpeed-up: median {np.median(ratio):.2f}, IQR {spread(ratio, 2)}")


def package_loss(model: nn.ModuleList, factor: float) -> tuple[str, Callable[[], Tensor]]:
    """The loss of the package topoloss if it can be imported, or else the same arithmetic."""
    try:
        from topoloss import LaplacianPyramid, TopoLoss
    except ModuleNotFoundError as missing:
        return f"transcription by F.interpolate (no {missing.name})", lambda: torch.stack([
            interpolated_loss(layer.weight.view(*sheet_shape(len(layer.weight)), -1), factor) for layer in model
        ]).mean()
    losses = [LaplacianPyramid(str(layer), factor_h=factor, factor_w=factor) for layer in range(len(model))]
    compute = TopoLoss(losses).compute
    return f"topoloss {version('topoloss')}", lambda: compute(model)


def interpolated_loss(sheet: Tensor, factor: float) -> Tensor:
    image = sheet.permute(2, 0, 1)[None]
    small = F.interpolate(image, scale_factor=1 / factor, mode="bilinear")
    blurred = F.interpolate(small, size=sheet.shape[:2], mode="bilinear")[0].permute(1, 2, 0)
    return 1 - F.cosine_similarity(sheet, blurred, dim=-1).mean()


def overhead_of_a_step(arguments: argparse.Namespace) -> None:
    """Optimiser steps of GPT-2 small with the loss on every c_fc, computed once per step, and without it."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes = {"n_layer": arguments.layers, "n_embd": arguments.width, "n_positions": arguments.tokens}
    model = GPT2LMHeadModel(GPT2Config(**sizes)).to(arguments.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    layers = [block.mlp.c_fc for block in model.transformer.h]

    def step(topographic: bool, micro_batches: int = arguments.micro_batches) -> tuple[float, float]:
        optimizer.zero_grad()
        start = now(arguments)
        for _ in range(micro_batches):
            tokens = torch.randint(model.config.vocab_size, (1, arguments.tokens), device=arguments.device)
            (model(input_ids=tokens, labels=tokens).loss / micro_batches).backward()
        before = now(arguments)
        if topographic:
            losses = [laplacian_pyramid_loss(weight_sheets(layer)["weight"], arguments.factor) for layer in layers]
            torch.stack(losses).mean().backward()
        own = now(arguments) - before
        optimizer.step()
        return now(arguments) - start, own

    step(topographic=True, micro_batches=1)  # allocations and caches
    rows = [(step(topographic=False)[0], *step(topographic=True)) for _ in range(arguments.pairs)]
    without, with_loss, own = np.array(rows).T
    overhead, own_share = 100 * (with_loss / without - 1), 100 * own / (with_loss - own)
    shape = "{} x {}".format(*sheet_shape(4 * arguments.width))
    print(
        f"GPT-2 of width {arguments.width} ({arguments.layers} layers), {arguments.micro_batches} micro-batches of "
        f"{arguments.tokens} tokens per step, AdamW, float32; loss on {len(layers)} c_fc sheets of {shape}, "
        f"factor {arguments.factor:g}, once per step."
    )
    print(f"{conditions(arguments)}\n")
    print("| | median | IQR |\n|---|---|---|")
    print(f"| step without the loss, s | {np.median(without):.2f} | {spread(without, 2)} |")
    print(f"| step with the loss, s | {np.median(with_loss):.2f} | {spread(with_loss, 2)} |")
    print(f"| the loss itself within the step, s | {np.median(own):.3f} | {spread(own, 3)} |")
    print(f"| overhead, paired steps, % | {np.median(overhead):.2f} | {spread(overhead, 2)} |")
    print(f"| overhead, the loss over the rest of its step, % | {np.median(own_share):.2f} | {spread(own_share, 2)} |")


def now(arguments: argparse.Namespace) -> float:
    if arguments.device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.process_time() if arguments.clock == "cpu" else time.perf_counter()


def spread(values: np.ndarray, digits: int) -> str:
    low, high = np.percentile(values, [25, 75])
    return f"{low:.{digits}f} to {high:.{digits}f}"


def conditions(arguments: argparse.Namespace) -> str:
    if arguments.device.startswith("cuda"):
        machine = torch.cuda.get_device_name()
    else:
        described = Path("/proc/cpuinfo")
        lines = described.read_text(encoding="utf-8").splitlines() if described.is_file() else []
        machine = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())
        machine += f", {arguments.threads} threads"
    return f"{machine}; torch {torch.__version__}; {arguments.clock} time; {arguments.pairs} pairs."


BENCHMARKS = {"speed": compare_with_package, "step": overhead_of_a_step}

if __name__ == "__main__":
    main()
