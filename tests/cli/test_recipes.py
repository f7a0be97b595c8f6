import dataclasses
import json
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from topographic.cli import main
from topographic.cli.arguments import parse_command
from topographic.cli.demo import RECIPE
from topographic.cli.finetune import FinetuneCommand
from topographic.cli.layout import LayoutCommand
from topographic.cli.sweep import SweepCommand
from topographic.diffusion import DiffusionConfig
from topographic.models import register
from topographic.objectives import configured_objective
from topographic.recording import find_sites, first_mlp_layers, vision_layers
from topographic.runs.building import build_vision_model, shape_of
from topographic.runs.loading import load_model
from topographic.runs.recipe import Recipe
from topographic.storage import load_json
from topographic.sweeps.plan import rehearse_cells
from topographic.training.config import plain
from topographic.training.finetuning.glue import TASKS

FILES = sorted((Path(__file__).resolve().parents[2] / "recipes").rglob("*.yaml"))
SWEEPS = [path for path in FILES if "sweep" in path.name or path.parent.name == "comparison"]
FINETUNING = [path for path in FILES if path.name == "glue.yaml"]
LAYOUTS = [path for path in FILES if path.name == "topo_omni.yaml"]
REVISIONS = [path for path in FILES if path.name == "pythia.yaml"]
RECIPES = [RECIPE, *(path for path in FILES if path not in [*SWEEPS, *FINETUNING, *LAYOUTS, *REVISIONS])]


def label(path):
    """Several folders have a sweep.yaml."""
    return f"{path.parent.name}/{path.name}"


@pytest.mark.parametrize("recipe", RECIPES, ids=label)
def test_every_shipped_recipe_fits_its_dataclass(recipe):
    command = parse_command("train", Recipe, "", [str(recipe)])
    assert isinstance(command, Recipe)


@pytest.mark.parametrize("recipe", SWEEPS, ids=label)
def test_every_shipped_sweep_can_be_trained_and_has_three_seeds_of_each_model(recipe):
    cells = parse_command("sweep", SweepCommand, "", [str(recipe)]).plan().cells
    rehearse_cells(cells)
    seeds = {}
    for cell in cells:
        seeds.setdefault(str(cell.levels), set()).add(cell.seed)
    assert all(len(found) >= 3 for found in seeds.values())
    controls = [cell for cell in cells if cell.recipe.spatial.weight == 0 and not cell.recipe.smoothness.is_on]
    assert controls, "without a control there is no trade-off"


@pytest.mark.parametrize(("folder", "name"), [("vision", "cifar10"), ("language", "small")])
def test_the_sweeps_of_toponets_vary_what_the_recipe_beside_them_trains(folder, name):
    (sweep,) = [path for path in SWEEPS if path.parent.name == folder]
    recipe = parse_command("train", Recipe, "", [str(sweep.with_name(f"{name}.yaml"))])
    base = parse_command("sweep", SweepCommand, "", [str(sweep)]).plan().base
    for section in ("model", "data", "images", "spatial", "smoothness"):
        assert getattr(base, section) == getattr(recipe, section), section
    kept = {"keep_checkpoints": recipe.training.keep_checkpoints, "seed": recipe.training.seed}
    assert dataclasses.replace(base.training, **kept) == recipe.training


@pytest.mark.parametrize("name", ["nanogpt", "gpt_neo"])
def test_the_recipes_of_toponets_are_the_paper(name):
    (recipe,) = [path for path in RECIPES if path.name == f"{name}.yaml" and "toponets" in path.parts]
    command = parse_command("train", Recipe, "", [str(recipe)])
    training = command.training
    tokens_per_step = 4 * training.batch_size * training.gradient_accumulation_steps * command.data.sequence_length
    assert tokens_per_step == 491_520
    assert training.max_steps * tokens_per_step == pytest.approx(10e9, rel=1e-4)
    assert (training.betas, training.weight_decay, training.max_grad_norm) == ((0.9, 0.95), 0.1, 1.0)
    register()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shape_of(command.model, vocab_size=50304))
    assert model.num_parameters() == {"nanogpt": 124_373_760, "gpt_neo": 125_198_592}[name]
    assert command.spatial.weight == 0
    smoothness = command.smoothness
    assert (smoothness.factor, smoothness.blur, smoothness.reduction) == (3, "toponets", "mean")
    assert len(find_sites(model, smoothness.sites)) == 12
    assert smoothness.sites == [first_mlp_layers(model)]


