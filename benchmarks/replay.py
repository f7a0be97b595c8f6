"""How long curves of steering and lesions at the last block take when what lies before it is replayed, and when not.

    python benchmarks/replay.py                       # 12 blocks of 256 units, random weights
    python benchmarks/replay.py --gguf FILE           # a pretrained model
    python benchmarks/replay.py --quick               # a small model

Every reading is the perplexity of the same sentences under another edit of one site. The two ways run in turns in one
process; their tables are compared digit by digit. Prints a Markdown table.
"""

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from spatial_loss import machine, spread
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from topographic.behaviour import perplexity, token_log_probabilities
from topographic.interventions import direction_controls, lesion_effects, micro_stimulation, steering_curve
from topographic.maps import Selection
from topographic.recording import find_sites
from topographic.runs import load_model
from topographic.sheets import grid
from topographic.stimuli import load_localizer
from topographic.training.text.tokenizer import train_tokenizer

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path, help="file of a pretrained causal model; without it random weights")
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--vocabulary", type=int, default=8192)
    parser.add_argument("--sentences", type=int, default=24)
    parser.add_argument("--draws", type=int, default=2, help="of each control")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: this process's own time")
    parser.add_argument("--quick", action="store_true", help="everything small, to see that it runs")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.quick:
        vars(options).update(blocks=3, units=36, vocabulary=400, sentences=8, draws=1, pairs=1)
    torch.set_num_threads(options.threads)
    model, tokenizer = loaded(options)
    texts = load_localizer("language").items[: options.sentences]
    block = find_sites(model, "resid")[-1]
    print(f"Machine: {machine('cpu')}\n")
    print(
        f"{type(model).__name__}, {len(texts)} sentences, edits at {block}, {options.pairs} pairs, {options.clock} time"
    )
    print("\n| curve | readings | as usual | replayed | times faster (quartiles) |")
    print("|---|---|---|---|---|")
    for name, curve in {"steering": steered, "lesions": lesioned}.items():
        print(compared(name, curve(model, block, reader(tokenizer, texts), options.draws), options), flush=True)


def loaded(options: argparse.Namespace) -> tuple[nn.Module, object]:
    """The model that was named, or one of random weights."""
    if options.gguf:
        return load_model(options.gguf, device="cpu")
    tokenizer = train_tokenizer(load_localizer("language").items, 300)
    torch.manual_seed(0)
    sizes = {"n_layer": options.blocks, "n_embd": options.units, "n_head": 4, "n_positions": 64}
    tokens = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    return GPT2LMHeadModel(GPT2Config(vocab_size=options.vocabulary, **sizes, **tokens)).eval(), tokenizer


def reader(tokenizer: object, texts: tuple[str, ...]) -> Callable[[nn.Module], dict[str, float]]:
    """What is read of a model: the perplexity of some texts."""
    return lambda model: {"perplexity": perplexity(token_log_probabilities(model, tokenizer, texts, progress=False))}


def steered(model: nn.Module, site: str, read: Callable, draws: int) -> Callable[[], list]:
    target = micro_stimulation(site, grid(model.config.hidden_size, site), 0, sigma_mm=2.0)
    controls = direction_controls(target, draws)
    return lambda: steering_curve(model, target, (-4.0, -2.0, 2.0, 4.0), read, controls=controls, progress=False)


def lesioned(model: nn.Module, site: str, read: Callable, draws: int) -> Callable[[], list]:
    sheet = grid(model.config.hidden_size, site)
    chosen = Selection(site, np.arange(sheet.n_units) % 20 == 0, sheet, "every twentieth")
    return lambda: lesion_effects(model, chosen, {site: sheet}, read, n_draws=3 * draws)


def compared(name: str, curve: Callable[[], list], options: argparse.Namespace) -> str:
    """Both ways in turns, their tables compared."""
    readings = 1 + 4 * (1 + 2 * options.draws) if name == "steering" else 2 + 3 * 3 * options.draws
    seconds: dict[str, list[float]] = {"as usual": [], "replayed": []}
    tables = {}
    for _ in range(options.pairs):
        for way, taken in seconds.items():
            with contextlib.ExitStack() as stack:
                if way == "as usual":
                    room = f"topographic.interventions.{name}.replayed"
                    stack.enter_context(mock.patch(room, return_value=contextlib.nullcontext()))
                start = CLOCKS[options.clock]()
                tables[way] = repr(curve())
                taken.append(CLOCKS[options.clock]() - start)
    if tables["as usual"] != tables["replayed"]:
        raise SystemExit(f"{name}: the tables differ")
    ratios = [one / other for one, other in zip(*seconds.values(), strict=True)]
    medians = " | ".join(f"{statistics.median(taken):.2f} s" for taken in seconds.values())
    return f"| {name} | {readings} | {medians} | {spread(ratios, '{:.2f}')} |"


if __name__ == "__main__":
    main()
