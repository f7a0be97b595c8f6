"""The README's Python lines run as they stand, one after the other, on small local models in place of the named."""

import importlib
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

import topographic as tg
from topographic.losses import laplacian_pyramid_loss
from topographic.training.text.tokenizer import train_tokenizer

pytestmark = pytest.mark.unchecked

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
TWO_LINES = next(number for number, example in enumerate(EXAMPLES) if "WeightSmoothness" in example)
FAST = ", fwhm_mm=(0.0,), n_draws=19, lesion_draws=1, lesion_pairs=1, pairs_per_paradigm=2, progress=False)"


def run(example: str, names: dict) -> dict:
    exec(compile(example, "README.md", "exec"), names)  # noqa: S102
    return names


@pytest.fixture
def small_models(tiny_model, tmp_path, monkeypatch) -> dict[str, str]:
    """What the README's names are replaced by."""
    monkeypatch.chdir(tmp_path)
    words = [f"{word} {other}" for word in ("the dog", "a cat") for other in ("runs", "sleeps")]
    pd.DataFrame({"text": words, "condition": ["a", "b"] * 2}).to_csv("my.csv", index=False)
    tokenizer = train_tokenizer(tg.load_localizer("language").items, 400)
    tokenizer.save_pretrained("gpt2 in small")
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    shape = {"n_positions": 128, "n_embd": 144, "n_layer": 2, "n_head": 4}
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **shape, **ends)).save_pretrained("gpt2 in small")
    return {
        '"runs/demo/topographic"': repr(str(tiny_model)),
        '"gpt2"': repr(str(tmp_path / "gpt2 in small")),
        "tg.clusters(maps)": "tg.clusters(maps, threshold=0.1, min_units=2)",
        "quick=True)": f"quick=True{FAST}",
        "runs=subject.runs)": "runs=subject.runs, n_band_draws=3, progress=False)",
    }


def test_all_python_lines_run_in_their_order(small_models, capsys):
    in_small = "\n".join(EXAMPLES)
    for named, small in small_models.items():
        assert in_small.count(named) == 1, named
        in_small = in_small.replace(named, small)
    before = sys.modules.get("matplotlib.pyplot")
    with torch.random.fork_rng():
        made = run(in_small, {})
    assert "label null" in capsys.readouterr().out, "Moran's I is printed beside its nulls"
    assert isinstance(made["maps"], tg.Maps)
    assert len(made["results"]["lesions"].to_frame())
    assert made["mine"].condition_names == ("a", "b")
    assert "spatial_loss" in made["parts"]
    assert list(made["on_sheet"]) == ["transformer.h.1.mlp.sheet"]
    follows = made["table"]["added by model"][made["subject"].weights.any(axis=0)]
    assert follows.mean() > 0.05, "the planted vertices are predicted"
    assert sys.modules.get("matplotlib.pyplot") is before, "no window, no setting of the session is touched"


def test_examples_are_short():
    assert len(README.splitlines()) <= 175
    assert all(len(example.strip().splitlines()) <= 15 for example in EXAMPLES)


def test_the_example_of_two_lines_makes_the_layer_smooth():
    example = EXAMPLES[TWO_LINES]
    ours = [line for line in example.splitlines() if "objective" in line]
    assert len(ours) == 2, "the promise is two lines"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = run(example, {"tg": tg})
        torch.manual_seed(0)
        control = run(example.replace("loss, _ = objective(task_loss)", "loss = task_loss"), {"tg": tg})
    smooth, rough = (laplacian_pyramid_loss(names["network"][0].weight).item() for names in (made, control))
    assert smooth < rough - 0.05  # of 16 steps


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/which.md"])
def test_files_that_a_page_names_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"(?:docs|recipes|examples|benchmarks)/[\w./-]+\.(?:md|png|yaml|py)", text))
    named |= {f"docs/{name}" for name in re.findall(r"\]\((images/[\w./-]+)\)", text)}
    assert named or page == "docs/which.md"
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing


def test_functions_that_the_page_of_questions_names_exist():
    named = set(
        re.findall(r"`(?!topographic\.)(\w+)\.(\w+)`", (ROOT / "docs" / "which.md").read_text(encoding="utf-8"))
    )
    assert len(named) > 60
    missing = [
        f"{room}.{name}" for room, name in named if not hasattr(importlib.import_module(f"topographic.{room}"), name)
    ]
    assert not missing


def test_rooms_that_the_readme_lists_are_those_there_are():
    listed = set(re.findall(r"`(\w+)`", README[README.index("Rooms from the ground up") :].split(".\n")[0]))
    there = {path.name for path in (ROOT / "src" / "topographic").iterdir() if (path / "__init__.py").is_file()}
    assert listed | {"drawing"} == there