@pytest.mark.parametrize(
    ("name", "sites", "weight"),
    [("mnist", 1, 3.0), ("cifar10", 6, 1.0), ("resnet18", 16, 10.0), ("resnet50", 48, 1.0), ("vit_b_32", 12, 10.0)],
)
def test_the_vision_recipes_of_toponets_smooth_what_the_paper_smooths(name, sites, weight):
    (recipe,) = [path for path in RECIPES if path.name == f"{name}.yaml" and "toponets" in path.parts]
    command = parse_command("train", Recipe, "", [str(recipe)])
    assert (command.images.name, command.spatial.weight) == ("mnist" if name == "mnist" else "cifar10", 0)
    channels, side = (1, 28) if name == "mnist" else (3, command.images.size or 32)
    model = build_vision_model(
        command.model, [str(number) for number in range(10)], image_size=side, num_channels=channels
    )
    found = find_sites(model, command.smoothness.sites)
    assert found == find_sites(model, vision_layers(model))
    assert len(found) == sites
    assert (command.smoothness.weight, command.smoothness.factor) == (weight, 4 if name == "mnist" else 3)
    objective = configured_objective(model, command)
    with torch.no_grad(), objective.listen(model.eval()):
        model(pixel_values=torch.zeros(1, channels, side, side))
    _, parts = objective(torch.zeros(()), draw=0)
    assert sum(key.startswith("smoothness/") for key in parts) == sites


TINY_RESNET = "{hidden_sizes: [36, 36, 36, 36], depths: [1, 1, 1, 1], embedding_size: 36}"
SIZES = {
    "language/small": ["model.n_layer=2", "model.n_embd=48", "data.vocab_size=300", "data.sequence_length=16"],
    "vision/mnist": [],
    "vision/cifar10": ["model.config={hidden_sizes: [16, 16, 16], embedding_size: 16}"],
    "vision/resnet18": [f"model.config={TINY_RESNET}"],
    "vision/resnet50": [f"model.config={TINY_RESNET}"],
    "vision/vit_b_32": [
        "model.config={hidden_size: 36, intermediate_size: 72, num_hidden_layers: 2, num_attention_heads: 2}",
        "images.size=64",
    ],
}
LAYERS = {"small": 2, "mnist": 1, "cifar10": 6, "resnet18": 8, "resnet50": 12, "vit_b_32": 2}


