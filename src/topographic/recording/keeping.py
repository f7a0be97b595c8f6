"""Values of a recording that are kept on the disk, one memory-mapped file each, named by all that decided it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from topographic.storage import digest, locked, write_atomically

__all__ = ["kept_arrays"]


def kept_arrays(
    folder: str | Path,
    kind: str,
    key: Mapping[str, Any],
    names: Sequence[str],
    measure: Callable[[list[str]], Mapping[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """Values by name, from their files where these are; what is missing is measured at once and written.

    One process at a time measures what is of a ``kind``; others wait for it and read.
    """
    files = {name: Path(folder) / f"{digest({**key, 'name': name})[:24]}.npy" for name in names}
    with locked(Path(folder) / kind, wait=True):
        missing = [name for name in names if not files[name].is_file()]
        if missing:
            for name, values in measure(missing).items():
                if not np.isfinite(values).all():
                    raise ValueError(
                        f"{name!r} gives NaN or infinity; check the model's weights, or load it in float32"
                    )
                with write_atomically(files[name]) as temporary, open(temporary, "wb") as opened:
                    np.save(opened, values)
    return {name: np.load(file, mmap_mode="r") for name, file in files.items()}
