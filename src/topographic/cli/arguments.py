"""From words on the command line to a dataclass."""

import json
import re
from collections.abc import Sequence
from dataclasses import Field, fields
from typing import Any

from jsonargparse import ArgumentError

from topographic.runs.parsing import parser_of

__all__ = ["parse_command"]


def parse_command(name: str, command: type, description: str, words: Sequence[str]) -> Any:
    """Read options, YAML files and ``key=value`` words into a command's dataclass."""
    parser = parser_of(name, command, description)
    try:
        parsed = parser.parse_args(_as_options(words, command))
        fields = {key: entry for key, entry in vars(parser.instantiate(parsed)).items() if key != "config"}
    except ArgumentError as error:
        message = re.sub(r"\s+", " ", str(error)).strip()
        raise ValueError(f"{message}; `topo {name} --help` lists every key") from None
    return command(**fields)


def _as_options(words: Sequence[str], command: type) -> list[str]:
    """Spell bare words as options; argparse keeps their order, so later ones win."""
    options: list[str] = []
    bare: list[str] = []
    takes_value = False
    switches = {f"--{entry.name}" for entry in fields(command) if entry.type in (bool, "bool")}
    for word, following in zip(words, [*words, ""][1:], strict=True):
        if not takes_value and word in switches and following.lower() not in ("true", "false"):
            options.append(f"{word}=true")
        elif takes_value or word.startswith("-"):
            options.append(word)
            takes_value = word.startswith("--") and "=" not in word and word not in ("--help", "--print_config")
        elif re.fullmatch(r"[A-Za-z_][\w.]*=.*", word, flags=re.DOTALL):
            options.append(f"--{word}")
        elif word.endswith((".yaml", ".yml")):
            options += ["--config", word]
        else:
            bare.append(word)
    if bare:
        first = fields(command)[0]
        options += [f"--{first.name}", json.dumps(bare)] if str(first.type).startswith("list") else _single(first, bare)
    return options


def _single(first: Field, words: list[str]) -> list[str]:
    # a second bare word is left for the parser to refuse
    return [f"--{first.name}", words[0], *words[1:]]
