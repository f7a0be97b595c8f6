"""Means of what is logged, kept on the device so that nothing waits for it between two log lines."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["NotFiniteError", "RunningMeans"]

_NEVER = float(2**24)  # the largest range of whole numbers that float32 counts without gaps


class NotFiniteError(FloatingPointError):
    """What became NaN or infinite, and after which step."""

    def __init__(self, what: str, when: str, step: int) -> None:
        super().__init__(
            f"{what} were NaN or infinite {when} step {step}; expected finite numbers: lower training.learning_rate or "
            "look at the data and the model, then train anew (overwrite=true)"
        )
        self.step = step


class RunningMeans:
    """Sums of named scalars since the last log line, and the first step at which each was not finite."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.count = 0
        self._sums = torch.zeros(0)
        self._first_bad = torch.zeros(0)

    def add(self, values: Mapping[str, Tensor], step: int = 0) -> None:
        """Add one forward pass."""
        latest = torch.stack([entry.detach().float() for entry in values.values()])
        if not self.count:
            self.names = list(values)
            self._sums, self._first_bad = torch.zeros_like(latest), torch.full_like(latest, _NEVER)
        self._sums = self._sums + latest
        self._first_bad = torch.minimum(self._first_bad, torch.where(torch.isfinite(latest), _NEVER, float(step)))
        self.count += 1

    def take(self, gather: Callable[[Tensor], Tensor] = lambda sums: sums) -> dict[str, float]:
        """Means since the last call, and start anew."""
        means = self.check(gather)
        self.count = 0
        return means

    def check(self, gather: Callable[[Tensor], Tensor] = lambda sums: sums) -> dict[str, float]:
        """Look without starting anew."""
        if not self.count:
            return {}
        gathered = gather(torch.stack([self._sums / self.count, self._first_bad])[None])
        means, first_bad = gathered[:, 0].mean(0).tolist(), gathered[:, 1].amin(0).tolist()
        if min(first_bad) < _NEVER:
            # within a step sites come before losses, and early sites before those they feed
            worst = min(range(len(means)), key=lambda at: (first_bad[at], "/" not in self.names[at]))
            _, _, site = self.names[worst].rpartition("/")
            what = f"activations at site {site!r}" if "/" in self.names[worst] else self.names[worst]
            raise NotFiniteError(what, "at", int(first_bad[worst]) + 1)
        return dict(zip(self.names, means, strict=True))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything, for a checkpoint."""
        return {"sums": self._sums, "first_bad": self._first_bad}, {"names": self.names, "count": self.count}

    def restore(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], device: torch.device) -> None:
        """Inverse of `state`."""
        self._sums, self._first_bad = tensors["sums"].to(device), tensors["first_bad"].to(device)
        self.names, self.count = list(metadata["names"]), int(metadata["count"])
