"""How long `record` takes beside a bare loop of the same forward passes with hidden states and masked means.

    python benchmarks/recording.py --model HuggingFaceTB/SmolLM2-135M
    python benchmarks/recording.py --model FOLDER --gguf FILE
    python benchmarks/recording.py --whole           # record runs the head too, because a hook waits there
    python benchmarks/recording.py --quick           # a small model with random weights

The bare loop calls the whole model, head included; `record` stops after the last site. Prints a Markdown table.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from spatial_loss import machine, spread
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from topographic.recording import record
from topographic.recording.reading import text_batches, tokenize
from topographic.stimuli import StimulusSet


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="name or folder of a causal model; without it one with random weights")
    parser.add_argument("--gguf", help="file in the folder")
    parser.add_argument("--items", type=int, default=240)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: this process's own time")
    parser.add_argument("--whole", action="store_true", help="listen at the head as well, so that it is run")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="everything small, to see that it runs")
    return parser.parse_args(words)


def main() -> None:
    options = arguments()
    if options.quick:
        vars(options).update(items=6, pairs=1, threads=1)
    torch.set_num_threads(options.threads)
    print(f"Machine: {machine(options.device)}\n")
    print(compared(*(pretrained(options) if options.model else random_model(options.quick)), options))


class Words:
    """A tokenizer of whole words, for a model with random weights."""

    pad_token_id, bos_token_id = 0, None

    def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
        """Ids of every text, none of them special."""
        ids = [[1 + sum(map(ord, word)) % 95 for word in text.split()] for text in texts]
        return {"input_ids": ids, "special_tokens_mask": [[0] * len(one) for one in ids]}


def random_model(quick: bool) -> tuple[nn.Module, object]:
    """GPT-2 small, or a very small one."""
    sizes = {"n_layer": 2, "n_embd": 32, "n_head": 2, "vocab_size": 96} if quick else {}
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(**sizes)), Words()


def pretrained(options: argparse.Namespace) -> tuple[nn.Module, object]:
    file = {"gguf_file": options.gguf} if options.gguf else {}
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32, **file)
    return model, AutoTokenizer.from_pretrained(options.model, **file)


def compared(model: nn.Module, tokenizer: object, options: argparse.Namespace) -> str:
    """Both ways in turns, their values compared."""
    model = model.to(options.device).eval()
    generator = np.random.default_rng(0)
    words = [
        "the",
        "cat",
        "sat",
        "on",
        "a",
        "mat",
        "while",
        "people",
        "were",
        "reading",
        "books",
        "about",
        "old",
        "towers",
    ]
    items = tuple(" ".join(generator.choice(words, generator.integers(8, 14))) for _ in range(options.items))
    stimuli = StimulusSet("words", items, tuple("ab"[number % 2] for number in range(len(items))))
    lists = {name: len(module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    blocks, n_blocks = max(lists.items(), key=lambda one: one[1])
    # the last hidden state of some models has gone through a norm: it is no block's output
    sites = [f"{blocks}.{number}" for number in range(n_blocks - 1)]
    if options.whole:
        model.get_output_embeddings().register_forward_hook(lambda module, inputs, output: None)

    def bare() -> np.ndarray:
        values = np.empty((len(sites), len(items), model.config.hidden_size), np.float32)
        with torch.no_grad():
            for batch in text_batches(model, tokenizer, tokenize(tokenizer, stimuli, None), 32):
                ids, shown = (one.to(options.device) for one in batch.run.args)
                states = model(input_ids=ids, attention_mask=shown, output_hidden_states=True).hidden_states
                own = batch.own.to(options.device)[..., None]
                for row, state in zip(values, states[1:], strict=False):
                    row[batch.indices] = ((state * own).sum(1) / own.sum(1)).cpu().numpy()
        return values

    def ours() -> np.ndarray:
        found = record(model, tokenizer, stimuli, sites, progress=False)
        return np.stack([found[site].values for site in sites])

    np.testing.assert_allclose(ours(), bare(), rtol=1e-4, atol=1e-4)
    seconds: dict[str, list[float]] = {"bare loop": [], "record": []}
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    for _ in range(options.pairs):
        for name, arm in (("bare loop", bare), ("record", ours)):
            start = clock()
            arm()
            seconds[name].append(clock() - start)
    ratios = [one / other for one, other in zip(seconds["record"], seconds["bare loop"], strict=True)]
    medians = " | ".join(f"{statistics.median(one):.3f} s" for one in seconds.values())
    return (
        f"{len(sites)} sites, {len(items)} items, {options.pairs} pairs, {options.clock} clock\n\n"
        f"| bare loop | record | record over bare loop (interquartile range) |\n|---|---|---|\n"
        f"| {medians} | {spread(ratios, '{:.2f}')} |"
    )


if __name__ == "__main__":
    main()
