"""From words on the command line to a dataclass."""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

__all__ = ["parse_command", "parse_mapping", "parser_of"]


def parser_of(name: str, command: type, description: str) -> ArgumentParser:
    """Parser of one command: every field of its dataclass an option, dots for nested ones.

    Parameters
    ----------
    name : str
        Name of the command.
    command : type
        Its dataclass. The first field may be given as a bare word, or as several if it is a list.
    description : str
        One line for the help page.

    Returns
    -------
    ArgumentParser
        A jsonargparse parser with ``--config`` and ``--print_config``.
    """
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(prog=f"topo {name}", description=description, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with any of the keys below; later words win.")
    parser.add_class_arguments(command, fail_untyped=True)
    return parser


@functools.cache
def _parser(name: str, command: type) -> ArgumentParser:
    """Parsers take longer to build than to use, and a sweep reads hundreds of recipes."""
    return parser_of(name, command, "")


def parse_command(name: str, command: type, description: str, words: Sequence[str]) -> Any:
    """Read options, YAML files and ``key=value`` words into a command's dataclass.

    Parameters
    ----------
    name : str
        Name of the command.
    command : type
        Its dataclass.
    description : str
        One line for the help page.
    words : sequence of str
        What stood on the command line after the name. ``recipe.yaml`` means ``--config recipe.yaml``,
        ``training.max_steps=500`` means ``--training.max_steps=500``, a switch without a value (``--overwrite``) is
        on, other bare words fill the first field.

    Returns
    -------
    object
        The command's dataclass, validated.

    Raises
    ------
    ValueError
        In one line, for an unknown key, a value of another type or a file that is not there.
    """
    parser = parser_of(name, command, description)
    try:
        parsed = parser.parse_args(_as_options(words, command))
        fields = {key: entry for key, entry in vars(parser.instantiate(parsed)).items() if key != "config"}
    except ArgumentError as error:
        message = re.sub(r"\s+", " ", str(error)).strip()
        raise ValueError(f"{message}; `topo {name} --help` lists every key") from None
    return command(**fields)


def parse_mapping(name: str, command: type, content: Mapping[str, Any]) -> Any:
    """Read nested keys and values, as YAML holds them, into a command's dataclass.

    Parameters
    ----------
    name : str
        Name of the command.
    command : type
        Its dataclass.
    content : mapping
        Nested mappings of key to value; what is left out takes its default.

    Returns
    -------
    object
        The command's dataclass, validated.

    Raises
    ------
    ValueError
        In one line, for an unknown key or a value of another type.
    """
    parser = _parser(name, command)
    try:
        parsed = parser.parse_object(dict(content))
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
