from pathlib import Path

import pytest

from topographic.cli.arguments import parse_command
from topographic.cli.demo import RECIPE
from topographic.cli.train import TrainCommand

RECIPES = [RECIPE, *sorted((Path(__file__).resolve().parents[2] / "recipes").rglob("*.yaml"))]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
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
