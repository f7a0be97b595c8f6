"""Any task of lm-evaluation-harness, on any Hugging Face model, lesioned ones included."""

import copy
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from topographic.losses.wrappers import unwrapped
from topographic.recording.reading import evaluating
from topographic.sheets.expectations import expect_whole

__all__ = [
    "FUNCTIONAL_TASKS",
    "FunctionalTask",
    "evaluate_with_harness",
    "functional_competence",
    "harness_command",
    "harness_version",
]


class FunctionalTask(NamedTuple):
    """A task of functional competence: what it is called, and the accuracy of guessing."""

    title: str
    chance: float


# by their names in the harness; those of "From Language to Cognition" (arXiv 2503.01830)
FUNCTIONAL_TASKS: Mapping[str, FunctionalTask] = {
    "arc_easy": FunctionalTask("ARC-Easy", 1 / 4),
    "arc_challenge": FunctionalTask("ARC-Challenge", 1 / 4),
    "hellaswag": FunctionalTask("HellaSwag", 1 / 4),
    "piqa": FunctionalTask("PIQA", 1 / 2),
    "winogrande": FunctionalTask("WinoGrande", 1 / 2),
    "social_iqa": FunctionalTask("Social IQa", 1 / 3),
}


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
    FileNotFoundError
        If the data of a task cannot be read.
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
    manager = TaskManager(**_where(task_folder))
    unknown = [name for name in names if name not in manager.all_tasks]
    if unknown or not names:
        raise ValueError(
            f"lm-evaluation-harness has no task {', '.join(unknown) or 'without a name'}; "
            "`topo lm-eval ls tasks` lists its own, task_folder= names a folder of yours"
        )
    try:
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
    except (FileNotFoundError, ConnectionError) as error:
        raise FileNotFoundError(
            f"the data of {', '.join(names)} cannot be read ({error}); expected local files or a hub that answers: "
            "name the files in the definitions of task_folder="
        ) from error
    return [row for name, values in results["results"].items() for row in _rows(name, values, results["n-samples"])]


def functional_competence(
    model: Any, tokenizer: Any, task_folder: str | Path, *, n_items: int | None = None, batch_size: int = 48
) -> list[dict[str, Any]]:
    """Accuracy on the tasks of functional competence that a folder defines; of the others why they are missing.

    Parameters
    ----------
    model, tokenizer
        As `evaluate_with_harness` takes them.
    task_folder : str or Path
        Task definitions of the harness on local files, by the names in `FUNCTIONAL_TASKS`.
    n_items : int, optional
        First items of each task only; all by default.
    batch_size : int
        Texts per forward.

    Returns
    -------
    list of dict
        One row per task of `FUNCTIONAL_TASKS`: ``task``, ``value`` (None where it is missing, never 0), ``stderr``,
        ``n_items``, ``chance`` and ``missing``, the reason or None.

    Raises
    ------
    ModuleNotFoundError, FileNotFoundError
        If lm-evaluation-harness is not installed, or the folder or the data of a task it defines are not there.
    ValueError
        If the folder defines none of the tasks, a number is out of range, or a task has no accuracy.

    Examples
    --------
    >>> functional_competence(model, tokenizer, "tasks", n_items=100)  # doctest: +SKIP
    """
    _import_harness()
    from lm_eval.tasks import TaskManager  # pyright: ignore[reportMissingImports]

    if not Path(task_folder).is_dir():
        raise FileNotFoundError(
            f"no folder {task_folder}; expected task definitions of lm-evaluation-harness on local files: correct its "
            "name"
        )
    defined = TaskManager(**_where(task_folder)).all_tasks
    present = [name for name in FUNCTIONAL_TASKS if name in defined]
    if not present:
        raise ValueError(
            f"{task_folder} defines none of {', '.join(FUNCTIONAL_TASKS)}; expected one .yaml each, on local files"
        )
    options: dict[str, Any] = {"n_items": n_items, "batch_size": batch_size, "task_folder": task_folder}
    found = evaluate_with_harness(model, tokenizer, present, **options)
    accuracy = {row["task"]: row for row in found if row["metric"] == "acc"}
    if without := [name for name in present if name not in accuracy]:
        raise ValueError(f"{without[0]} in {task_folder} has no metric acc; add it to its metric_list")
    rows = []
    for name, about in FUNCTIONAL_TASKS.items():
        own = accuracy.get(name, {"value": None, "stderr": None, "n_items": None})
        kept = {key: own[key] for key in ("value", "stderr", "n_items")}
        missing = None if name in accuracy else f"no definition in {task_folder}"
        rows.append({"task": name, **kept, "chance": about.chance, "missing": missing})
    return rows


def harness_version() -> str:
    """Which lm-evaluation-harness is installed, or how to install it."""
    _import_harness()
    return metadata.version("lm_eval")


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


def _where(task_folder: str | Path | None) -> dict[str, Any]:
    return {} if task_folder is None else {"include_path": str(task_folder), "include_defaults": False}


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
