"""What a door refuses before anything runs: things of another kind, and numbers out of range."""

import math
from numbers import Integral, Real
from typing import Any

__all__ = ["expect_kind", "expect_number", "expect_whole"]


def expect_kind(name: str, value: Any, kind: Any, remedy: str) -> None:
    """Refuse what is not of a kind, in words of what it is."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {_described(value)}; expected {_a(kind.__name__)}: {remedy}")


def expect_whole(name: str, value: Any, least: int = 0) -> None:
    """Refuse what is no whole number from ``least`` on."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise ValueError(f"{name}={value!r}; expected a whole number, at least {least}")
    if value < least:
        raise ValueError(f"{name}={value}; expected at least {least}")


def expect_number(name: str, value: Any, expected: str, *, least: float = 0.0, most: float = math.inf) -> None:
    """Refuse what is no finite number within limits, which ``expected`` says in words."""
    if not isinstance(value, Real) or not math.isfinite(value) or not least <= float(value) <= most:
        raise ValueError(f"{name}={value}; expected {expected}")


def _described(value: Any) -> str:
    if isinstance(value, str):
        return f"the string {value[:40]!r}"
    if isinstance(value, type) or (callable(value) and hasattr(value, "__name__")):
        return f"{'the class' if isinstance(value, type) else 'the function'} {value.__name__}"
    if isinstance(value, list | tuple | set | dict) and value:
        kinds = sorted({type(entry).__name__ for entry in (value.values() if isinstance(value, dict) else value)})
        return f"{_a(type(value).__name__)} of {len(value)} {' and '.join(kinds[:2])}"
    return "None" if value is None else _a(type(value).__name__)


def _a(noun: str) -> str:
    return f"{'an' if noun[:1] in 'aeiouAEIO' else 'a'} {noun}"
