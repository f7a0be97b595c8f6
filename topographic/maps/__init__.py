"""Where on the sheet."""

from topographic.maps.selection import Selection
from topographic.maps.unit_map import UnitMap

__all__ = ["Selection", "UnitMap"]
