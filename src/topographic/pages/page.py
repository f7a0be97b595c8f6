"""Run folders -> one self-contained page."""

from collections.abc import Sequence
from pathlib import Path
from string import Template

import topographic
from topographic.pages.markup import resource, tag
from topographic.pages.run_folder import read_runs
from topographic.pages.sections import SECTIONS, Comparison, lead
from topographic.storage import write_atomically

__all__ = ["write_page"]


def write_page(run_folders: Sequence[Path], out: Path, *, title: str | None = None) -> Path:
    """Write one page about one or more runs, side by side.

    Parameters
    ----------
    run_folders : sequence of Path
        Folders that `topo train` and `topo map` wrote.
    out : Path
        File to write. It carries its style and its pictures and loads nothing; only its links to the
        files of the runs are relative to where it lies.
    title : str, optional
        Heading; the names of the runs by default.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    ValueError
        If no folder is given, one is given twice, or one is no run.
    ImportError
        If matplotlib is missing.
    OSError
        If the page cannot be written.
    """
    out = Path(out)
    comparison = Comparison(read_runs(run_folders), out.parent)
    *names, last = (run.name for run in comparison.runs)
    title = title or f"Report on {', '.join(names)}{' and ' if names else ''}{last}"
    anchors = {heading: heading.lower().replace(" ", "-") for heading in SECTIONS}
    links = [tag("li", tag("a", heading, href=f"#{anchor}")) for heading, anchor in anchors.items()]
    bodies = [
        tag("section", tag("h2", heading), make(comparison), id=anchors[heading]) for heading, make in SECTIONS.items()
    ]
    page = Template(resource("page.html")).substitute(
        title=tag("title", title),
        style=resource("page.css"),
        header=tag("header", tag("h1", title), lead(comparison.runs), tag("nav", tag("ul", *links))),
        main=tag("main", *bodies),
        footer=tag("footer", tag("p", f"Written by topographic {topographic.__version__}.")),
    )
    with write_atomically(out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return out
