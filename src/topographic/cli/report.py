"""`topo report`: one page about one or more runs."""

from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ReportCommand", "report"]


@dataclass(frozen=True)
class ReportCommand:
    """Write a self-contained page."""

    runs: list[str] = field(default_factory=list)
    """Run folders to show side by side."""
    out: str | None = None
    """File to write; report.html in the first run folder by default."""
    title: str | None = None
    """Heading of the page."""

    def __post_init__(self) -> None:
        """Refuse to report nothing."""
        if not self.runs:
            raise ValueError("no run folder given; expected one or more: topo report runs/demo/topographic")


def report(command: ReportCommand) -> Path:
    """Write the page."""
    from topographic.pages import write_page

    runs = [Path(run) for run in command.runs]
    page = write_page(runs, Path(command.out) if command.out else runs[0] / "report.html", title=command.title)
    print(page)
    return page
