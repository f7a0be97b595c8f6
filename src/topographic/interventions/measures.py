"""What is measured of a changed model."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

__all__ = ["Measure", "measured"]

Measure = Callable[[nn.Module], float | Mapping[str, float]]


def measured(measure: Measure, model: nn.Module) -> dict[str, float]:
    """What a measure says, by name; one number alone goes by the name of the function."""
    found: Any = measure(model)
    if not isinstance(found, Mapping):
        name = getattr(measure, "__name__", "value")
        found = {name if name.isidentifier() else "value": found}
    try:
        return {name: float(value) for name, value in found.items()}
    except (TypeError, ValueError) as error:
        kinds = ", ".join(sorted({type(value).__name__ for value in found.values()}))
        raise TypeError(
            f"the measure returned {kinds}; expected a number, or a mapping of names to numbers: "
            "return scores.accuracy, or {'accuracy': scores.accuracy}"
        ) from error
