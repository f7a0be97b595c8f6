"""Any task of lm-evaluation-harness, on any Hugging Face model, lesioned ones included."""

import copy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from topographic.losses.wrappers import unwrapped
from topographic.recording.reading import evaluating
from topographic.sheets.expectations import expect_whole

__all__ = ["evaluate_with_harness", "harness_command"]


def evaluate_with_harness(
    model: Any,
    tokenizer: Any,
    tasks: str | Sequence[str],
    *,
    n_items: int | None = None,
    n_examples: int | None = None,
    batch_size: int = 48,
    task_folder: str | Path | None = None,
) -> list[dict[str, Any]]:
    """Run tasks of lm-evaluation-harness (Gao et al., 2024) on a model in memory.

    Parameters
    ----------
    model : PreTrainedModel
        Hugging Face causal language model; inside ``with ablate(...)`` or ``with edit(...)`` it is evaluated as it
        is there.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer; a copy is used, as the harness gives it a pad token.
    tasks : str or sequence of str
        Names of tasks or groups, for example "blimp". The harness fetches their data from the hub.
    n_items : int, optional
        First items of each task only; all by default.
    n_examples : int, optional
        Examples shown before each item; as each task says by default.
    batch_size : int
        Texts per forward.
    task_folder : str or Path, optional
        Folder of task definitions (YAML) to use instead of those that come with the harness, for example on local
        files.

    Returns
    -------
    list of dict
        One row per task (or group) and metric: ``task``, ``metric``, ``value``, ``stderr`` (None where the harness
        gives none) and ``n_items`` (None for groups).

    Raises
    ------
    ModuleNotFoundError
        If lm-evaluation-harness is not installed.
    ValueError
        If no task is named or one is unknown, or a number is out of range.

    Notes
    -----
    The harness would seed the random numbers of the whole process; here it does not. Its log-likelihood of a
    text with an empty context is the sum of `token_log_probabilities` under the protocol "bos"; its multiple-choice
    tasks, BLiMP among them, put a space before the text, which is the protocol "harness".
    """
    unwrapped(model)  # says what it expected of a name
    for name, number, least in (("n_items", n_items, 1), ("n_examples", n_examples, 0), ("batch_size", batch_size, 1)):
        if number is not None:
            expect_whole(name, number, least)
    lm_eval = _import_harness()
    from lm_eval.models.huggingface import HFLM  # pyright: ignore[reportMissingImports]
    from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]

    names = [tasks] if isinstance(tasks, str) else list(tasks)
    where = {} if task_folder is None else {"include_path": str(task_folder), "include_defaults": False}
    manager = TaskManager(**where)
    unknown = [name for name in names if name not in manager.all_tasks]
    if unknown or not names:
        raise ValueError(
            f"lm-evaluation-harness has no task {', '.join(unknown) or 'without a name'}; "
            "`topo lm-eval ls tasks` lists its own, task_folder= names a folder of yours"
        )
    with evaluating(model):
        results = lm_eval.simple_evaluate(
            model=HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=batch_size),
            tasks=names,
            num_fewshot=n_examples,
            limit=n_items,
            task_manager=manager,
            log_samples=False,
            random_seed=None,
            numpy_random_seed=None,
            torch_random_seed=None,
        )
    return [row for name, values in results["results"].items() for row in _rows(name, values, results["n-samples"])]


def harness_command(arguments: Sequence[str]) -> None:
    """Run the harness's own command line in this process, where our model types may have been registered.

    Parameters
    ----------
    arguments : sequence of str
        As they would follow ``lm_eval``: ``["--model", "hf", "--model_args", "pretrained=FOLDER", ...]``.

    Raises
    ------
    ModuleNotFoundError
        If lm-evaluation-harness is not installed.
    """
    _import_harness()
    from lm_eval.__main__ import cli_evaluate  # pyright: ignore[reportMissingImports]

    # the harness reads its arguments from the process
    before, sys.argv = sys.argv, ["lm_eval", *arguments]
    try:
        cli_evaluate()
    finally:
        sys.argv = before


def _import_harness() -> Any:
    try:
        import lm_eval  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"lm-evaluation-harness cannot be imported ({error}); install it with: pip install topographic[eval]"
        ) from error
    return lm_eval


def _rows(name: str, values: dict[str, Any], n_samples: dict[str, Any]) -> list[dict[str, Any]]:
    """The harness's ``{"acc,none": .7, "acc_stderr,none": .01, ...}`` as one row per metric."""
    rows = []
    for key, value in values.items():
        metric, separator, filtered = key.partition(",")
        if not separator or metric.endswith("_stderr"):
            continue
        stderr = values.get(f"{metric}_stderr,{filtered}")
        rows.append({
            "task": name,
            "metric": metric if filtered == "none" else f"{metric} ({filtered})",
            "value": value,
            "stderr": stderr if isinstance(stderr, float) else None,
            "n_items": n_samples.get(name, {}).get("effective"),
        })
    return rows
