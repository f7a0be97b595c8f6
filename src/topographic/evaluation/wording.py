"""Numbers as one reads them; those of `topographic.maps.wording`, and what pages need beside these."""

import math

from topographic.maps.wording import MINUS, NOTHING, number, p_value

__all__ = [
    "MINUS",
    "NOTHING",
    "NO_BREAK",
    "count",
    "counted",
    "duration",
    "number",
    "p_value",
    "percent",
    "plus_minus",
]

NO_BREAK = "\N{NO-BREAK SPACE}"  # a number keeps its unit beside it where a cell is broken


def plus_minus(mean: float, sd: float, digits: int = 2) -> str:
    """A mean with its standard deviation."""
    return f"{number(mean, digits)}{NO_BREAK}±{NO_BREAK}{number(sd, digits)}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share in percent."""
    return NOTHING if share is None or math.isnan(share) else f"{number(100 * share, digits)} %"


def count(value: int | None) -> str:
    """A whole number with separated thousands."""
    return NOTHING if value is None else f"{value:,}"


def duration(seconds: float | int | None) -> str:
    """A time span in its two largest units."""
    if seconds is None:
        return NOTHING
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def counted(n: int, noun: str) -> str:
    """So many of something: one in the singular."""
    return f"{n} {noun}{'' if n == 1 else 's'}"
