"""From nested keys and values, files and words alike, to a dataclass; whatever is wrong with them is said at once."""

import copy
import difflib
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser, get_loader, set_parsing_settings

from topographic.runs.refusals import is_refusal
from topographic.storage import read_text

__all__ = ["hint_of", "merge", "parse_mapping", "parser_of", "read_yaml", "typed_mapping"]

_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}
_LONGEST = 80  # characters of a value that are repeated in a message


def parser_of(name: str, command: type, description: str) -> ArgumentParser:
    """Parser of one command: every field of its dataclass an option, dots for nested ones."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(prog=f"topo {name}", description=description, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with any of the keys below; later words win.")
    parser.add_class_arguments(command, fail_untyped=True)
    return parser


def parse_mapping(name: str, command: type, content: Mapping[Any, Any]) -> Any:
    """Read nested keys and values, as YAML or words hold them, into a command's dataclass.

    A dataclass may have a static method ``implied``: what is meant where keys are left out, given those that are not.
    """
    told: dict[str, Any] = {}
    for key, value in content.items():
        merge(command, told, str(key), value)
    complaints: list[tuple[str, str]] = []
    typed = _typed(command, told, "", command, complaints)
    complaints += _missing(command, typed, "")
    wrong_words = bool(complaints)
    if not wrong_words and hasattr(command, "implied"):
        implied = command.implied(typed)
        for key, value in typed.items():
            merge(command, implied, key, value)
        typed = implied
    built = _built(command, typed, None, "", complaints)
    _refuse(complaints, f"`topo {name} --help` lists every key" if wrong_words else None)
    return built


def typed_mapping(name: str, command: type, content: Mapping[str, Any]) -> dict[str, Any]:
    """The same keys with values of their types; required ones may be missing."""
    complaints: list[tuple[str, str]] = []
    typed = _typed(command, content, "", command, complaints)
    _refuse(complaints, f"`topo {name} --help` lists every key")
    return typed


def _refuse(complaints: Sequence[tuple[str, str]], advice: str | None) -> None:
    """All complaints together, in one line."""
    if complaints:
        texts = [*(text for _, text in complaints), *([advice] if advice else [])]
        raise ValueError("".join(text + (" " if text.endswith("?") else "; ") for text in texts).rstrip("; "))


def read_yaml(path: str | Path) -> dict[Any, Any]:
    """Keys and values of a YAML file; anything else that it may hold is refused by the file's name."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no file at {path}; expected a YAML file of keys and values: correct its name")
    try:
        content = get_loader("yaml")(read_text(path))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML ({_where(error)}); correct it there") from error
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply; expected keys and values of a few levels") from error
    if content is None:
        raise ValueError(f"{path} is empty; expected keys and values, such as training: {{max_steps: 100}}")
    if not isinstance(content, dict):
        held = "a list" if isinstance(content, list) else f"only {_shown(content)!r}"
        raise ValueError(f"{path} holds {held}; expected keys and values, such as training: {{max_steps: 100}}")
    if _is_recursive(content):
        raise ValueError(f"{path} has an anchor (&) that holds itself; write out what it stands for")
    return content


def merge(command: type, content: dict[str, Any], key: str, value: Any) -> None:
    """Put a value under a dotted key, the keys of a section each by itself, so that what comes later wins."""
    name, _, rest = key.partition(".")
    hint = _hints(command).get(name)
    section = None if hint is None else _section(hint)
    if section is None:
        if not rest:
            content[name] = value
        elif hint is not None and any(get_origin(one) is dict for one in _alternatives(hint)):
            earlier = content.get(name)
            earlier = _loaded(earlier) if isinstance(earlier, str) else earlier
            content[name] = {**(earlier if isinstance(earlier, Mapping) else {}), rest: value}
        else:
            content[key] = value  # unknown, and refused by its whole name
        return
    if rest:
        value = {rest: value}
    elif isinstance(value, str):
        value = read_yaml(value) if value.endswith((".yaml", ".yml")) else _loaded(value)
    if not isinstance(value, Mapping):
        content[name] = value
        return
    inner = content.get(name)
    content[name] = inner = dict(inner) if isinstance(inner, Mapping) else {}
    for within, entry in value.items():
        merge(section, inner, str(within), entry)


