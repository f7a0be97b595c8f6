"""Speed of the spatial loss against a plain transcription, side by side on the machine at hand.

    python benchmarks/spatial_loss.py
    python benchmarks/spatial_loss.py --device cuda --tokens 49152 --dtype bfloat16
    python benchmarks/spatial_loss.py --training-step --device cuda
    python benchmarks/spatial_loss.py --quick                # see that it runs

Prints a Markdown table. The two are timed in turns (A B A B ...), so that what else the machine does hits both.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from plain_spatial_loss import as_masks, plain_spatial_loss
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from topographic.losses import spatial_correlation_loss
from topographic.objectives.objective import Draw, Objective, SpatialCorrelation, Term
from topographic.sheets import Sheet, local_neighborhoods, permuted_grid, sample_neighborhoods

# these only describe memory or reserve it
_NO_KERNEL = {
    "as_strided",
    "view",
    "_unsafe_view",
    "empty",
    "empty_strided",
    "empty_like",
    "resize_",
    "detach",
    "alias",
}
_WAITS = ("aten::nonzero", "aten::_local_scalar_dense")


def main() -> None:
    options = parse_options()
    if options.threads:
        torch.set_num_threads(options.threads)
    print(f"Machine: {machine(options.device)}\n")
    if options.training_step:
        training_step(options)
    else:
        loss_alone(options)


def loss_alone(options: argparse.Namespace) -> None:
    sheets = [permuted_grid(options.units, f"sheet.{index}") for index in range(options.sheets)]
    chosen = torch.stack([draw_neighborhoods(sheet, options, index) for index, sheet in enumerate(sheets)])
    chosen = chosen.to(options.device)
    positions_mm = torch.stack([sheet.positions_mm for sheet in sheets]).to(options.device, torch.float32)
    masks = as_masks(chosen, options.units)
    generator, dtype = torch.Generator().manual_seed(0), getattr(torch, options.dtype)
    shape = (options.sheets, options.tokens, options.units)
    drawn = torch.randn(shape, generator=generator).to(options.device, dtype)
    activations = [sheet.clone().requires_grad_() for sheet in drawn]

    def plain() -> Tensor:
        return plain_spatial_loss([sheet.float() for sheet in activations], positions_mm, masks)

    def batched() -> Tensor:
        return spatial_correlation_loss(activations, positions_mm, chosen)

    def forward_and_backward(loss: Callable[[], Tensor]) -> Tensor:
        for sheet in activations:
            sheet.grad = None
        value = loss()
        value.backward()
        return value.detach()

    torch.testing.assert_close(forward_and_backward(plain), forward_and_backward(batched), rtol=1e-4, atol=1e-6)
    arms = {"plain loop": plain, "batched": batched}
    seconds = paired_seconds({name: lambda arm=arm: forward_and_backward(arm) for name, arm in arms.items()}, options)
    counts = [count_launches(lambda arm=arm: forward_and_backward(arm), options.device) for arm in arms.values()]
    ratios = [slow / fast for slow, fast in zip(seconds["plain loop"], seconds["batched"], strict=True)]
    (slow_launches, slow_waits), (fast_launches, fast_waits) = counts
    print(
        f"Spatial loss, forward and backward: {options.sheets} sheets x {options.units} units, {options.neighborhoods} "
        f"neighbourhoods of {chosen.shape[-1]}, {options.tokens} tokens, {options.dtype}, {options.repeats} pairs\n"
    )
    print("| | plain loop | batched | ratio (interquartile range) |\n|---|---|---|---|")
    print(f"| median time | {' | '.join(milliseconds(seconds[name]) for name in arms)} | {spread(ratios, '{:.2f}')} |")
    kind = "kernels launched" if options.device == "cuda" else "operations"
    print(f"| {kind} | {slow_launches} | {fast_launches} | {slow_launches / fast_launches:.1f} |")
    print(f"| waits for the device | {slow_waits} | {fast_waits} | |")


def training_step(options: argparse.Namespace) -> None:
    """Overhead of the loss in a whole training step: forward, backward, AdamW."""
    from topographic.models import TopoLMForCausalLM, preset

    torch.manual_seed(0)
    model = TopoLMForCausalLM(preset(options.preset)).to(options.device).train()
    sheets = model.sheets()
    tokens = options.sequence_length or model.config.n_positions
    term = SpatialCorrelation(layout=sheets, radius=options.radius, n_neighborhoods=options.neighborhoods)
    terms: dict[str, list[Term]] = {"alpha = 0": [], "batched": [term], "plain loop": [PlainTerm(sheets, options)]}
    objectives = {name: Objective(model, chosen) for name, chosen in terms.items()}
    running = torch.compile(model) if options.compile else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    ids = torch.randint(model.config.vocab_size, (options.batch_size, tokens), device=options.device)

    def step(objective: Objective) -> None:
        with torch.autocast(options.device, dtype=torch.bfloat16), objective.listen(running):
            task_loss = running(input_ids=ids, labels=ids).loss
        objective(task_loss, draw=0)[0].backward()
        optimizer.step()
        optimizer.zero_grad()

    seconds = paired_seconds({name: lambda arm=arm: step(arm) for name, arm in objectives.items()}, options)
    print(
        f"Training step of preset {options.preset!r}: {len(sheets)} sheets, {options.batch_size} x {tokens} tokens, "
        f"bfloat16 autocast, {'compiled' if options.compile else 'not compiled'}, "
        f"{options.neighborhoods} neighbourhoods of radius {options.radius}, {options.repeats} rounds\n"
    )
    print("| | median step | over alpha = 0 (interquartile range) |\n|---|---|---|")
    for name in objectives:
        more = [100 * (own / bare - 1) for own, bare in zip(seconds[name], seconds["alpha = 0"], strict=True)]
        print(f"| {name} | {milliseconds(seconds[name])} | {spread(more, '{:+.1f} %')} |")


class PlainTerm:
    """The plain transcription as a term of the objective."""

    name, weight, per_step = "plain", 2.5, False

    def __init__(self, sheets: Mapping[str, Sheet], options: argparse.Namespace) -> None:
        self.sheets, self.options = sheets, options
        self.positions_mm = [sheet.positions_mm.to(options.device, torch.float32) for sheet in sheets.values()]
        self.every = {site: local_neighborhoods(sheet, options.radius) for site, sheet in sheets.items()}

    def taps(self, model: nn.Module) -> list[str]:
        """All sheets."""
        return list(self.sheets)

    def losses(
        self, model: nn.Module, activations: Mapping[str, Tensor], draw: Draw, token_mask: Tensor | None
    ) -> dict[str, Tensor]:
        """Sum over sheets, under one name."""
        generator = torch.Generator().manual_seed(draw.number)
        masks = [
            as_masks(
                sample_neighborhoods(every, self.options.neighborhoods, generator=generator).to(self.options.device),
                self.sheets[site].n_units,
            )
            for site, every in self.every.items()
        ]
        flat = [activations[site].flatten(0, -2).float() for site in self.sheets]
        return {"all": len(flat) * plain_spatial_loss(flat, self.positions_mm, masks)}

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """What it is already."""
        return losses["all"]


def draw_neighborhoods(sheet: Sheet, options: argparse.Namespace, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return sample_neighborhoods(local_neighborhoods(sheet, options.radius), options.neighborhoods, generator=generator)


def paired_seconds(arms: Mapping[str, Callable[[], object]], options: argparse.Namespace) -> dict[str, list[float]]:
    """Time every arm in turn, round after round; the first rounds warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for repeat in range(options.warmup + options.repeats):
        for name, arm in arms.items():
            wait(options.device)
            start = time.perf_counter()
            arm()
            wait(options.device)
            if repeat >= options.warmup:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def count_launches(arm: Callable[[], object], device: str) -> tuple[int, int]:
    """Kernels on CUDA, elsewhere operations that compute something; and operations that wait for the device."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device == "cuda" else [])]
    with profile(activities=activities) as profiled:
        arm()
        wait(device)
    events = profiled.events()
    waits = sum(event.name in _WAITS for event in events)
    if device == "cuda":
        return sum(event.device_type == DeviceType.CUDA for event in events), waits
    innermost = [event for event in events if event.name.startswith("aten::") and not event.cpu_children]
    return sum(event.name.removeprefix("aten::") not in _NO_KERNEL for event in innermost), waits


def milliseconds(seconds: Sequence[float]) -> str:
    return f"{1000 * statistics.median(seconds):.1f} ms"


def spread(values: Sequence[float], form: str) -> str:
    low, middle, high = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return f"{form.format(middle)} ({form.format(low)} to {form.format(high)})"


def machine(device: str) -> str:
    described = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        described = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), described)
    gpu = f", {torch.cuda.get_device_name()}" if device == "cuda" else ""
    return f"{described}, {torch.get_num_threads()} threads{gpu}, torch {torch.__version__}"


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sheets", type=int, default=24)
    parser.add_argument("--units", type=int, default=784)
    parser.add_argument("--tokens", type=int, default=4096, help="samples of the loss alone")
    parser.add_argument("--neighborhoods", type=int, default=5)
    parser.add_argument("--radius", type=int, default=5)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, help="CPU threads; torch's own choice by default")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--training-step", action="store_true", help="time the loss inside a whole training step")
    parser.add_argument("--preset", default="paper", help="size of the model in --training-step")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--sequence-length", type=int, help="the model's longest by default")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--quick", action="store_true", help="everything small, to see that it runs")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(sheets=2, units=36, tokens=32, radius=2, repeats=1, warmup=0, compile=False)
        vars(options).update(preset="tiny", batch_size=2, sequence_length=16)
    return options


if __name__ == "__main__":
    main()
