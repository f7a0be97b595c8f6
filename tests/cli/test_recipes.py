from pathlib import Path

import pytest

from topographic.cli.arguments import parse_command
from topographic.cli.demo import RECIPE
from topographic.cli.finetune import FinetuneCommand
from topographic.cli.train import TrainCommand
from topographic.training.glue import TASKS

RECIPES = [RECIPE, *sorted((Path(__file__).resolve().parents[2] / "recipes").rglob("*.yaml"))]
FINETUNING = [path for path in RECIPES if path.name == "glue.yaml"]


@pytest.mark.parametrize("recipe", [path for path in RECIPES if path not in FINETUNING], ids=lambda path: path.name)
def test_every_shipped_recipe_fits_its_dataclass(recipe):
    command = parse_command("train", TrainCommand, "", [str(recipe)])
    assert isinstance(command, TrainCommand)


def test_the_paper_recipe_is_the_paper():
    command = parse_command("train", TrainCommand, "", [str(next(r for r in RECIPES if r.name == "paper.yaml"))])
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