@pytest.mark.parametrize("recipe", SIZES)
def test_every_recipe_of_toponets_trains_at_a_small_size(recipe, text, image_folders, tmp_path, monkeypatch):
    """Two steps, from a file that is there; sizes and lengths are changed, and what only an accelerator does."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (file,) = [path for path in RECIPES if f"toponets/{recipe}.yaml" in str(path)]
    name, run = recipe.split("/")[1], tmp_path / "run"
    pictures = image_folders["mnist" if name == "mnist" else "cifar10"]
    shown = f"data.text={text}" if name == "small" else f"images.folder={pictures}"
    short = ["training.max_steps=2", "training.batch_size=4", "training.logging_steps=1", "training.eval_batches=1"]
    short.append("training.bf16=false")
    assert main(["train", str(file), shown, *short, *SIZES[recipe], f"run={run}"]) == 0
    told = parse_command("train", Recipe, "", [str(file)])
    assert yaml.safe_load((run / "config.yaml").read_text())["smoothness"] == plain(told.smoothness)
    assert load_json(run / "run.json")["status"] == "finished"
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in logged if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2]
    for line in steps:
        losses = [line[key] for key in line if key.startswith("smoothness/")]
        assert len(losses) == LAYERS[name]
        assert line["smoothness_loss"] == pytest.approx(told.smoothness.weight * sum(losses) / len(losses), rel=1e-4)
        assert line["loss"] == pytest.approx(line["task_loss"] + line["smoothness_loss"], rel=1e-4)
    assert "eval_loss" in logged[-1]


SHORT = ["training.max_steps=2", "training.batch_size=4", "training.gradient_accumulation_steps=1"]
SHORT += ["training.logging_steps=1", "training.eval_batches=1", "training.bf16=false", "model.n_embd=36"]
SHORT += ["model.n_layer=1", "data.vocab_size=300", "data.sequence_length=16", "data.validation_fraction=0.2"]


@pytest.mark.parametrize(
    ("recipe", "objective", "model"),
    [
        ("imdb", "labels", "TopoformerForSequenceClassification"),
        ("bert_small", "masked_tokens", "TopoformerForMaskedLM"),
        ("paper", "masked_tokens", "TopoformerForMaskedLM"),
    ],
)
def test_every_recipe_of_topoformer_trains_at_a_small_size(recipe, objective, model, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file, run = Path(FILES[0]).parents[1] / "topoformer" / f"{recipe}.yaml", tmp_path / "run"
    told = parse_command("train", Recipe, "", [str(file)])
    assert (told.data.objective, told.spatial.weight) == (objective, 0)
    texts = tmp_path / "texts.jsonl"
    rows = [{"text": f"review {number} of a film " * (3 + number % 5), "label": number % 2} for number in range(60)]
    texts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    small = [f"data.text={texts}", *SHORT, "model.config={n_inner: 64}"]
    assert main(["train", str(file), *small, f"run={run}"]) == 0
    assert load_json(run / "run.json")["model"] == model
    assert load_json(run / "run.json")["status"] == "finished"
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in logged if "loss" in line] == [1, 2]
    assert ("eval_accuracy" in logged[-1]) is (objective == "labels")
    loaded, _ = load_model(run)
    assert type(loaded).__name__ == model
    assert len(loaded.sheets()) == 4


def test_the_recipes_of_topoformer_are_the_published_models():
    recipes = {
        path.stem: parse_command("train", Recipe, "", [str(path)]) for path in FILES if path.parent.name == "topoformer"
    }
    imdb, paper = (shape_of(recipes[name].model) for name in ("imdb", "paper"))
    assert (imdb.n_layer, imdb.n_embd, imdb.n_head, imdb.querying_fraction, imdb.reweighting_fraction) == (
        1,
        400,
        1,
        0.1,
        0.3,
    )
    assert (paper.n_layer, paper.n_embd, paper.n_head, paper.querying_fraction, paper.reweighting_fraction) == (
        16,
        784,
        1,
        0.3,
        0.3,
    )
    training = recipes["paper"].training
    assert 4 * training.batch_size * training.gradient_accumulation_steps == 4096
    training = recipes["imdb"].training
    assert training.batch_size * training.gradient_accumulation_steps == 256
    assert training.max_steps * 256 == pytest.approx(20 * 0.9 * 25_000, rel=0.02)


def test_the_paper_recipe_is_the_paper():
    command = parse_command("train", Recipe, "", [str(next(r for r in RECIPES if label(r) == "topolm/paper.yaml"))])
    tokens_per_step = (
        4 * command.training.batch_size * command.training.gradient_accumulation_steps * command.data.sequence_length
    )
    assert tokens_per_step == 983_040
    assert (command.spatial.weight, command.spatial.radius, command.spatial.n_neighborhoods) == (2.5, 5, 5)


def test_the_fine_tuning_recipe_is_the_paper():
    command = parse_command("finetune", FinetuneCommand, "", [str(FINETUNING[0]), "runs/topolm"])
    assert command.run == "runs/topolm"
    assert set(command.names()) == set(TASKS)
    assert command.scale == 0.1
    assert command.spatial is None, "the run's own"
    training = command.training
    assert (training.batch_size, training.learning_rate, training.min_learning_rate) == (64, 2e-5, 2e-5)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "paper"])
def test_the_recipes_of_protodiffusion_fit_their_images(name):
    (file,) = [path for path in RECIPES if label(path) == f"protodiffusion/{name}.yaml"]
    command = parse_command("train", Recipe, "", [str(file)])
    side, channels = (28, 1) if "mnist" in name else (32, 3)
    shape = DiffusionConfig(**command.diffusion.shape(), image_size=side, num_channels=channels, num_labels=10)
    assert shape.condition == "frozen"
    with torch.device("meta"):
        unet = shape.unet(num_class_embeds=11)
    millions = sum(entry.numel() for entry in unet.parameters()) / 1e6
    assert millions == pytest.approx({"cifar10": 16.3, "paper": 27.0}.get(name, 1.11), rel=0.1)


@pytest.mark.parametrize("recipe", LAYOUTS, ids=label)
def test_every_shipped_layout_fits_its_dataclass_and_lays_a_model_out(recipe, gpt2, text, tmp_path):
    words = [str(recipe), f"source={gpt2}", f"text={text}", f"out={tmp_path / 'sheets'}", "context=60", "steps=10"]
    assert parse_command("layout", LayoutCommand, "", words).method == "linear"
    assert main(["layout", *words]) == 0
    assert (tmp_path / "sheets" / "adaptors.json").is_file()


@pytest.mark.parametrize("name", ["lora", "all_weights"])
def test_a_pretrained_model_is_fine_tuned_into_topography(name, gpt2, text, tmp_path):
    """The recipe on a small GPT-2: the spatial loss falls, the task loss is told, the folder holds a GPT-2."""
    (file,) = [path for path in RECIPES if label(path) == f"pretrained/{name}.yaml"]
    small = ["max_steps=30", "eval_steps=15", "save_steps=30", "batch_size=4", "eval_batches=2", "learning_rate=0.01"]
    words = [str(file), f"run={tmp_path / 'run'}", f"model.pretrained={gpt2}", f"data.tokenizer={gpt2}"]
    words += [
        f"data.text={text}",
        "data.hub_config=null",
        "data.sequence_length=16",
        "spatial.radius=3",
        "spatial.n_neighborhoods=3",
    ]
    words += ["spatial.sites=[transformer.h.*.mlp]", "spatial.weight=5", *(f"training.{word}" for word in small)]
    assert main(["train", *words, "training.report_to=none", "training.cpu=true", "data.validation_fraction=0.1"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    spatial = [line["spatial_loss"] for line in lines if "spatial_loss" in line]
    assert spatial[-1] < spatial[0] - 0.02
    assert [line["eval_loss"] for line in lines if "eval_loss" in line]
    tuned = AutoModelForCausalLM.from_pretrained(tmp_path / "run/model")
    assert tuned.state_dict().keys() == AutoModelForCausalLM.from_pretrained(gpt2).state_dict().keys()


@pytest.fixture
def gpt2(tiny_model, tmp_path):
    """The folder of a GPT-2 with a tokenizer."""
    folder = tmp_path / "gpt2"
    tokenizer = load_model(tiny_model, device="cpu")[1]
    sizes = {"n_layer": 2, "n_embd": 36, "n_head": 2, "n_positions": 128, "vocab_size": len(tokenizer)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GPT2LMHeadModel(GPT2Config(**sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
