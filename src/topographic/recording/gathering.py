"""Forward passes whose outputs become rows of responses."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from topographic.recording.hooks import tap
from topographic.recording.reading import evaluating
from topographic.sheets import Layout, Sheet

__all__ = ["gather"]


def gather(
    model: nn.Module,
    names: Sequence[str],
    layout: Layout,
    batches: Iterable[Any],
    respond: Callable[[Any, str, Tensor | None], Tensor],
    *,
    n_rows: int,
    bar: tqdm,
    rows: Callable[[Any], Any] = lambda batch: batch.indices,
) -> tuple[dict[str, np.ndarray], dict[str, Sheet]]:
    """Values (rows, units) in float32 and the sheet of every site.

    A batch has ``indices`` of what is shown and ``run()``, its forward pass; ``respond(batch, site, output)`` makes its
    rows of what the site gave, and ``rows(batch)`` says which these are.
    """
    sheets: dict[str, Sheet] = {}
    values: dict[str, np.ndarray] = {}
    with evaluating(model), torch.no_grad(), bar:
        for batch in batches:
            with tap(model, names) as heard:
                batch.run()
            for site in names:
                response = respond(batch, site, heard.get(site))
                if site not in sheets:
                    sheets[site] = layout(response.shape[-1], site)
                    values[site] = np.empty((n_rows, response.shape[-1]), np.float32)
                values[site][rows(batch)] = response.cpu().numpy()
            bar.update(len(batch.indices))
    return values, sheets
