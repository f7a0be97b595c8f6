"""The README's example runs as it stands, on a small local model in place of a hub name."""

import re
from pathlib import Path

from transformers import GPT2Config, GPT2LMHeadModel

from topographic.stimuli import load_localizer
from topographic.training.tokenizer import train_tokenizer

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_example_runs(tmp_path, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(example.strip().splitlines()) <= 15
    tokenizer = train_tokenizer(load_localizer("language").items, 400)
    tokenizer.save_pretrained(tmp_path)
    shape = GPT2Config(vocab_size=len(tokenizer), n_positions=128, n_embd=36, n_layer=2, n_head=4)
    GPT2LMHeadModel(shape).save_pretrained(tmp_path)
    assert example.count('"gpt2"') == 2
    exec(compile(example.replace('"gpt2"', repr(str(tmp_path))), "README.md", "exec"), {})  # noqa: S102
    printed = capsys.readouterr().out
    assert "transformer.h.0.attn" in printed
    assert "transformer.h.1.attn" in printed


def test_files_that_the_readme_names_exist():
    text = README.read_text(encoding="utf-8")
    named = set(re.findall(r"(?:docs|recipes|examples|benchmarks)/[\w./-]+\.(?:md|png|yaml|py)", text))
    assert named
    missing = [name for name in named if not (README.parent / name).exists()]
    assert not missing
