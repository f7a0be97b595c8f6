"""Numbers as one reads them."""

import math

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

MINUS, NOTHING = "\N{MINUS SIGN}", "\N{EN DASH}"
NO_BREAK = "\N{NO-BREAK SPACE}"  # a number keeps its unit beside it where a cell is broken


def number(value: float | int | None, digits: int = 2, *, signed: bool = False) -> str:
    """A number with a fixed count of decimals and a true minus sign."""
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    if not text.strip("+-0."):
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def p_value(p: float | None, *, sign: bool = False) -> str:
    """A p value as papers print it."""
    if p is None or math.isnan(p):
        return NOTHING
    if p < 0.001:
        return "< .001"
    return f"{'= ' if sign else ''}{f'{p:.3f}'.removeprefix('0')}"


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
