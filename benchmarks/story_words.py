"""How long a story takes word by word: one forward pass a word beside one pass a window, which gives the same values.

    python benchmarks/story_words.py --model HuggingFaceTB/SmolLM2-135M
    python benchmarks/story_words.py --model FOLDER --gguf FILE --words 400
    python benchmarks/story_words.py --quick           # a small model with random weights

Both read the same tokens before each word and keep all blocks. One pass a word runs without a cache, one text at a
time, as LITcoder does. Prints a Markdown table; the two are timed in turns.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from spatial_loss import machine, spread
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel

from topographic.recording import align_words, context_starts, find_sites, record_words, tap
from topographic.stimuli import StimulusSet, load_localizer
from topographic.training.text.tokenizer import train_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="name or folder of a causal model; without it one with random weights")
    parser.add_argument("--gguf", help="file in the folder")
    parser.add_argument("--words", type=int, default=600)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--contexts", nargs="+", default=["half", "sliding", "restart"])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="everything small, to see that it runs")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(words=40, tokens=20, pairs=1)
    torch.set_num_threads(options.threads)
    model, tokenizer = loaded(options)
    print(f"Machine: {machine(options.device)}\n")
    print(f"{type(model).__name__}, {options.words} words, context {options.tokens} tokens, {options.pairs} pairs\n")
    print("| context | one pass a word | one pass a window | times faster (range) | largest difference |")
    print("|---|---|---|---|---|")
    for context in options.contexts:
        print(compared(model, tokenizer, context, options), flush=True)


def loaded(options: argparse.Namespace) -> tuple[nn.Module, object]:
    """The model that was named, or one of random weights."""
    if options.model:
        file = {"gguf_file": options.gguf} if options.gguf else {}
        model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32, **file)
        return model.to(options.device).eval(), AutoTokenizer.from_pretrained(options.model, **file)
    tokenizer = train_tokenizer(load_localizer("language").items, 300)
    torch.manual_seed(0)
    sizes = {"n_layer": 2, "n_embd": 32, "n_head": 2} if options.quick else {}
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **sizes)).to(options.device).eval(), tokenizer


def compared(model: nn.Module, tokenizer: object, context: str, options: argparse.Namespace) -> str:
    """Both ways in turns, their values compared."""
    spoken = " ".join(load_localizer("language").items).split()[: options.words]
    story = StimulusSet("story", spoken, ["word"] * len(spoken))
    sites = find_sites(model, "resid")
    aligned = align_words(tokenizer, story.items)
    first = context_starts(aligned.starts, aligned.ends, context, options.tokens)
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]

    def a_word() -> list[np.ndarray]:
        rows = []
        with torch.no_grad(), tap(model, sites) as heard:
            for start, end in zip(first, aligned.ends, strict=True):
                ids = torch.tensor([[*begin, *aligned.ids[start:end].tolist()]], device=options.device)
                model.base_model(input_ids=ids, use_cache=False)
                rows.append(np.stack([heard[site][0, -1].float().cpu().numpy() for site in sites]))
        return list(np.stack(rows, axis=1))

    def a_window() -> list[np.ndarray]:
        found = record_words(model, tokenizer, story, sites, context=context, n_tokens=options.tokens, progress=False)
        return [found[site].values for site in sites]

    seconds: dict[str, list[float]] = {"word": [], "window": []}
    values = {}
    for _ in range(options.pairs):
        for name, arm in (("word", a_word), ("window", a_window)):
            start = time.perf_counter()
            values[name] = arm()
            seconds[name].append(time.perf_counter() - start)
    largest = max(np.abs(one - other).max() / np.abs(one).max() for one, other in zip(*values.values(), strict=True))
    ratios = [one / other for one, other in zip(*seconds.values(), strict=True)]
    medians = " | ".join(f"{statistics.median(one):.2f} s" for one in seconds.values())
    return f"| {context} | {medians} | {spread(ratios, '{:.1f}')} | {largest:.1e} of the largest value |"


if __name__ == "__main__":
    main()
