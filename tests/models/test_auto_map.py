"""Saved models in a fresh process that has registered nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from topographic.models import PixelMLPConfig, PixelMLPForImageClassification, TopoLMForCausalLM, preset, register
from topographic.recording import Preparation

SCRIPT = """
import json, sys
import transformers
from transformers import AutoImageProcessor, AutoTokenizer
auto_class = getattr(transformers, sys.argv[1])
try:
    auto_class.from_pretrained("model")
except ValueError as error:
    said = str(error)
before = "topographic" in sys.modules
if len(sys.argv) > 2:
    AutoTokenizer.from_pretrained("model")
model = auto_class.from_pretrained("model", trust_remote_code=True)
model.save_pretrained("again")
print(json.dumps([said, before, type(model).__module__, type(model).__name__]))
"""


def in_a_fresh_process(folder, *words):
    """Beside a folder `model` alone, with nobody to answer questions."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words],
        cwd=folder,
        env={**os.environ, "HF_HOME": str(folder / "cache"), "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1].rpartition("[y/N] ")[2])


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    model = TopoLMForCausalLM(preset("tiny"))
    model.save_pretrained(tmp_path / "model")
    words = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="b").save_pretrained(tmp_path / "model")
    return model


def test_a_saved_model_says_what_it_needs_and_loads_with_it(model, tmp_path):
    said, loaded, module, name = in_a_fresh_process(tmp_path, "AutoModelForCausalLM", "with tokenizer")
    assert "Please pass the argument `trust_remote_code=True`" in said
    assert "upgrade" not in said
    assert not loaded, "nothing of ours was imported to say so"
    assert (module, name) == ("topographic.models.modeling_topolm", "TopoLMForCausalLM"), "the installed class"
    again = TopoLMForCausalLM.from_pretrained(tmp_path / "again")
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))
    assert names(tmp_path / "again") == names(tmp_path / "model") - {"tokenizer.json", "tokenizer_config.json"}
    for file in ("config.json", "topographic_model.py"):  # no copies of our files, however it was loaded
        assert (tmp_path / "again" / file).read_text() == (tmp_path / "model" / file).read_text()
    assert "call topographic.models.register()" in (tmp_path / "model" / "topographic_model.py").read_text()


def test_folders_from_before_still_load(model, tmp_path):
    (tmp_path / "model" / "topographic_model.py").unlink()
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    del config["auto_map"]
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    register()
    for words in ({}, {"trust_remote_code": True}):
        again = AutoModelForCausalLM.from_pretrained(tmp_path / "model", **words)
        assert type(again) is TopoLMForCausalLM
    again.save_pretrained(tmp_path / "new")
    assert (tmp_path / "new" / "topographic_model.py").is_file()


def test_the_classifier_of_pixels_too(tmp_path):
    PixelMLPForImageClassification(PixelMLPConfig(hidden_size=16)).save_pretrained(tmp_path / "model")
    Preparation().save_pretrained(tmp_path / "model")
    said, loaded, module, name = in_a_fresh_process(tmp_path, "AutoModelForImageClassification")
    assert "trust_remote_code=True" in said
    assert not loaded
    assert (module, name) == ("topographic.models.modeling_mlp", "PixelMLPForImageClassification")
    assert "register_pixel_mlp()" in Path(tmp_path / "model" / "topographic_model.py").read_text()
