"""Templates become pages: prose lies in ``templates/``, every text is escaped on its way in."""

import base64
import functools
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import topographic
from topographic.evaluation import wording
from topographic.plots.nulls import null_title
from topographic.storage import write_atomically

__all__ = ["anchor", "link", "png_source", "render", "write_rendered"]


@functools.cache
def _environment() -> Any:
    try:
        import jinja2
    except ImportError as error:
        raise ImportError(
            f"pages need jinja2, which is not installed ({error}); run `pip install topographic[report]`"
        ) from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("topographic.pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,  # a name that a template spells wrong is an error, not an empty place
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["version"] = topographic.__version__
    environment.filters |= {"count": wording.count, "number": wording.number, "p_value": wording.p_value}
    environment.filters["null_title"] = null_title
    return environment


def render(template: str, **context: Any) -> str:
    """A template with what it asks for; another template takes it as markup with ``|safe``."""
    return _environment().get_template(template).render(**context)


def write_rendered(file: Path, template: str, **context: Any) -> Path:
    """Write a whole page or nothing."""
    page = render(template, **context)
    with write_atomically(file) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return file


def png_source(file: Path) -> str:
    """An address that carries a whole picture."""
    return f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode('ascii')}"


def anchor(heading: str) -> str:
    """Where a page's own links find a heading."""
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")


def link(file: Path, place: Path) -> str:
    """Where a file lies as seen from the folder of a page."""
    return quote(os.path.relpath(file, place).replace(os.sep, "/"))
