from pathlib import Path

import pandas as pd
import pytest

from topographic.cli import main
from topographic.cli.arguments import parse_command
from topographic.cli.trajectory import TrajectoryCommand
from topographic.models import fresh_model, preset
from topographic.training.text.tokenizer import train_tokenizer

RECIPES = Path(__file__).resolve().parents[2] / "recipes/trajectory"


def command_of(*words):
    return parse_command("trajectory", TrajectoryCommand, "", [str(word) for word in words])


def test_the_recipe_of_pythia_is_the_published_mapping(tmp_path, capsys):
    command = command_of(RECIPES / "pythia.yaml", "sizes=[70m,1b]")
    assert command.named() == ["EleutherAI/pythia-70m", "EleutherAI/pythia-1b"]
    steps = [int(one.removeprefix("step")) for one in command.revisions]
    millions = [step * 2 for step in steps]  # the paper's labels count 2 million a step
    assert millions[:10] == [0, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert millions[11:15] == [2000, 4000, 8000, 16000]
    assert (millions[-1], len(steps)) == (286000, 31)
    assert command.tokens_per_step == 1024 * 2048


def test_local_stand_ins_with_the_names_of_revisions(tmp_path, capsys):
    tokenizer = train_tokenizer(["the cat saw a dog near the old house " * 20], 300)
    command = command_of(RECIPES / "pythia.yaml")
    for seed, name in enumerate(command.revisions[:2]):
        folder = tmp_path / "pythia-70m" / name
        fresh_model(preset("tiny", vocab_size=384, n_positions=128, n_layer=1), seed=seed).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    words = [RECIPES / "pythia.yaml", tmp_path / "pythia-{size}", "sizes=[70m]", f"out={tmp_path / 'out'}"]
    words += ["n_draws=19", "pairs_per_paradigm=1"]
    assert main(["trajectory", *map(str, words)]) == 1
    assert "has no revision step2; expected a folder of that name" in capsys.readouterr().err
    assert main(["trajectory", *map(str, words), "revisions=[step0,step1]"]) == 0
    table = pd.read_csv(tmp_path / "out/trajectory.csv")
    assert table["tokens"].tolist()[1:] == [0, 2097152]
    assert (tmp_path / "out/index.html").is_file()
    assert all((tmp_path / f"out/collected/trajectory/{name}.png").is_file() for name in ("growth", "trajectory"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no series given; expected runs with checkpoints in time"),
        (["runs/a-{size}"], "expected both {size} in a source and sizes=[...], or neither"),
        (["runs/a", "sizes=[70m]"], "expected both {size} in a source and sizes=[...], or neither"),
        (["runs/a", "n_bootstrap=5"], "n_bootstrap=5; expected at least 99 draws"),
        (["runs/a", "n_units=0"], "n_units=0; expected at least 1 unit"),
        (["runs/a", "items_per_task=0"], "items_per_task=0; expected at least 1 item, or none for all"),
        (["runs/a", "word_folds=2"], "word_folds=2; expected a whole number of at least 4"),
        (["runs/a", "n_draws=3"], "n_draws=3; expected"),
    ],
)
def test_words_that_no_series_can_be_made_of(words, message, capsys):
    assert main(["trajectory", *words]) == 2
    assert message in capsys.readouterr().err
