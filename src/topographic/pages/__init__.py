"""Pages to read and click."""

from topographic.pages.page import write_page

__all__ = ["write_page"]
