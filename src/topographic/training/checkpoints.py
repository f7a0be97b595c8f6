"""Checkpoints in open formats: safetensors and JSON, whole or absent.

A folder ``checkpoint-N`` holds the model and tokenizer as `save_pretrained` writes them, ``optimizer.safetensors``
(moments by parameter name, the groups as JSON in its header), ``scheduler.json``, ``trainer_state.json`` and one
``process-R.safetensors`` per process (random states and the sums that the next log line is made of).
"""

import json
import random
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import get_state as numpy_state
from numpy.random import set_state as set_numpy_state
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from topographic.storage import load_json

__all__ = [
    "check_checkpoint",
    "last_checkpoint",
    "load_tensors",
    "optimizer_state",
    "random_state",
    "remove_older_checkpoints",
    "restore_optimizer",
    "restore_random_state",
    "save_tensors",
    "weights",
    "whole_state",
]

_NAME = re.compile(r"checkpoint-(\d+)")


def last_checkpoint(folder: str | Path) -> Path | None:
    """Newest complete checkpoint; unfinished ones have another name."""
    return next(iter(_newest_first(Path(folder))), None)


def remove_older_checkpoints(folder: str | Path, keep: int | None) -> None:
    """Delete all complete checkpoints but the newest."""
    for path in _newest_first(Path(folder))[keep:] if keep is not None else []:
        shutil.rmtree(path)


def _newest_first(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.name.split("-")[1]), reverse=True)


def check_checkpoint(folder: Path, n_processes: int) -> None:
    """Refuse a checkpoint that is damaged or made by another number of processes."""
    written = len(list(folder.glob("process-*.safetensors")))
    if written and written != n_processes:
        raise ValueError(
            f"{folder} was written by {written} processes, {n_processes} run now; the order of the data hangs on it: "
            f"start again with {written} (torchrun --nproc-per-node {written})"
        )
    needed = ["optimizer.safetensors", *(f"process-{rank}.safetensors" for rank in range(n_processes))]
    advice = f"delete {folder} to go on from the checkpoint before it"
    try:
        for name in ["scheduler.json", "trainer_state.json"]:
            load_json(folder / name)
        for path in [folder / name for name in needed] + _weight_files(folder):
            with safe_open(path, framework="pt"):
                pass
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"checkpoint {folder.name} is damaged ({error}); {advice}") from error


def _weight_files(folder: Path) -> list[Path]:
    """Files of the model: one, or the shards of a large one."""
    return sorted(folder.glob("model*.safetensors")) or [folder / "model.safetensors"]


def weights(folder: Path) -> dict[str, Tensor]:
    """Parameters and buffers of a saved model."""
    state: dict[str, Tensor] = {}
    for path in _weight_files(folder):
        state |= load_tensors(path)[0]
    return state


def whole_state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of a model, the shards of sharded ones (FSDP2) put together."""
    same: dict[int, str] = {}
    first_name = {
        name: same.setdefault(id(parameter), name) for name, parameter in model.named_parameters(remove_duplicate=False)
    }
    held, whole = model.state_dict(), {}
    for name, entry in held.items():
        source = first_name.get(name, name)
        whole[name] = whole[source] if source in whole else _gathered(entry)
    return whole


def _gathered(entry: Tensor) -> Tensor:
    return entry.full_tensor().cpu() if isinstance(entry, DTensor) else entry


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors of any type with JSON beside them."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(on_cpu, path, metadata={"topographic": json.dumps(dict(metadata))})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote, or any safetensors file."""
    try:
        with safe_open(path, framework="pt") as opened:
            header = (opened.metadata() or {}).get("topographic", "{}")
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} is missing or truncated ({error}); resume from another checkpoint") from error
    return tensors, json.loads(header)


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Moments of an optimiser by parameter name."""
    names = _names(model)
    tensors = {}
    for parameter, state in optimizer.state.items():
        for key, entry in state.items():
            tensors[f"{names[parameter]}/{key}"] = _gathered(entry)
    groups = [
        {key: entry for key, entry in group.items() if key != "params"}
        | {"names": [names[parameter] for parameter in group["params"]]}
        for group in optimizer.param_groups
    ]
    return tensors, {"groups": groups}


def restore_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]
) -> None:
    """Inverse of `optimizer_state`."""
    names = _names(model)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    held = [[names[parameter] for parameter in group["params"]] for group in optimizer.param_groups]
    if held != [group["names"] for group in metadata["groups"]]:
        raise ValueError("the checkpoint's optimiser holds other parameters than the model; resume with the same model")
    state: dict[int, dict[str, Tensor]] = {}
    for index, parameter in enumerate(parameters):
        for key in ("step", "exp_avg", "exp_avg_sq"):
            entry = tensors.get(f"{names[parameter]}/{key}")
            if entry is None:
                continue
            if isinstance(parameter, DTensor) and entry.ndim:
                entry = distribute_tensor(entry.to(parameter.device), parameter.device_mesh, parameter.placements)
            state.setdefault(index, {})[key] = entry
    groups, first = [], 0
    for group in metadata["groups"]:
        settings = {key: tuple(entry) if key == "betas" else entry for key, entry in group.items() if key != "names"}
        groups.append(settings | {"params": list(range(first, first + len(group["names"])))})
        first += len(group["names"])
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _names(model: nn.Module) -> dict[Tensor, str]:
    """Name of every parameter, without what torch.compile puts in front."""
    return {parameter: name.replace("_orig_mod.", "") for name, parameter in model.named_parameters()}


def random_state() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """States of the global generators of python, numpy, torch and CUDA, which dropout and others' code draw from."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = numpy_state()  # noqa: NPY002 - kept and put back, not drawn from
    tensors = {
        "python": torch.tensor(words, dtype=torch.int64),
        "numpy": torch.from_numpy(np.asarray(keys, np.int64)),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    return tensors, {"python": [version, gauss], "numpy": [str(kind), int(position), int(has_gauss), float(cached)]}


def restore_random_state(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Inverse of `random_state`."""
    version, gauss = metadata["python"]
    random.setstate((version, tuple(tensors["python"].tolist()), gauss))
    kind, *rest = metadata["numpy"]
    set_numpy_state((kind, tensors["numpy"].numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(tensors["torch"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])
