"""Forward passes whose outputs become rows of responses."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from topographic.losses.wrappers import WRAPPER_NAMES, unwrapped
from topographic.recording.hooks import listen, tap
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
    check: Callable[[Any, str, Tensor], None] = lambda batch, site, response: None,
) -> tuple[dict[str, np.ndarray], dict[str, Sheet]]:
    """Values (rows, units) in float32 and the sheet of every site.

    A batch has ``indices`` of what is shown and ``run()``, its forward pass; ``respond(batch, site, output)`` makes its
    rows of what the site gave, ``check(batch, site, response)`` refuses some, and ``rows(batch)`` says which these are.

    The first pass is whole. If every site spoke once in it and nobody else has a hand in the model, each later output
    becomes rows when its site speaks, nothing else is kept, and a pass ends when the last site has spoken: what comes
    after it, such as the head, is not run.
    """
    sheets: dict[str, Sheet] = {}
    values: dict[str, np.ndarray] = {}
    untouched, each_speaks_once = _untouched(model), False
    with evaluating(model), torch.no_grad(), bar:
        for batch in batches:
            if each_speaks_once:
                responses = _responses_in_passing(model, names, batch, respond)
            elif untouched:
                responses, times = _responses_and_times(model, names, batch, respond)
                each_speaks_once = all(times[site] == 1 for site in names)
            else:
                with tap(model, names) as heard:
                    batch.run()
                responses = {site: respond(batch, site, heard.get(site)) for site in names}
            for site in names:
                response = responses[site] if site in responses else respond(batch, site, None)
                check(batch, site, response)
                if site not in sheets:
                    sheets[site] = layout(response.shape[-1], site)
                    values[site] = np.empty((n_rows, response.shape[-1]), np.float32)
                values[site][rows(batch)] = response.cpu().numpy()
            bar.update(len(batch.indices))
    return values, sheets


class _EverySiteHasSpokenError(BaseException):
    """Ends a forward pass; no error, so that no model takes it for one of its own."""


def _responses_in_passing(
    model: nn.Module, names: Sequence[str], batch: Any, respond: Callable[[Any, str, Tensor | None], Tensor]
) -> dict[str, Tensor]:
    responses: dict[str, Tensor] = {}

    def hear(site: str, output: Tensor) -> None:
        responses[site] = respond(batch, site, output)
        if len(responses) == len(names):
            raise _EverySiteHasSpokenError

    try:
        with listen(model, names, hear):
            batch.run()
    except _EverySiteHasSpokenError:
        pass
    return responses


def _responses_and_times(
    model: nn.Module, names: Sequence[str], batch: Any, respond: Callable[[Any, str, Tensor | None], Tensor]
) -> tuple[dict[str, Tensor], Counter[str]]:
    """Responses from a whole pass, and how often each site spoke in it."""
    heard: dict[str, Tensor] = {}
    times: Counter[str] = Counter()

    def hear(site: str, output: Tensor) -> None:
        heard[site] = output
        times[site] += 1

    with listen(model, names, hear):
        batch.run()
    return {site: respond(batch, site, heard.get(site)) for site in names}, times


def _untouched(model: nn.Module) -> bool:
    """Whether nobody would miss the end of a forward pass, or see it early: wrappers, compilers, edits, hooks."""
    if unwrapped(model) is not model:
        return False
    hooks = ("_forward_hooks", "_forward_pre_hooks")
    return not any(
        "forward" in vars(module)  # edits may count their calls
        or getattr(module, "_compiled_call_impl", None) is not None
        or WRAPPER_NAMES & module._modules.keys()
        # transformers leaves hooks behind that do nothing unless asked for hidden states
        or any(not _of_transformers(hook) for kind in hooks for hook in getattr(module, kind).values())
        for module in model.modules()
    )


def _of_transformers(hook: Callable) -> bool:
    return str(getattr(hook, "__module__", "")).startswith("transformers.utils.output_capturing")
