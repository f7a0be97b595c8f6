"""Pages to read and click."""

from topographic.pages.report import write_page

__all__ = ["write_page"]
