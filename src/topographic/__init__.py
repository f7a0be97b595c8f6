"""Networks whose units lie on a cortical sheet.

Import from the rooms, for example ``from topographic.sheets import grid``; docs/architecture.md
says which room holds what.
"""

__version__ = "0.1.0"
