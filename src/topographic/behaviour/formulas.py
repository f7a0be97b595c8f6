"""Prediction formulas of SyntaxGym suites, read by a small parser and never executed as code."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Formula", "parse_formula"]

Surprisals = Mapping[tuple[str, int], float]
Node = tuple[type, Callable[[Surprisals], Any]]

TOKEN = re.compile(
    r"\s*(?:(?P<region>\(\s*(?P<number>\d+|\*)\s*;\s*%(?P<condition>[^%]+)%\s*\))"
    r"|(?P<literal>\d+(?:\.\d+)?)|(?P<symbol>[-+<>=&|()\[\]]))"
)
# two surprisals in bits count as equal within these, as in the SyntaxGym tools
ABSOLUTE_BITS, RELATIVE = 1e-3, 1e-5


@dataclass(frozen=True)
class Formula:
    """A prediction, ready to be tested.

    Parameters
    ----------
    text : str
        The formula as it was written.
    regions : frozenset of (str, str)
        Conditions and region numbers ("*" for all regions) that it mentions.
    holds : callable
        ``{(condition, region number): surprisal in bits} -> bool``.
    """

    text: str
    regions: frozenset[tuple[str, str]]
    holds: Callable[[Surprisals], bool]


def parse_formula(text: str) -> Formula:
    """Read a formula such as ``((6;%sing%) < (6;%plur%)) & ((7;%a%) + (7;%b%) > 0)``.

    From the loosest to the tightest: ``& |`` (from left to right), ``< > =`` (once), ``+ -`` (from left to right),
    then a region ``(number;%condition%)``, all regions ``(*;%condition%)``, a number, or round or square brackets.

    Notes
    -----
    Surprisals are equal (``=``) when they differ by at most ``1e-3 + 1e-5 |right|`` bits, as in the SyntaxGym tools.
    """
    reader = _Reader(text)
    kind, evaluate = reader.expression()
    if reader.tokens:
        raise reader.error(f"nothing after the end, got {reader.tokens[0][0]!r}")
    if kind is not bool:
        raise reader.error("a comparison with <, > or =")
    return Formula(text, frozenset(reader.regions), evaluate)


class _Reader:
    """Recursive descent over the tokens of one formula; every level returns what it evaluates to, and how."""

    def __init__(self, text: str) -> None:
        self.text, self.regions, self.tokens, place = text, set(), [], 0
        while text[place:].strip():
            match = TOKEN.match(text, place)
            if match is None:
                raise self.error(
                    f"a region such as (1;%condition%), a number, a bracket or one of +-<>=&| at "
                    f"{text[place:].strip()[:12]!r}"
                )
            self.tokens.append((match["symbol"] or match.group().strip(), match))
            place = match.end()

    def error(self, expected: str) -> ValueError:
        return ValueError(f"formula {self.text!r} cannot be read; expected {expected}")

    def expression(self) -> Node:
        left = self.comparison()
        while symbol := self._next("&", "|"):
            left = self._join(symbol, left, self.comparison(), bool)
        return left

    def comparison(self) -> Node:
        left = self.sum()
        if symbol := self._next("<", ">", "="):
            left = self._join(symbol, left, self.sum(), float)
        return left

    def sum(self) -> Node:
        left = self.atom()
        while symbol := self._next("+", "-"):
            left = self._join(symbol, left, self.atom(), float)
        return left

    def atom(self) -> Node:
        if self._next("(", "["):
            inside = self.expression()
            if not self._next(")", "]"):
                raise self.error("a closing bracket")
            return inside
        token, match = self.tokens.pop(0) if self.tokens else ("the end", None)
        if match is not None and match["region"]:
            condition, number = match["condition"], match["number"]
            self.regions.add((condition, number))
            if number == "*":
                return float, lambda bits: sum(value for (name, _), value in bits.items() if name == condition)
            return float, lambda bits: bits[condition, int(number)]
        if match is not None and match["literal"]:
            return float, lambda _: float(token)
        raise self.error(f"a region, a number or a bracket, got {token!r}")

    def _next(self, *symbols: str) -> str | None:
        """Take the next token if it is one of these."""
        return self.tokens.pop(0)[0] if self.tokens and self.tokens[0][0] in symbols else None

    def _join(self, symbol: str, left: Node, right: Node, takes: type) -> Node:
        if left[0] is not takes or right[0] is not takes:
            raise self.error(f"{'comparisons' if takes is bool else 'numbers'} on both sides of {symbol!r}")
        gives, operate = OPERATORS[symbol]
        return gives, lambda bits: operate(left[1](bits), right[1](bits))


OPERATORS: dict[str, tuple[type, Callable[[Any, Any], Any]]] = {
    "&": (bool, lambda left, right: left and right),
    "|": (bool, lambda left, right: left or right),
    "<": (bool, lambda left, right: bool(left < right)),
    ">": (bool, lambda left, right: bool(left > right)),
    "=": (bool, lambda left, right: bool(abs(left - right) <= ABSOLUTE_BITS + RELATIVE * abs(right))),
    "+": (float, lambda left, right: left + right),
    "-": (float, lambda left, right: left - right),
}
