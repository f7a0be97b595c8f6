"""The README's examples run as they stand, on a small local model in place of a hub name."""

import re
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from topographic.losses import laplacian_pyramid_loss
from topographic.stimuli import load_localizer
from topographic.training.text.tokenizer import train_tokenizer

README = Path(__file__).resolve().parents[1] / "README.md"


EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def run(example):
    names = {}
    exec(compile(example, "README.md", "exec"), names)  # noqa: S102
    return names


def test_there_are_two_examples_and_both_are_short():
    assert len(EXAMPLES) == 2
    assert all(len(example.strip().splitlines()) <= 15 for example in EXAMPLES)


def test_the_example_of_maps_runs(tmp_path, capsys):
    example = EXAMPLES[0]
    tokenizer = train_tokenizer(load_localizer("language").items, 400)
    tokenizer.save_pretrained(tmp_path)
    shape = GPT2Config(vocab_size=len(tokenizer), n_positions=128, n_embd=36, n_layer=2, n_head=4)
    GPT2LMHeadModel(shape).save_pretrained(tmp_path)
    assert example.count('"gpt2"') == 2
    run(example.replace('"gpt2"', repr(str(tmp_path))))
    printed = capsys.readouterr().out
    assert "transformer.h.0.attn" in printed
    assert "transformer.h.1.attn" in printed


def test_the_example_of_two_lines_makes_the_layer_smooth():
    ours = [line for line in EXAMPLES[1].splitlines() if "objective" in line and "import" not in line]
    assert len(ours) == 2, "the promise is two lines"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = run(EXAMPLES[1])
        torch.manual_seed(0)
        control = run(EXAMPLES[1].replace("loss, _ = objective(task_loss)", "loss = task_loss"))
    smooth, rough = (laplacian_pyramid_loss(names["model"][0].weight).item() for names in (made, control))
    assert smooth < rough - 0.05  # of 16 steps


def test_files_that_the_readme_names_exist():
    text = README.read_text(encoding="utf-8")
    named = set(re.findall(r"(?:docs|recipes|examples|benchmarks)/[\w./-]+\.(?:md|png|yaml|py)", text))
    assert named
    missing = [name for name in named if not (README.parent / name).exists()]
    assert not missing
