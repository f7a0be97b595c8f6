"""`Selection`: some units of a site, and how they were chosen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Bool

from topographic.sheets import Sheet
from topographic.storage import load_noun, save_arrays

__all__ = ["Selection"]


@no_type_check  # lists and arrays are welcome: __post_init__ converts and checks what the fields then hold
@dataclass(frozen=True, eq=False)
class Selection:
    """Chosen units of one site.

    Parameters
    ----------
    site : str
        Name of the recorded module.
    mask : ndarray of bool, shape (units,)
        True for chosen units. Booleans only: a float mask with NaN would select what it meant to drop.
    sheet : Sheet
        Where the units lie.
    rule : str
        How they were chosen, for example "q < 0.05 and t > 0".
    provenance : mapping, optional
        Anything JSON can hold.

    Raises
    ------
    TypeError, ValueError
        If the mask is not boolean or does not fit the sheet.
    """

    site: str
    mask: Bool[np.ndarray, " units"]
    sheet: Sheet
    rule: str
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse masks that are not boolean or do not fit."""
        mask = np.ascontiguousarray(self.mask)
        if mask.dtype != bool:
            raise TypeError(
                f"selection at {self.site!r}: mask is {mask.dtype}; expected bool: compare it to a threshold"
            )
        if mask.shape != (self.sheet.n_units,):
            raise ValueError(
                f"selection at {self.site!r}: mask has shape {mask.shape}; sheet {self.sheet.name!r} has "
                f"{self.sheet.n_units} units"
            )
        object.__setattr__(self, "mask", mask)

    @property
    def n_selected(self) -> int:
        """Number of chosen units."""
        return int(self.mask.sum())

    def save(self, path: str | Path) -> None:
        """Write the selection and its sheet to one safetensors file."""
        sheet_arrays, sheet = self.sheet.to_arrays("sheet.")
        arrays = {"mask": self.mask, **sheet_arrays}
        metadata = {"noun": "Selection", "site": self.site, "rule": self.rule, "sheet": sheet}
        save_arrays(path, arrays, {**metadata, "provenance": dict(self.provenance)})

    @classmethod
    def load(cls, path: str | Path) -> "Selection":
        """Read what `save` wrote."""
        arrays, metadata = load_noun(path, "Selection")
        return cls(
            site=metadata["site"],
            mask=arrays["mask"],
            sheet=Sheet.from_arrays(arrays, metadata["sheet"], "sheet."),
            rule=metadata["rule"],
            provenance=metadata["provenance"],
        )
