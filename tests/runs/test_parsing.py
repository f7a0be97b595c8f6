from dataclasses import dataclass, field

import pytest

from topographic.cli import COMMANDS
from topographic.cli.arguments import parse_command
from topographic.runs.parsing import parse_mapping


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


def test_nested_keys_and_values_are_read_like_a_file():
    assert parse_mapping("train", Outer, {"inner": {"steps": 7}}) == Outer(inner=Inner(7))
    assert parse_mapping("train", Outer, {}) == Outer()
    for content, message in (
        ({"inner": {"steps": [1, 2]}}, "inner.steps.*int"),
        ({"inner": {"stepz": 1}}, "does not accept option 'stepz'; `topo train --help` lists every key"),
        ({"inner": {"steps": 0}}, "steps=0; expected at least 1"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            parse_mapping("train", Outer, content)
        assert "\n" not in str(caught.value)
