"""The few bits of HTML that a page needs; every text is escaped on its way in, every number written one way."""

import html
from collections.abc import Sequence
from importlib import resources
from typing import Any

__all__ = ["Html", "missing", "resource", "table", "tag"]

VOID = ("img", "br", "hr", "meta")


class Html(str):
    """Text that is markup already; any other text is escaped by `tag`."""

    __slots__ = ()


def tag(name: str, *children: Any, **attributes: Any) -> Html:
    """One HTML element."""
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


def table(
    header: Sequence[Any],
    rows: Sequence[Sequence[Any]],
    *,
    caption: Any = None,
    groups: Sequence[tuple[str, int]] = (),
    style: str | None = None,
    n_names: int = 1,
) -> Html:
    """A table that scrolls sideways inside its frame where the screen is narrow."""
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
    """One line that says what a page lacks and which command makes it."""
    return tag("p", f"{sentence} ", tag("code", command), class_="missing")


def resource(name: str) -> str:
    """A file that comes with this room."""
    return resources.files("topographic.pages").joinpath("templates", name).read_text(encoding="utf-8")
