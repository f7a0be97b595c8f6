from dataclasses import dataclass, field

import pytest

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
        with pytest.raises(ValueError, match="--run: expected one argument"):
            parse(*words, command=Switched)
    else:
        assert parse(*words, command=Switched) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["inner.stepz=3"], r"unrecognized arguments: --inner\.stepz=3; `topo train --help` lists every key"),
        (["inner.step=3"], "unrecognized arguments"),  # no abbreviations: a later key could change their meaning
        (["inner.steps=many"], "inner.steps.*many"),
        (["inner.steps=0"], "steps=0; expected at least 1"),
        (["absent.yaml"], "absent.yaml"),
        (["a", "b"], "unrecognized arguments: b"),
    ],
)
def test_wrong_words_are_one_line(words, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse(*words)
    assert "\n" not in str(caught.value)


def test_unknown_keys_in_a_file_are_refused(tmp_path):
    (tmp_path / "r.yaml").write_text("inner: {steps: 7, extra: 1}\n")
    with pytest.raises(ValueError, match="does not accept option 'extra'"):
        parse(str(tmp_path / "r.yaml"))
    (tmp_path / "r.yaml").write_text("inner: [\n")
    with pytest.raises(ValueError, match=r"r\.yaml|[Pp]ars"):
        parse(str(tmp_path / "r.yaml"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_and_prints_its_configuration(name, capsys):
    from topographic.cli import main

    for flag in ("--help", "--print_config"):
        with pytest.raises(SystemExit) as left:
            main([name, flag])
        assert left.value.code == 0
    shown = capsys.readouterr().out
    assert COMMANDS[name][3] in shown
