"""Time and memory of a Topoformer layer beside the same layer without locality, and beside a plain transcription.

    python benchmarks/topoformer.py
    python benchmarks/topoformer.py --device cuda --batch-size 32
    python benchmarks/topoformer.py --published CLONE        # beside the published attention (TahaBinhuraib/topoformer)
    python benchmarks/topoformer.py --bf16                   # all of them in bfloat16 too, under autocast
    python benchmarks/topoformer.py --quick                  # see that it runs

A layer is attention and MLP, forward and backward. All are timed in turns (A B C A B C ...), so that what else the
machine does hits each; ratios are of one round each.
"""

import argparse
import copy
import importlib
import statistics
import sys
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import torch
from spatial_loss import paired_seconds
from torch import Tensor, nn

from topographic.layers import receptive_fields
from topographic.models import TopoformerConfig
from topographic.models.modeling_topoformer import TopoformerBlock
from topographic.sheets import grid


class PlainAttention(nn.Module):
    """The equations as they stand, with all intermediates, and weights that are overwritten in every pass."""

    def __init__(self, n_units: int, querying: Tensor, reweighting: Tensor) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(n_units, n_units) for _ in range(4))
        self.register_buffer("querying", querying)
        self.register_buffer("reweighting", reweighting)

    def forward(self, hidden_states: Tensor, **_: object) -> tuple[Tensor, None]:
        """What is attended to, through the output map."""
        query, key, value = self.query(hidden_states), self.key(hidden_states), self.value(hidden_states)
        fields = self.querying.float()
        strength = fields / torch.linalg.matrix_norm(fields)
        scores = torch.matmul(torch.matmul(query, strength), key.transpose(-1, -2)) / query.shape[-1] ** 0.5
        attended = torch.matmul(torch.softmax(scores, dim=-1), value)
        self.output.weight.data = torch.abs(self.output.weight.data * self.reweighting)
        return self.output(attended), None


class PublishedAttention(nn.Module):
    """Its attention as it stands; the block around it, which does not run as it was released, is ours."""

    def __init__(self, n_units: int, checkout: str) -> None:
        super().__init__()
        sys.path.insert(0, checkout)
        asked = {"hidden_size": n_units, "sq": 0.3, "sr": 0.3, "mask_type": "circular", "qkv_bias": True, "relu": False}
        asked |= {"learned_spatial_querying": False, "local_querying": False}
        asked |= {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0}
        config = type("Config", (SimpleNamespace,), {"__getitem__": lambda own, name: getattr(own, name)})(**asked)
        self.attention = importlib.import_module("topoformer.models.attention").AttentionOutput(config)

    def forward(self, hidden_states: Tensor, **_: object) -> tuple[Tensor, None]:
        """What is attended to, through the output map."""
        return self.attention(hidden_states)


def main() -> None:
    options = parse_options()
    if options.threads:
        torch.set_num_threads(options.threads)
    n_units = options.side**2
    shape = {"n_embd": n_units, "n_inner": 4 * n_units, "n_layer": 1, "gated": False, "bias": True, "dropout": 0.0}
    shape["attn_implementation"] = "sdpa"
    local = TopoformerConfig(**shape)
    plain = TopoformerConfig(**shape, querying_fraction=None, reweighting_fraction=None)
    transcribed = block(plain, options)
    fields = [receptive_fields(grid(n_units, wrap=True), 0.3).to(options.device) for _ in range(2)]
    transcribed.attn = PlainAttention(n_units, *fields).to(options.device)
    arms = {"local": block(local, options), "without locality": block(plain, options), "transcription": transcribed}
    if options.published:
        arms["published"] = block(plain, options)
        arms["published"].attn = PublishedAttention(n_units, options.published).to(options.device)
    hidden_states = torch.randn(
        (options.batch_size, options.tokens, n_units), generator=torch.Generator().manual_seed(0)
    ).to(options.device)
    hidden_states.requires_grad_()

    low = {f"{name}, bfloat16": copy.deepcopy(arm) for name, arm in arms.items()} if options.bf16 else {}
    arms |= low

    def step(name: str, module: nn.Module) -> None:
        for parameter in module.parameters():
            parameter.grad = None
        hidden_states.grad = None
        with torch.autocast(options.device, torch.bfloat16, enabled=name in low):
            output = module(hidden_states)
        (output[0] if isinstance(output, tuple) else output).sum().backward()

    described = (
        f"{options.batch_size} x {options.tokens} tokens, {options.side} x {options.side} units, {options.device}"
    )
    print(f"{described}, {torch.get_num_threads()} threads, torch {torch.__version__}, {options.repeats} rounds\n")
    attention = {name: arm.attn for name, arm in arms.items()}
    for what, compared in (("layer", arms), ("its attention alone", attention)):
        seconds = paired_seconds({name: partial(step, name, arm) for name, arm in compared.items()}, options)
        kept = {name: megabytes(partial(step, name, arm), arm, options) for name, arm in compared.items()}
        print(f"| {what} | median time | time, without locality = 1 | memory | memory, without locality = 1 |")
        print("|---|---|---|---|---|")
        base = "without locality"
        for name in compared:
            ratios = [one / other for one, other in zip(seconds[name], seconds[base], strict=True)]
            print(
                f"| {name} | {1000 * statistics.median(seconds[name]):.1f} ms | {statistics.median(ratios):.2f} | "
                f"{kept[name]:.1f} MB | {kept[name] / kept[base]:.2f} |"
            )
        print()
        for ours in ("local", "local, bfloat16") if low else ("local",):
            for name in [one for one in compared if one.split(",")[0] not in ("local", base)]:
                ratios = [slow / fast for slow, fast in zip(seconds[name], seconds[ours], strict=True)]
                print(f"{name.capitalize()} over {ours}: {statistics.median(ratios):.2f}\n")


def block(config: TopoformerConfig, options: argparse.Namespace) -> TopoformerBlock:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TopoformerBlock(config, 0).to(options.device)


def megabytes(arm: Callable[[], None], module: nn.Module, options: argparse.Namespace) -> float:
    """Highest use of a GPU; elsewhere what is kept for the way back, each storage once, and weights and buffers."""
    if options.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        arm()
        return torch.cuda.max_memory_allocated() / 2**20
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    for held in [*module.parameters(), *module.buffers()]:
        keep(held)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        arm()
    return sum(kept.values()) / 2**20


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=28, help="units along each side of the sheet")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, help="CPU threads; torch's own choice by default")
    parser.add_argument("--published", help="folder of a clone of the published code")
    parser.add_argument("--bf16", action="store_true", help="each also in bfloat16")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="everything small, to see that it runs")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(side=6, tokens=16, batch_size=2, repeats=2, warmup=0)
    return options


if __name__ == "__main__":
    main()
