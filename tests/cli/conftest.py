"""A text, a trained run and its maps, made once by the commands themselves."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from topographic.cli import main
from topographic.cli.bench import Bench
from topographic.cli.cell_maps import CellMaps, maps_folder
from topographic.cli.cells import Cell
from topographic.cli.image_bench import ImageBench
from topographic.cli.map import load_model
from topographic.cli.sweep import SweepCommand
from topographic.cli.train import ModelConfig
from topographic.maps import summarize
from topographic.models import TopoLMForCausalLM, fresh_vision_model, preset, vision_config
from topographic.recording import Preparation, find_sites, first_mlp_layers
from topographic.recording.responses import Responses
from topographic.sheets import grid
from topographic.stimuli import load_localizer
from topographic.storage import save_json
from topographic.training.config import SpatialConfig, TrainingConfig, save_config
from topographic.training.tokenizer import train_tokenizer


@pytest.fixture(scope="session")
def text(tmp_path_factory) -> Path:
    """A few hundred documents of our own sentences."""
    items = load_localizer("language").select(condition=["sentences", "words"]).items
    documents = [". ".join(items[(7 * k + j) % len(items)] for j in range(12)) for k in range(300)]
    path = tmp_path_factory.mktemp("text") / "sentences.txt"
    path.write_text("\n\n".join(documents), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory, text) -> Path:
    """`topo demo` on that text, four steps long."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        words = ["max_steps=4", "n_draws=19", "evaluate=false"]  # test_demo.py has a demo with its evaluation
        assert main(["demo", f"text={text}", f"run={folder}", *words]) == 0
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, text) -> Path:
    """A model folder: an untrained TopoLM of four sheets of 36 units, and a tokenizer of its own."""
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = train_tokenizer([text.read_text(encoding="utf-8")], 400)
    tokens = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = TopoLMForCausalLM(preset("tiny", vocab_size=len(tokenizer), n_positions=64, **tokens))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def suite_file(tmp_path) -> Path:
    """A SyntaxGym suite of two items and two predictions."""
    items = []
    for number, (noun, verbs) in enumerate({"The dog": ("is", "are"), "The birds": ("were", "was")}.items(), start=1):
        conditions = [
            {
                "condition_name": name,
                "regions": [{"region_number": 1, "content": noun}, {"region_number": 2, "content": verb}],
            }
            for name, verb in zip(("match", "mismatch"), verbs, strict=True)
        ]
        items.append({"item_number": number, "conditions": conditions})
    formulas = ["(2;%match%) < (2;%mismatch%)", "(1;%match%) = (1;%mismatch%)"]
    content = {
        "meta": {"name": "number", "metric": "sum"},
        "region_meta": {"1": "noun", "2": "verb"},
        "predictions": [{"type": "formula", "formula": formula} for formula in formulas],
        "items": items,
    }
    file = tmp_path / "number.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


@pytest.fixture
def tiny_bench(tiny_model, tmp_path) -> Bench:
    """That model on the bench of an evaluation."""
    model, tokenizer = load_model(tiny_model)
    return Bench(
        model=model.cpu(),
        tokenizer=tokenizer,
        sites=list(model.sheets()),
        layout=model.sheets(),
        stimuli_folder=None,
        pairs="own",
        text=None,
        cache_folder=tmp_path / "networks",
        recording={"pooling": "mean", "batch_size": 64},
    )


@pytest.fixture
def net_bench(tiny_bench) -> Bench:
    """The first MLP layers of that model on the bench; the weights of layer 1 vary slowly over its 12 x 12 sheet."""
    generator = torch.Generator().manual_seed(0)
    places = grid((12, 12)).positions_mm.float() / 12
    weight = torch.cos(2 * places @ torch.randn(2, 36, generator=generator) + 6 * torch.rand(36, generator=generator))
    with torch.no_grad():
        tiny_bench.model.transformer.h[1].mlp.c_fc.weight.copy_(weight / 4)
    sites = find_sites(tiny_bench.model, first_mlp_layers(tiny_bench.model))
    return dataclasses.replace(tiny_bench, sites=sites, layout=grid, _recorded={})


@pytest.fixture
def image_bench(image_folders) -> ImageBench:
    """A network of one sheet of 12 x 12 units, smooth in its weights, with noise in place of every image set."""
    config = vision_config(
        "mnist_mlp", {"hidden_size": 144}, classes=[str(number) for number in range(10)], image_size=28, num_channels=1
    )
    model = fresh_vision_model(config, seed=0).eval()
    generator = torch.Generator().manual_seed(0)
    places = grid((12, 12)).positions_mm.float() / 12
    waves = torch.cos(2 * places @ torch.randn(2, 784, generator=generator) + 6 * torch.rand(784, generator=generator))
    with torch.no_grad():
        model.fc1.weight.copy_(waves / 28)
    return ImageBench(
        model=model,
        prepare=Preparation(channels=1, size=(28, 28)),
        sites="fc1",
        layout=grid,
        n_images=8,
        test_set="mnist",
        folders=image_folders,
        recording={"pooling": "mean", "batch_size": 16},
    )


@pytest.fixture(scope="session")
def swept(tmp_path_factory) -> SweepCommand:
    """A sweep whose cells look trained: planted losses, and maps of smooth or rough noise on two small sheets."""
    folder = tmp_path_factory.mktemp("swept")
    command = SweepCommand(
        run=str(folder),
        model=ModelConfig("tiny", n_layer=1),
        spatial=SpatialConfig(weight=0.25, radius=2),
        training=TrainingConfig(max_steps=10, eval_steps=10, batch_size=4),
        maps=CellMaps(contrasts=["nouns_verbs"], fwhm_mm=[0.0, 2.0], n_draws=19),
        blocks=[
            {"spatial.weight": [0, 0.25, 1], "seed": [0, 1, 2]},
            {"model.layout": ["permuted_grid", "grid"], "seed": [0, 1, 2]},
        ],
    )
    for cell in command.cells():
        _pretend_to_train(cell, command.maps)
    return command


def _pretend_to_train(cell: Cell, maps: CellMaps) -> None:
    weight, seed = cell.recipe.spatial.weight, cell.seed or 0
    record = {"status": "finished", "tokens_seen": 10240, "n_parameters": 999, "wall_time_s": 60.0}
    loss = 4.0 + seed + 0.1 * weight + 0.01 * weight * seed
    save_json(cell.folder / "run.json", {**record, "eval_loss": loss})
    save_config(cell.folder / "config.yaml", cell.recipe)
    line = (
        {"step": 10, "spatial/a": 0.3, "spatial/b": 0.1, "eval_spatial_loss": 0.4 * weight} if weight else {"step": 10}
    )
    (cell.folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    stimuli = load_localizer("nouns_verbs")
    rng = np.random.default_rng(seed)
    responses = {}
    for site in ("a", "b"):
        noise = rng.normal(size=(len(stimuli), 8, 8))
        values = gaussian_filter(noise, (0, weight, weight), mode="wrap")
        sheet, values = grid(64, site), values.reshape(len(stimuli), -1).astype(np.float32)
        responses[site] = Responses(site, values, sheet, stimuli, provenance={"pooling": "mean"})
    for fwhm_mm in maps.fwhm_mm:
        summary = summarize(responses, "noun", "verb", fwhm_mm=fwhm_mm, n_draws=maps.n_draws, seed=maps.seed)
        summary.save(maps_folder(cell.folder, fwhm_mm), nulls=False)
