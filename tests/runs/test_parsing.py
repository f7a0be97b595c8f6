from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from topographic.runs.parsing import parse_mapping, read_yaml
from topographic.runs.recipe import Recipe


@dataclass(frozen=True)
class Item:
    site: str
    """Which."""
    shape: tuple[int, int] | None = None
    """How large."""


@dataclass(frozen=True)
class Inner:
    steps: int = 5
    """How long."""
    name: str | None = None
    """What it is called."""
    rate: float = 0.5
    """How fast."""
    kind: Literal["near", "far"] | None = None
    """How far."""
    words: dict[str, Any] | None = None
    """More."""


@dataclass(frozen=True)
class Outer:
    run: str = "runs/x"
    """Where to."""
    inner: Inner = field(default_factory=lambda: Inner(rate=0.25))
    """The rest."""
    other: Inner | None = None
    """Perhaps."""
    names: list[str] | None = None
    """Several."""
    widths: list[float] = field(default_factory=list)
    """Numbers."""
    items: list[Item] = field(default_factory=list)
    """Things."""


def parse(**content):
    return parse_mapping("train", Outer, content)


def test_what_is_nested_too_deeply_is_refused_and_what_is_read_again_is_a_copy():
    deep = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(ValueError, match=r"spatial\.sites="):
        parse_mapping("train", Recipe, {"spatial": {"sites": deep}})
    first, second = (parse_mapping("train", Recipe, {"spatial": {"sites": ["a", "b"]}}).spatial for _ in range(2))
    first.sites.append("c")
    assert second.sites == ["a", "b"]
    assert parse_mapping("train", Recipe, {"spatial": {"sites": ["a", "b"]}}).spatial.sites == ["a", "b"]


def test_nested_keys_and_values_are_read_like_a_file():
    assert parse(inner={"steps": 7}) == Outer(inner=Inner(7, rate=0.25)), "beside the section's own defaults"
    assert parse() == Outer()
    assert parse(other={}) == Outer(other=Inner())
    assert parse(other={"rate": 1}, inner={"rate": "1e-3"}) == Outer(inner=Inner(rate=0.001), other=Inner(rate=1.0))
    assert parse(other=None, names=None) == Outer()
    assert parse(**{"inner.steps": 7, "inner.kind": "far"}).inner == Inner(7, rate=0.25, kind="far")
    assert parse(inner={"words": {"a.b": [1]}}).inner.words == {"a.b": [1]}
    assert parse(items=[{"site": "a", "shape": [3, 4]}]).items == [Item("a", (3, 4))]


