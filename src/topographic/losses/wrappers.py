"""What stands around a model: data parallelism, compilation and the like, which hold it and pass it through."""

from typing import Any

from torch import nn

from topographic.sheets.expectations import expect_kind

__all__ = ["WRAPPER_NAMES", "loaded", "unwrapped"]

# names that torch.compile, FSDP and activation checkpointing put into the paths of what they wrap
WRAPPER_NAMES = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# classes that hold a model and pass it through, and the name they hold it under
_HOLDERS: dict[str, str] = {"OptimizedModule": "_orig_mod"}
_HOLDERS |= dict.fromkeys(("DataParallel", "DistributedDataParallel", "AveragedModel", "DeepSpeedEngine"), "module")
_FRAMEWORKS = ("torch.", "deepspeed.")


def unwrapped(model: Any) -> nn.Module:
    """The model inside DataParallel, DDP, AveragedModel, DeepSpeed's engine or torch.compile."""
    expect_kind("model", model, nn.Module, f"a loaded model, such as {loaded('AutoModelForCausalLM', model)}")
    while held := _held_as(model):
        model = model.get_submodule(held)
    return model


def loaded(kind: str, name: Any) -> str:
    """The call that loads what was given by name."""
    return f"{kind}.from_pretrained({name!r})" if isinstance(name, str) else f"{kind}.from_pretrained(...)"


def _held_as(model: nn.Module) -> str | None:
    """Name under which a wrapper holds its model. By class, since a model of one's own may have a child `module`."""
    known = (_HOLDERS.get(base.__name__) for base in type(model).__mro__ if base.__module__.startswith(_FRAMEWORKS))
    return next(filter(None, known), None)
