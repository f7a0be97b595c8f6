"""The command line: `topo demo`, `train`, `layout`, `map`, `sweep`, `report`, `evaluate`, `encode` and others."""

import importlib
import os
import sys
from collections.abc import Sequence

from tqdm import tqdm

from topographic.runs.refusals import is_refusal

__all__ = ["COMMANDS", "main"]

# name -> (module, dataclass, function, one line); the module is imported when its command is called, and imports torch
# and transformers inside its function only, so that help and wrong words take no time
COMMANDS = {
    "demo": (
        "topographic.cli.demo",
        "DemoCommand",
        "demo",
        "Train a topographic model and its control, map and evaluate both.",
    ),
    "train": (
        "topographic.cli.train",
        "Recipe",
        "train",
        "Train a model: topo train recipe.yaml key=value.",
    ),
    "layout": (
        "topographic.cli.layout",
        "LayoutCommand",
        "lay_out",
        "Lay any language model out on sheets: topo layout MODEL out=FOLDER.",
    ),
    "map": (
        "topographic.cli.map",
        "MapCommand",
        "map_model",
        "Make the maps of a trained run or of any model.",
    ),
    "convert": (
        "topographic.cli.convert",
        "ConvertCommand",
        "convert",
        "Read a checkpoint of TopoLM's or TopoNets' authors, write it in our format.",
    ),
    "evaluate": (
        "topographic.cli.evaluate",
        "EvaluateCommand",
        "evaluate",
        "Measure what the TopoLM and TopoNets papers measure, beside nulls.",
    ),
    "encode": (
        "topographic.cli.encode",
        "EncodeCommand",
        "encode",
        "Hold a model's layers against brain data: topo encode MODEL data=FOLDER.",
    ),
    "sweep": ("topographic.cli.sweep", "SweepCommand", "sweep", "Train and map many models: topo sweep sweep.yaml."),
    "trajectory": (
        "topographic.cli.trajectory",
        "TrajectoryCommand",
        "trajectory",
        "Measure checkpoints in time: topo trajectory sources=[RUN] out=FOLDER.",
    ),
    "finetune": (
        "topographic.cli.finetune",
        "FinetuneCommand",
        "finetune",
        "Fine-tune on tasks of GLUE: topo finetune RUN tasks=[sst2,cola].",
    ),
    "sample": (
        "topographic.cli.sample",
        "SampleCommand",
        "sample_images",
        "Make images with a trained diffusion model: topo sample RUN classes=[0,1].",
    ),
    "report": ("topographic.cli.report", "ReportCommand", "report", "Write one page about one or more runs."),
}

_USAGE = "usage: topo COMMAND [recipe.yaml] [key=value ...] [--help] [--print_config]\n\ncommands:\n"


def main(words: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    words : sequence of str, optional
        The words after `topo`; those of the command line by default.

    Returns
    -------
    int
        Exit status: 0 done, 1 failed with one line on the standard error, 2 wrong words, 130 interrupted.

    Raises
    ------
    Exception
        What is neither raised on purpose by this library nor about a file is a bug, and comes with its traceback;
        with TOPO_TRACEBACK=1 in the environment everything does.
    """
    words = list(sys.argv[1:] if words is None else words)
    if not words or words[0] in ("-h", "--help"):
        lines = [f"  {name:<12}{entry[3]}" for name, entry in COMMANDS.items()]
        print(
            _USAGE
            + "\n".join([*lines, "  lm-eval     The command line of lm-evaluation-harness, which then knows TopoLM."])
        )
        return 0 if words else 2
    if words[0] == "--version":
        print(importlib.import_module("topographic").__version__)
        return 0
    if words[0] == "lm-eval":
        return _harness(words[1:])
    if words[0] not in COMMANDS:
        print(f"topo: unknown command {words[0]!r}; expected one of {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    # read when torch is loaded: waiting threads sleep, or other programs on the same cores slow every step tenfold
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    name, (module_name, dataclass_name, function_name, description) = words[0], COMMANDS[words[0]]
    status = 2
    try:
        module = importlib.import_module(module_name)
        arguments = importlib.import_module("topographic.cli.arguments")
        command = arguments.parse_command(name, getattr(module, dataclass_name), description, words[1:])
        status = 1
        _quieten()
        getattr(module, function_name)(command)
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        return _failed(name, error, status)
    except KeyboardInterrupt:
        _say(f"topo {name}: interrupted; the same command goes on where it stopped")
        return 130
    return 0


def _harness(words: list[str]) -> int:
    """Hand the words to lm-evaluation-harness after our model types are registered."""
    from topographic.behaviour import harness_command
    from topographic.models import register

    register()
    try:
        harness_command(words)
    except ImportError as error:
        return _failed("lm-eval", error, 1)
    return 0


def _quieten() -> None:
    """Leave the terminal to our own progress bars; transformers draws one for every file it reads or writes."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if "transformers" in sys.modules:  # which has read them already
        logging = importlib.import_module("transformers.utils.logging")
        logging.disable_progress_bar()
        logging.set_verbosity_error()


def _failed(name: str, error: Exception, status: int) -> int:
    """Say in one line what somebody can mend; a bug keeps its traceback."""
    if os.environ.get("TOPO_TRACEBACK") or not (isinstance(error, OSError) or is_refusal(error)):
        raise error
    _say(f"topo {name}: {' '.join(str(error).split())}")
    return status


def _say(line: str) -> None:
    """A line of its own: progress bars that are still open end theirs, or are wiped, first."""
    for bar in sorted(vars(tqdm)["_instances"], key=lambda bar: -abs(bar.pos)):
        bar.close()
    print(line, file=sys.stderr)