def test_one_word_alone_is_a_list_of_one():
    assert parse(names="x.*").names == ["x.*"]
    assert parse(names="[x, y]").names == ["x", "y"]
    assert parse(names="[0-3].attn").names == ["[0-3].attn"]
    assert parse(widths=2).widths == parse(widths="2").widths == [2.0]
    assert parse(items={"site": "a"}).items == parse(items="{site: a}").items == [Item("a")]
    with pytest.raises(ValueError, match=r"names=\[x, y; expected a list, \[text, \.\.\.\] or null"):
        parse(names="[x, y")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"inner": {"steps": [1, 2]}}, r"^inner\.steps=\[1, 2\]; expected a whole number; `topo train --help`"),
        ({"inner": {"steps": 1.5}}, r"inner\.steps=1\.5; expected a whole number"),
        ({"inner": {"steps": None}}, r"inner\.steps=null; expected a whole number"),
        ({"inner": {"stepz": 1}}, r"unknown key inner\.stepz; did you mean inner\.steps\? `topo train --help`"),
        ({"inner": {"rate": float("nan")}}, r"inner\.rate=nan; expected a number"),
        ({"inner": {"rate": "nan"}}, r"inner\.rate=nan; expected a number"),
        ({"inner": {"rate": ".inf"}}, r"inner\.rate=\.inf; expected a number"),
        ({"widths": [1.0, float("inf")]}, r"widths=\[1\.0, inf\]; expected a list, \[a number, \.\.\.\]"),
        ({"inner": {"words": {"a": float("nan")}}}, r"inner\.words=.*; expected \{key: value\} or null"),
        ({"inner": {"kind": "middle"}}, r"inner\.kind=middle; expected one of near, far or null"),
        ({"inner": {"name": 3}}, r"inner\.name=3; expected text or null"),
        ({"inner": None}, r"inner=null; expected keys of its own: steps, name"),
        ({"other": 3}, r"other=3; expected keys of its own: .* or null"),
        ({"items": [{"sit": "a"}]}, r"unknown key items\[0\]\.sit; did you mean items\[0\]\.site\?"),
        ({"items": [{"shape": [1, 2]}]}, r"items\[0\]\.site is missing; expected text"),
        ({"items": [{"site": "a", "shape": [1]}]}, r"items\[0\]\.shape=\[1\]; expected \[a whole number, a whole num"),
        ({"run": "&a [*a]", "widths": "&a [*a]"}, r"^widths=&a \[\*a\]; expected a list"),
        ({"inner": {"words": "&a {b: *a}"}}, r"inner\.words=&a \{b: \*a\}; expected"),
        ({1: 2}, "unknown key 1; expected one of run, inner"),
    ],
)
def test_what_is_wrong_is_said_in_our_words(content, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_mapping("train", Outer, content)
    assert "\n" not in str(caught.value)


def test_a_long_value_is_cut():
    with pytest.raises(ValueError, match=r"steps=x{80}\.\.\.; expected"):
        parse(inner={"steps": "x" * 1000})


def test_complaints_come_together():
    wrong = {"training": {"max_steps": 0, "betas": 3}, "spatial": {"weight": -1}, "data": {"txt": "a"}}
    with pytest.raises(ValueError, match=r"training\.betas") as caught:
        parse_mapping("train", Recipe, wrong)
    assert str(caught.value) == (
        "training.betas=3; expected [a number, a number]; unknown key data.txt; did you mean data.text? "
        "spatial.weight=-1.0; expected a number from 0 on: change it in the configuration; "
        "`topo train --help` lists every key"
    ), "a section with a word that cannot be read is not asked for more"
    with pytest.raises(ValueError, match="max_steps") as caught:
        parse_mapping("train", Recipe, {"training": {"max_steps": 0}, "spatial": {"weight": -1}})
    assert str(caught.value) == (
        "training.max_steps=0; expected at least 1: change it in the configuration; "
        "spatial.weight=-1.0; expected a number from 0 on: change it in the configuration"
    )


def test_a_bug_in_a_dataclass_is_no_complaint():
    @dataclass
    class Broken:
        width: int = 1

        def __post_init__(self):
            len(self.width)  # pyright: ignore[reportArgumentType]

    with pytest.raises(TypeError, match=r"object of type 'int' has no len\(\)"):
        parse_mapping("train", Broken, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"r\.yaml is empty; expected keys and values"),
        (b"# nothing\n", r"r\.yaml is empty"),
        (b"\x00\x01", r"r\.yaml is no text"),
        (b"\xff\xfe\x00", r"r\.yaml is no UTF-8 text"),
        (b"- a\n- b\n", r"r\.yaml holds a list; expected keys and values"),
        (b"hello\n", r"r\.yaml holds only 'hello'; expected keys and values"),
        (b"a: [\n", r"r\.yaml is not valid YAML \(line 2, column 1: .*\); correct it there"),
        (b"a: &x\n  b: *x\n", r"r\.yaml has an anchor \(&\) that holds itself"),
        (b"a: &x [1, [*x]]\n", r"r\.yaml has an anchor \(&\) that holds itself"),
    ],
)
def test_files_that_hold_no_keys(content, message, tmp_path):
    (tmp_path / "r.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_yaml(tmp_path / "r.yaml")
    assert "\n" not in str(caught.value)


def test_anchors_that_stand_for_something_are_read(tmp_path):
    (tmp_path / "r.yaml").write_text("a: &x {b: 1e-3}\nc: [*x, *x]\n")
    assert read_yaml(tmp_path / "r.yaml") == {"a": {"b": 0.001}, "c": [{"b": 0.001}, {"b": 0.001}]}
    with pytest.raises(FileNotFoundError, match=r"no file at .*absent"):
        read_yaml(tmp_path / "absent.yaml")
