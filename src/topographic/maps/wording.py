"""A number and a p value as one reads them: the same in sentences, tables and pages."""

import math

__all__ = ["MINUS", "NOTHING", "number", "p_value"]

MINUS, NOTHING = "\N{MINUS SIGN}", "\N{EN DASH}"


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
