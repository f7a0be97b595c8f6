"""`Selection`: some units of a site, and how they were chosen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, no_type_check

import numpy as np
import pandas as pd
from jaxtyping import Bool

from topographic import drawing
from topographic.sheets import Sheet
from topographic.storage import load_noun, save_arrays

if TYPE_CHECKING:
    from topographic.drawing.picture import Axes

__all__ = ["Selection"]


@no_type_check  # lists and arrays are welcome: __post_init__ converts and checks what the fields then hold
@dataclass(frozen=True, eq=False, repr=False)
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

    def __repr__(self) -> str:
        """One line."""
        return f"Selection({self.site!r}: {self.n_selected} of {self.sheet.n_units} units, {self.rule})"

    def to_frame(self) -> pd.DataFrame:
        """A row per chosen unit: its number and its place on the sheet in mm."""
        units = np.flatnonzero(self.mask)
        places = self.sheet.positions_mm.numpy()[units]
        axes = {f"{axis}_mm": places[:, index] for index, axis in zip(range(places.shape[1]), "xyz", strict=False)}
        return pd.DataFrame({"unit": units, **axes})

    def plot(self, ax: "Axes | None" = None, *, title: str | None = None) -> "Axes":
        """The chosen units as a picture of their sheet; axes go in, the same come out."""
        told = self.site if title is None else title
        return drawing.draw_sheet(self.sheet, self.mask.astype(np.float32), ax, limit=1.0, is_signed=False, title=told)

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
