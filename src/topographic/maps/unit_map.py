"""`UnitMap`: one number per unit, on its sheet."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, no_type_check

import numpy as np
import pandas as pd
from jaxtyping import Float

from topographic import drawing
from topographic.sheets import Sheet
from topographic.storage import load_noun, save_arrays

if TYPE_CHECKING:
    from topographic.drawing.picture import Axes

__all__ = ["UnitMap", "statistic_label"]

_FDR = 0.05
_LABELS = {"welch_t": "t", "cohens_d": "Cohen's d", "mean_response": "mean response (units of activation)"}


@no_type_check  # lists and arrays are welcome: __post_init__ converts and checks what the fields then hold
@dataclass(frozen=True, eq=False, repr=False)
class UnitMap:
    """One value per unit of a site, with its sheet and its null maps.

    Parameters
    ----------
    site : str
        Name of the recorded module.
    values : ndarray, shape (units,)
        The statistic of each unit, kept in float32. NaN marks units without a value
        (the medial wall of a cortical surface).
    sheet : Sheet
        Where the units lie.
    statistic : str
        What the values are, for example "welch_t".
    p : ndarray, shape (units,), optional
        Two-sided p value of each unit, uncorrected.
    q : ndarray, shape (units,), optional
        Benjamini-Hochberg adjusted p of each unit, over all maps corrected together.
    nulls : mapping of str to ndarray, shape (draws, units), optional
        The same map under nulls of any name: "floor" (white noise through the same readout), "unit" (units
        permuted before the readout) and "label" (stimulus labels permuted) are those of `t_map`. Any
        statistic of the map is tested by computing it on all of these as well.
    provenance : mapping, optional
        Contrast, readout, numbers of items, seeds: anything JSON can hold.

    Raises
    ------
    ValueError
        If a shape does not fit the sheet, a value is infinite, or a null has no name.
    """

    site: str
    values: Float[np.ndarray, " units"]
    sheet: Sheet
    statistic: str
    p: Float[np.ndarray, " units"] | None = None
    q: Float[np.ndarray, " units"] | None = None
    nulls: Mapping[str, Float[np.ndarray, "draws units"]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Convert to float32 (p and q to float64) and refuse misfits."""
        object.__setattr__(self, "values", self._per_unit("values", self.values, np.float32))
        for key in ("p", "q"):
            if getattr(self, key) is not None:
                object.__setattr__(self, key, self._per_unit(key, getattr(self, key), np.float64))
        nulls = {}
        for key, maps in self.nulls.items():
            if not (isinstance(key, str) and key.strip()):
                raise ValueError(f"map at {self.site!r}: a null is called {key!r}; give it a name, such as 'spin'")
            nulls[key] = self._per_unit(f"null {key!r}", maps, np.float32, axes=2)
        object.__setattr__(self, "nulls", nulls)

    def _per_unit(self, key: str, array: Any, dtype: type, axes: int = 1) -> np.ndarray:
        converted = np.ascontiguousarray(array, dtype=dtype)
        if converted.ndim != axes or converted.shape[-1] != self.sheet.n_units:
            raise ValueError(
                f"map at {self.site!r}: {key} has shape {converted.shape}; sheet {self.sheet.name!r} has "
                f"{self.sheet.n_units} units: give one value per unit, in unit order"
            )
        if np.isinf(converted).any():
            raise ValueError(f"map at {self.site!r}: {key} holds infinity; use NaN for units without a value")
        return converted

    def __repr__(self) -> str:
        """One line."""
        present = self.values[~np.isnan(self.values)]
        told = [f"{self.statistic} of {self.sheet.n_units} units"]
        told += [f"from {present.min():.3g} to {present.max():.3g}"] if len(present) else ["no value"]
        told += [] if self.q is None else [f"{int((self.q < _FDR).sum())} with q < {_FDR:g}"]
        told += (
            [f"nulls {', '.join(f'{null} x {len(maps)}' for null, maps in self.nulls.items())}"] if self.nulls else []
        )
        return f"UnitMap({self.site!r}: {', '.join(told)})"

    def to_frame(self) -> pd.DataFrame:
        """A row per unit: place on the sheet in mm, value, and p and q where there are some."""
        positions = self.sheet.positions_mm.numpy()
        places = {
            f"{axis}_mm": positions[:, index] for index, axis in zip(range(positions.shape[1]), "xyz", strict=False)
        }
        tested = {key: column for key, column in (("p", self.p), ("q", self.q)) if column is not None}
        return pd.DataFrame({**places, self.statistic: self.values, **tested}).rename_axis("unit")

    def plot(self, ax: "Axes | None" = None, *, limit: float | None = None, title: str | None = None) -> "Axes":
        """The map as a picture of its sheet, with a colour bar and a scale in mm; axes go in, the same come out."""
        told: dict[str, Any] = {"limit": limit, "has_scale": True, "colour_label": statistic_label(self.statistic)}
        return drawing.draw_sheet(self.sheet, self.values, ax, title=self.site if title is None else title, **told)

    def _repr_png_(self) -> bytes | None:
        flat = self.sheet.positions_mm.shape[1] == 2
        return drawing.notebook_png(lambda: self.plot().figure) if flat else None

    def _repr_html_(self) -> str:
        return drawing.notebook_html(repr(self), self._repr_png_())

    def save(self, path: str | Path) -> None:
        """Write the map, its nulls and its sheet to one safetensors file."""
        sheet_arrays, sheet = self.sheet.to_arrays("sheet.")
        arrays = {"values": self.values, **sheet_arrays}
        arrays |= {key: array for key, array in (("p", self.p), ("q", self.q)) if array is not None}
        arrays |= {f"null.{key}": maps for key, maps in self.nulls.items()}
        metadata = {"noun": "UnitMap", "site": self.site, "statistic": self.statistic, "sheet": sheet}
        metadata |= {"nulls": list(self.nulls)} if self.nulls else {}
        save_arrays(path, arrays, {**metadata, "provenance": dict(self.provenance)})

    @classmethod
    def load(cls, path: str | Path) -> "UnitMap":
        """Read what `save` wrote."""
        arrays, metadata = load_noun(path, "UnitMap")
        # arrays come in another order than they were given; files of before know no order
        kept = [key.removeprefix("null.") for key in arrays if key.startswith("null.")]
        nulls = {key: arrays[f"null.{key}"] for key in metadata.get("nulls", kept)}
        return cls(
            site=metadata["site"],
            values=arrays["values"],
            sheet=Sheet.from_arrays(arrays, metadata["sheet"], "sheet."),
            statistic=metadata["statistic"],
            p=arrays.get("p"),
            q=arrays.get("q"),
            nulls=nulls,
            provenance=metadata["provenance"],
        )


def statistic_label(statistic: str) -> str:
    """What a statistic is called beside a colour bar."""
    return _LABELS.get(statistic, statistic.replace("_", " "))
