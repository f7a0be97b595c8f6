"""`Responses`: what the units of one site did."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float, Int

from topographic.sheets import Sheet
from topographic.stimuli.stimulus_set import StimulusSet
from topographic.storage import load_noun, save_arrays

__all__ = ["Responses"]


@no_type_check  # lists and arrays are welcome: __post_init__ converts and checks what the fields then hold
@dataclass(frozen=True, eq=False, repr=False)
class Responses:
    """Responses of one site's units to a stimulus set.

    Parameters
    ----------
    site : str
        Name of the recorded module.
    values : ndarray, shape (stimuli, units)
        One response per item and unit, kept in float32.
    sheet : Sheet
        Where the units lie.
    stimuli : StimulusSet
        What was shown.
    n_tokens : ndarray of int, shape (stimuli,), optional
        Tokens that were pooled for each item, pads excluded.
    provenance : mapping, optional
        Model, pooling, versions: anything JSON can hold.

    Raises
    ------
    ValueError
        If the shape fits neither sheet nor stimuli, or a value is NaN or infinite.
    """

    site: str
    values: Float[np.ndarray, "stimuli units"]
    sheet: Sheet
    stimuli: StimulusSet
    n_tokens: Int[np.ndarray, " stimuli"] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Convert to float32 and refuse misfits."""
        values = np.ascontiguousarray(self.values, dtype=np.float32)
        expected = (len(self.stimuli), self.sheet.n_units)
        if values.shape != expected:
            raise ValueError(f"responses at {self.site!r} have shape {values.shape}; stimuli and sheet say {expected}")
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).any(0).sum())
            raise ValueError(
                f"responses at {self.site!r} hold NaN or infinity in {bad} of {expected[1]} units; "
                "check the model's weights, or record in float32"
            )
        object.__setattr__(self, "values", values)
        if self.n_tokens is not None:
            n_tokens = np.ascontiguousarray(self.n_tokens, dtype=np.int64)
            if n_tokens.shape != expected[:1]:
                raise ValueError(f"n_tokens at {self.site!r} has shape {n_tokens.shape}; expected {expected[:1]}")
            object.__setattr__(self, "n_tokens", n_tokens)

    def __repr__(self) -> str:
        """One line."""
        items, units = self.values.shape
        return f"Responses({self.site!r}: {items} items x {units} units, to {self.stimuli!r})"

    def take(self, indices: np.ndarray) -> "Responses":
        """Responses to some of the items, in the order of the indices."""
        n_tokens = None if self.n_tokens is None else self.n_tokens[indices]
        stimuli = self.stimuli.take(indices)
        return Responses(self.site, self.values[indices], self.sheet, stimuli, n_tokens, self.provenance)

    def save(self, path: str | Path) -> None:
        """Write responses, sheet and stimuli to one safetensors file."""
        sheet_arrays, sheet = self.sheet.to_arrays("sheet.")
        arrays = {"values": self.values, **sheet_arrays}
        if self.n_tokens is not None:
            arrays["n_tokens"] = self.n_tokens
        save_arrays(
            path,
            arrays,
            {
                "noun": "Responses",
                "site": self.site,
                "sheet": sheet,
                "stimuli": self.stimuli.to_json(),
                "provenance": dict(self.provenance),
            },
        )

    @classmethod
    def load(cls, path: str | Path) -> "Responses":
        """Read what `save` wrote."""
        arrays, metadata = load_noun(path, "Responses")
        return cls(
            site=metadata["site"],
            values=arrays["values"],
            sheet=Sheet.from_arrays(arrays, metadata["sheet"], "sheet."),
            stimuli=StimulusSet.from_json(metadata["stimuli"]),
            n_tokens=arrays.get("n_tokens"),
            provenance=metadata["provenance"],
        )
