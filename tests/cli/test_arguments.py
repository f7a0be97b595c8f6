import subprocess
import sys
from dataclasses import dataclass, field

import pytest
import yaml

from topographic.cli import COMMANDS
from topographic.cli.arguments import parse_command


@dataclass(frozen=True)
class Inner:
    steps: int = 5
    """How long."""
    name: str | None = None
    """What it is called."""

    def __post_init__(self):
        if self.steps < 1:
            raise ValueError(f"steps={self.steps}; expected at least 1")


@dataclass(frozen=True)
class Outer:
    run: str = "runs/x"
    """Where to."""
    inner: Inner = field(default_factory=Inner)
    """The rest."""


@dataclass(frozen=True)
class Switched:
    run: str = "runs/x"
    """Where to."""
    overwrite: bool = False
    """Anew."""


@dataclass(frozen=True)
class Several:
    runs: list[str] = field(default_factory=list)
    """Which."""


def parse(*words, command=Outer):
    return parse_command("train", command, "", words)


def test_defaults_files_and_words_in_their_order(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("inner: {steps: 7, name: seven}\n")
    assert parse() == Outer()
    assert parse(str(recipe)) == Outer(inner=Inner(7, "seven"))
    assert parse(str(recipe), "inner.steps=9", "run=there") == Outer("there", Inner(9, "seven"))
    assert parse("inner.steps=9", str(recipe)) == Outer(inner=Inner(7, "seven")), "later words win"
    assert parse("--inner.steps", "8", "--config", str(recipe), "--inner.name=x") == Outer(inner=Inner(7, "x"))


def test_values_may_hold_equal_signs_and_spaces():
    assert parse("run=a=b c").run == "a=b c"


def test_bare_words_are_runs():
    assert parse("runs/a") == Outer("runs/a")
    assert parse("a", "b c", command=Several) == Several(["a", "b c"])
    assert parse('quo"te', command=Several) == Several(['quo"te'])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--overwrite"], Switched(overwrite=True)),
        (["--overwrite", "there"], Switched("there", True)),
        (["--overwrite", "false"], Switched()),
        (["--overwrite=false"], Switched()),
        (["overwrite=true"], Switched(overwrite=True)),
        (["--run", "--overwrite"], None),
    ],
)
def test_a_switch_needs_no_value(words, expected):
    if expected is None:
        with pytest.raises(ValueError, match="--run: expected a value after it"):
            parse(*words, command=Switched)
    else:
        assert parse(*words, command=Switched) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["inner.stepz=3"],
            r"^unknown key inner\.stepz; did you mean inner\.steps\? `topo train --help` lists every key$",
        ),
        (["inner.step=3"], "unknown key inner.step;"),  # no abbreviations: a later key could change their meaning
        (["--inner.stepz", "3"], "did you mean inner.steps?"),
        (["steps=3"], "unknown key steps; did you mean inner.steps?"),
        (["colour=red"], "unknown key colour; expected one of run, inner; "),
        (["inner.colour=red"], r"unknown key inner\.colour; expected one of inner\.steps, inner\.name; "),
        (["run.colour=red"], r"unknown key run\.colour"),
        (["inner.steps=many"], "^inner.steps=many; expected a whole number; `topo"),
        (["inner.steps=0"], "^steps=0; expected at least 1$"),
        (["inner=3"], "inner=3; expected keys of its own: steps, name"),
        (["a", "b"], "unexpected word 'b' after run=a; expected key=value"),
        (["-x"], "unknown option -x; expected --key=value"),
        (["--run"], "--run: expected a value after it"),
        (["inner.steps=x", "inner.stepz=1"], "inner.steps=x; expected a whole number; unknown key inner.stepz"),
    ],
)
def test_wrong_words_are_one_line(words, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse(*words)
    assert "\n" not in str(caught.value)


def test_a_recipe_that_is_not_there():
    with pytest.raises(FileNotFoundError, match=r"no file at absent\.yaml; expected a YAML file of keys and values"):
        parse("absent.yaml")


def test_unknown_keys_in_a_file_are_refused(tmp_path):
    (tmp_path / "r.yaml").write_text("inner: {steps: 7, nam: x}\n")
    with pytest.raises(ValueError, match=r"unknown key inner\.nam; did you mean inner\.name\?"):
        parse(str(tmp_path / "r.yaml"))


def test_sections_from_words_and_files(tmp_path):
    recipe = tmp_path / "section.yaml"
    recipe.write_text("steps: 7\n")
    assert parse("inner={steps: 7, name: x}", "inner.steps=8") == Outer(inner=Inner(8, "x"))
    assert parse("inner.name=x", f"inner={recipe}") == Outer(inner=Inner(7, "x"))


def test_what_is_resolved_is_printed(tmp_path, capsys):
    (tmp_path / "r.yaml").write_text("inner: {steps: 7}\n")
    with pytest.raises(SystemExit) as left:
        parse(str(tmp_path / "r.yaml"), "run=a: b", "--print_config")
    assert left.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out) == {"run": "a: b", "inner": {"steps": 7, "name": None}}
    with pytest.raises(ValueError, match=r"unknown key inner\.stepz"):
        parse("inner.stepz=3", "--print_config")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_and_prints_its_configuration(name, capsys):
    from topographic.cli import main

    for flag in ("--help", "--print_config"):
        with pytest.raises(SystemExit) as left:
            main([name, flag])
        assert left.value.code == 0
    shown = capsys.readouterr().out
    assert COMMANDS[name][3] in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_help_loads_neither_torch_nor_models(name):
    told = (
        "import sys\n"
        "from topographic.cli import main\n"
        "try: main([sys.argv[1], '--help'])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'transformers', 'pandas', 'scipy', 'matplotlib', 'accelerate'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", told, name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"topo {name}" in done.stdout
