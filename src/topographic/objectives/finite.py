"""Whether what is logged is still a number."""

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["check_finite"]


def check_finite(parts: Mapping[str, Tensor]) -> None:
    """Refuse NaN and infinity among the parts of a loss, naming the site they came from.

    This waits for the device: call it where the parts are logged rather than in every step.

    Parameters
    ----------
    parts : mapping of str to Tensor, shape ()
        As `Objective` returns them.

    Raises
    ------
    FloatingPointError
        If one is not finite. The first site is named; a bad unit shows when a neighbourhood that holds it is drawn.
    """
    finite = torch.isfinite(torch.stack([part.detach().float() for part in parts.values()])).tolist()
    bad = sorted((name for name, good in zip(parts, finite, strict=True) if not good), key=lambda name: "/" not in name)
    if bad:
        term, _, site = bad[0].partition("/")
        what = f"the {term} loss at site {site!r}" if site else bad[0]
        raise FloatingPointError(
            f"{what} is {parts[bad[0]].item()}; expected a finite number: activations have become NaN or infinite, so "
            "lower the learning rate or look at the data"
        )
