"""From words on the command line to a dataclass."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

from topographic.runs.parsing import hint_of, merge, parse_mapping, parser_of, read_yaml, typed_mapping

__all__ = ["parse_command"]


def parse_command(name: str, command: type, description: str, words: Sequence[str]) -> Any:
    """Read options, YAML files and ``key=value`` words into a command's dataclass."""
    asked = [word for word in words if word in ("-h", "--help") or word.split("=")[0] == "--print_config"]
    if set(asked) & {"-h", "--help"}:
        parser_of(name, command, description).parse_args(["--help"])
    content: dict[str, Any] = {}
    for key, value in _pairs(name, command, [word for word in words if word not in asked]):
        if key == "config":
            for section, entry in read_yaml(value).items():
                merge(command, content, str(section), entry)
        else:
            merge(command, content, key, value)
    if asked:
        told = json.dumps(typed_mapping(name, command, content))
        parser_of(name, command, description).parse_args([f"--config={told}", asked[0]])
    return parse_mapping(name, command, content)


def _pairs(name: str, command: type, words: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Keys and values in the order in which they are said, so that later ones win; bare words come last."""
    bare: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if word.startswith("--"):
            key, is_said, value = word[2:].partition("=")
            follows = left[0] if left else None
            if not is_said and hint_of(command, key) is bool and str(follows).lower() not in ("true", "false"):
                value = "true"
            elif not is_said:
                if follows is None or follows.startswith("--"):
                    raise ValueError(f"--{key}: expected a value after it; `topo {name} --help` lists every key")
                value = left.pop(0)
            yield key, value
        elif re.fullmatch(r"[A-Za-z_][\w.]*=.*", word, flags=re.DOTALL):
            key, _, value = word.partition("=")
            yield key, value
        elif word.startswith("-"):
            raise ValueError(f"unknown option {word}; expected --key=value; `topo {name} --help` lists every key")
        elif word.endswith((".yaml", ".yml")):
            yield "config", word
        else:
            bare.append(word)
    first = fields(command)[0]
    if bare and str(first.type).startswith("list"):
        yield first.name, bare
    elif len(bare) > 1:
        raise ValueError(
            f"unexpected word {bare[1]!r} after {first.name}={bare[0]}; expected key=value, in quotes if it has spaces"
        )
    elif bare:
        yield first.name, bare[0]
