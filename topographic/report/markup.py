"""The few bits of HTML that a page needs; every text is escaped on its way in, every number written one way."""

import html
import math
from collections.abc import Sequence
from importlib import resources
from typing import Any

__all__ = ["MINUS", "NOTHING", "Html", "count", "duration", "missing", "number", "p_value", "resource", "table", "tag"]

MINUS, NOTHING = "\N{MINUS SIGN}", "\N{EN DASH}"
VOID = ("img", "br", "hr", "meta")


class Html(str):
    """Text that is markup already; any other text is escaped by `tag`."""

    __slots__ = ()


def tag(name: str, *children: Any, **attributes: Any) -> Html:
    """One HTML element.

    Parameters
    ----------
    name : str
        Name of the element.
    *children : str or Html or None
        Content in order. Plain text is escaped, `Html` is taken as it is, None is left out.
    **attributes : object
        Attributes, escaped. A trailing underscore is dropped (``class_``), other underscores become
        hyphens; an attribute that is None is left out.

    Returns
    -------
    Html
        The element.
    """
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Html(f"<{name}{pairs}>")
    content = "".join(
        child if isinstance(child, Html) else html.escape(str(child), quote=False)
        for child in children
        if child is not None
    )
    return Html(f"<{name}{pairs}>{content}</{name}>")


def number(value: float | int | None, digits: int = 2, *, signed: bool = False) -> str:
    """A number with a fixed count of decimals and a true minus sign.

    Parameters
    ----------
    value : float or None
        What to write.
    digits : int
        Decimals.
    signed : bool
        Also write a plus.

    Returns
    -------
    str
        "0.71", "−0.03"; a dash where there is no value. What rounds to zero carries no sign.
    """
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    if not text.strip("+-0."):
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def p_value(p: float | None, *, sign: bool = False) -> str:
    """A p value as papers print it.

    Parameters
    ----------
    p : float or None
        Probability.
    sign : bool
        Also write the equals sign, for use in a sentence.

    Returns
    -------
    str
        "< .001", ".034" (or "= .034"), "1.000"; a dash where there is none.
    """
    if p is None or math.isnan(p):
        return NOTHING
    if p < 0.001:
        return "< .001"
    return f"{'= ' if sign else ''}{f'{p:.3f}'.removeprefix('0')}"


def count(value: int | None) -> str:
    """A whole number with separated thousands.

    Parameters
    ----------
    value : int or None
        What to write.

    Returns
    -------
    str
        "1,234,567"; a dash where there is no value.
    """
    return NOTHING if value is None else f"{value:,}"


def duration(seconds: float | int | None) -> str:
    """A time span in its two largest units.

    Parameters
    ----------
    seconds : float or None
        Length in seconds.

    Returns
    -------
    str
        "42 s", "3 min 12 s", "5 h 07 min", "2 d 3 h"; a dash where there is no value.
    """
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


def table(
    header: Sequence[Any],
    rows: Sequence[Sequence[Any]],
    *,
    caption: Any = None,
    groups: Sequence[tuple[str, int]] = (),
    style: str | None = None,
    n_names: int = 1,
) -> Html:
    """A table that scrolls sideways inside its frame where the screen is narrow.

    Parameters
    ----------
    header : sequence of str
        Names of the columns; the first columns hold the names of the rows.
    rows : sequence of sequences
        Cells as text, one sequence per row.
    caption : str, optional
        Says what to see.
    groups : sequence of (str, int), optional
        Names and widths of groups of columns, printed above the header.
    style : str, optional
        Classes of the page's style: "numbers" sets cells right so that digits stand under one another,
        "dense" makes many columns fit.
    n_names : int
        How many columns hold names. A row whose first name is empty goes on with the row above it.

    Returns
    -------
    Html
        The table in its frame.
    """
    heads = [tag("tr", *(tag("th", name, colspan=span, scope="colgroup") for name, span in groups))] if groups else []
    heads.append(
        tag(
            "tr",
            *(
                tag("th", name, scope="col", class_="name" if 0 < index < n_names else None)
                for index, name in enumerate(header)
            ),
        )
    )
    body = [
        tag(
            "tr",
            *(tag("th", name, scope="row") for name in row[:n_names]),
            *(tag("td", cell) for cell in row[n_names:]),
            class_=_row_class(row[0]),
        )
        for row in rows
    ]
    content = tag(
        "table",
        tag("caption", caption) if caption is not None else None,
        tag("thead", *heads),
        tag("tbody", *body),
        class_=style,
    )
    return tag("div", content, class_="scroll", tabindex="0")


def _row_class(name: Any) -> str | None:
    """Rows of means stand out, rows without a name belong to the one above."""
    if str(name).startswith("mean over"):
        return "mean"
    return None if str(name) else "more"


def missing(sentence: str, command: str) -> Html:
    """One line that says what a page lacks and which command makes it.

    Parameters
    ----------
    sentence : str
        What is missing.
    command : str
        What makes it.

    Returns
    -------
    Html
        A paragraph.
    """
    return tag("p", f"{sentence} ", tag("code", command), class_="missing")


def resource(name: str) -> str:
    """A file that comes with this room.

    Parameters
    ----------
    name : str
        "page.html", the frame of a page, or "page.css", its style.

    Returns
    -------
    str
        Its text.
    """
    return resources.files("topographic.report").joinpath(name).read_text(encoding="utf-8")
