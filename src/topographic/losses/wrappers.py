"""What stands around a model: data parallelism, compilation and the like, which hold it and pass it through."""

from typing import Any

from torch import nn

from topographic.sheets.expectations import expect_kind

__all__ = ["WRAPPER_NAMES", "unwrapped"]

# names that torch.compile, FSDP and activation checkpointing put into the paths of what they wrap
WRAPPER_NAMES = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# classes that hold a model and pass it through, and the name they hold it under
_HOLDERS: dict[str, str] = {"OptimizedModule": "_orig_mod"}
_HOLDERS |= dict.fromkeys(("DataParallel", "DistributedDataParallel", "AveragedModel", "DeepSpeedEngine"), "module")
_FRAMEWORKS = ("torch.", "deepspeed.")


def unwrapped(model: Any) -> nn.Module:
    """The model inside DataParallel, DDP, AveragedModel, DeepSpeed's engine or torch.compile."""
    name = repr(model) if isinstance(model, str) else "..."
    expect_kind("model", model, nn.Module, f"a loaded model, such as AutoModelForCausalLM.from_pretrained({name})")
    while held := _held_as(model):
        model = model.get_submodule(held)
    return model


def _held_as(model: nn.Module) -> str | None:
    """Name under which a wrapper holds its model. By class, since a model of one's own may have a child `module`."""
    known = (_HOLDERS.get(base.__name__) for base in type(model).__mro__ if base.__module__.startswith(_FRAMEWORKS))
    return next(filter(None, known), None)
