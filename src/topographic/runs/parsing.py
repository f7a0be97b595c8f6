"""From nested keys and values to a dataclass, by the same parser that reads the command line."""

import functools
import re
from collections.abc import Mapping
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

__all__ = ["parse_mapping", "parser_of"]


def parser_of(name: str, command: type, description: str) -> ArgumentParser:
    """Parser of one command: every field of its dataclass an option, dots for nested ones."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(prog=f"topo {name}", description=description, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with any of the keys below; later words win.")
    parser.add_class_arguments(command, fail_untyped=True)
    return parser


@functools.cache
def _parser(name: str, command: type) -> ArgumentParser:
    """Parsers take longer to build than to use, and a sweep reads hundreds of recipes."""
    return parser_of(name, command, "")


def parse_mapping(name: str, command: type, content: Mapping[str, Any]) -> Any:
    """Read nested keys and values, as YAML holds them, into a command's dataclass."""
    parser = _parser(name, command)
    try:
        parsed = parser.parse_object(dict(content))
        fields = {key: entry for key, entry in vars(parser.instantiate(parsed)).items() if key != "config"}
    except ArgumentError as error:
        message = re.sub(r"\s+", " ", str(error)).strip()
        raise ValueError(f"{message}; `topo {name} --help` lists every key") from None
    return command(**fields)