def hint_of(command: type, key: str) -> Any:
    """Type of what lies under a dotted key; None for an unknown one."""
    name, _, rest = key.partition(".")
    hint = _hints(command).get(name)
    section = None if hint is None else _section(hint)
    return hint if not rest else None if section is None else hint_of(section, rest)


def _typed(
    command: type, content: Mapping[str, Any], prefix: str, root: type, complaints: list[tuple[str, str]]
) -> dict[str, Any]:
    hints, typed = _hints(command), {}
    for name, value in content.items():
        if name in hints:
            typed[name] = _value(hints[name], value, f"{prefix}{name}", root, complaints)
        else:
            complaints.append((f"{prefix}{name}", _unknown(f"{prefix}{name}", command, prefix, root)))
    return typed


def _missing(command: type, typed: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    """Complaints of keys that have no default and are not given."""
    hints = _hints(command)
    for entry in fields(command):
        key, value = f"{prefix}{entry.name}", typed.get(entry.name)
        if entry.name not in typed and (entry.default, entry.default_factory) == (MISSING, MISSING):
            yield key, f"{key} is missing; expected {_expected(hints[entry.name])}"
        elif isinstance(value, dict) and (section := _section(hints[entry.name])):
            yield from _missing(section, value, f"{key}.")
        elif isinstance(value, list) and (item := _section(_item(hints[entry.name]))):
            for at, one in enumerate(value):
                yield from _missing(item, one, f"{key}[{at}].")


def _value(hint: Any, value: Any, key: str, root: type, complaints: list[tuple[str, str]]) -> Any:
    section = _section(hint)
    if section is not None and isinstance(value, Mapping):
        return _typed(section, value, f"{key}.", root, complaints)
    item = _item(hint)
    if _section(item) is not None:
        value = _loaded(value) if isinstance(value, str) else value
        value = [value] if isinstance(value, Mapping) else value
        if isinstance(value, list) and all(isinstance(one, Mapping) for one in value):
            return [_typed(_section(item), one, f"{key}[{at}].", root, complaints) for at, one in enumerate(value)]
    elif section is None:
        # one word alone is a list of one, unless it is a list that is not closed
        unclosed = isinstance(value, str) and value.count("[") != value.count("]")
        alone = item is not None and isinstance(value, str | int | float) and not unclosed
        for tried in (value, [value]) if alone else (value,):
            found = _leaf(hint, tried)
            if found is not _REFUSED:
                return found
    elif value is None and NoneType in _alternatives(hint):
        return None
    complaints.append((key, f"{key}={_shown(value)}; expected {_expected(hint)}"))
    return None


class _REFUSED:
    """What a type does not take; a class, which copies as itself."""


@dataclass(frozen=True)
class _Given:
    """A value by how it is written: equal ones look alike, and true is not 1."""

    shown: str
    value: Any = field(compare=False)


def _leaf(hint: Any, value: Any) -> Any:
    """A value as jsonargparse reads it for its type; a copy, since what was read once is read again in every cell."""
    try:
        return copy.deepcopy(_read(hint, _Given(repr(value), value)))
    except RecursionError:
        return _REFUSED


@functools.lru_cache(maxsize=10_000)
def _read(hint: Any, given: _Given) -> Any:
    if given.value is None and not {NoneType, Any} & set(_alternatives(hint)):
        return _REFUSED
    try:
        found = _leaf_parser(hint).parse_object({"value": copy.deepcopy(given.value)}).value
    except ArgumentError:
        return _REFUSED
    return found if _is_finite(found) else _REFUSED


@functools.cache
def _leaf_parser(hint: Any) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    return parser


def _built(
    command: type, typed: Mapping[str, Any], default: Any, prefix: str, complaints: list[tuple[str, str]]
) -> Any:
    """The dataclass; sections about which nobody has complained yet say themselves what they refuse."""
    values, hints, declared = dict(typed), _hints(command), {entry.name: entry for entry in fields(command)}
    for name, value in typed.items():
        section, key = _section(hints[name]), f"{prefix}{name}"
        if section is not None and isinstance(value, dict):
            start = _default(declared[name]) if default is None else getattr(default, name)
            values[name] = _built(section, value, start, f"{key}.", complaints)
        elif isinstance(value, list) and (item := _section(_item(hints[name]))):
            values[name] = [_built(item, one, None, f"{key}[{at}].", complaints) for at, one in enumerate(value)]
    if any(key.startswith(prefix) for key, _ in complaints):
        return None
    try:
        return command(**values) if default is None else replace(default, **values)
    except (ValueError, TypeError) as error:
        if not is_refusal(error):
            raise
        complaints.append((prefix, str(error)))
        return None


def _default(entry: Field) -> Any:
    return entry.default_factory() if entry.default_factory is not MISSING else entry.default


@functools.cache
def _hints(command: type) -> dict[str, Any]:
    hints = get_type_hints(command)
    return {entry.name: hints[entry.name] for entry in fields(command)}


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _section(hint: Any) -> Any:
    """The dataclass that a type stands for, perhaps beside null."""
    return next((one for one in _alternatives(hint) if is_dataclass(one)), None)


def _item(hint: Any) -> Any:
    """What a list holds; None for what is no list."""
    return next((get_args(one)[0] for one in _alternatives(hint) if get_origin(one) is list), None)


def _keys(command: type, prefix: str = "") -> Iterator[str]:
    """Every dotted key."""
    for name, hint in _hints(command).items():
        section = _section(hint)
        yield from [f"{prefix}{name}"] if section is None else _keys(section, f"{prefix}{name}.")


def _unknown(key: str, command: type, prefix: str, root: type) -> str:
    """An unknown key beside those that may have been meant: of the same section, or else of any."""
    here, word = [f"{prefix}{name}" for name in _hints(command)], key.split(".")[-1]
    for known in (here, list(_keys(root))):
        last = [one.split(".")[-1] for one in known]
        nearest = difflib.get_close_matches(word, last, n=1, cutoff=0.7)
        if nearest:
            meant = [one for one, end in zip(known, last, strict=True) if end == nearest[0]]
            return f"unknown key {key}; did you mean {_either(meant)}?"
    return f"unknown key {key}; expected one of {', '.join(here)}"


def _expected(hint: Any) -> str:
    return _either([_kind(one) for one in _alternatives(hint)])


def _kind(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return f"keys of its own: {', '.join(entry.name for entry in fields(hint))}"
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin is list:
        return f"a list, [{_expected(inner[0])}, ...]" if not is_dataclass(inner[0]) else "a list, [{key: value}, ...]"
    if origin is tuple:
        return f"[{', '.join(map(_expected, inner))}]"
    return "{key: value}" if origin is dict else _NAMES.get(hint, "a value")


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _shown(value: Any) -> str:
    """A value as it may be typed, on one line and not too long."""
    if value is None or isinstance(value, bool):
        text = {None: "null", True: "true", False: "false"}[value]
    elif isinstance(value, str | int | float):
        text = str(value)
    else:
        try:
            text = repr(value)
        except RecursionError:
            text = "something nested too deeply"
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _loaded(text: str) -> Any:
    """What a text stands for in YAML; the text itself where it is none."""
    try:
        content = get_loader("yaml")(text)
    except yaml.YAMLError:
        return text
    return text if _is_recursive(content) else content


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or " ".join(str(error).split())
    return problem if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def _is_recursive(content: Any, above: tuple[int, ...] = (), done: set[int] | None = None) -> bool:
    """Whether lists or mappings contain themselves, as YAML's anchors allow."""
    done = set() if done is None else done
    if not isinstance(content, dict | list) or id(content) in done:
        return False
    if id(content) in above:
        return True
    inner = content.values() if isinstance(content, dict) else content
    if any(_is_recursive(one, (*above, id(content)), done) for one in inner):
        return True
    done.add(id(content))
    return False


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return all(map(_is_finite, inner))
