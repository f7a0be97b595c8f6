"""What lies on a layer's sheet: its weights, one row per unit."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import parametrize

from topographic.losses.pyramid import Kind
from topographic.losses.wrappers import unwrapped

__all__ = ["GATES", "READERS", "framework_names", "weight_sheets"]


def weight_sheets(
    module: nn.Module, kind: Kind = "output", *, parameters: str = "*"
) -> dict[str, Float[Tensor, "..."]]:
    """Weights of a layer with its units first, whatever convention the layer keeps them in.

    ``C_u = W[u, :]`` for output units, ``C_u = W[:, u]`` for input units, kernels flattened.

    Parameters
    ----------
    module : nn.Module
        Linear, Conv1d/2d/3d and their transposed forms, grouped or not, the Conv1D of transformers,
        RNN, LSTM, GRU and their cells; parametrised (weight_norm and the like), compiled, wrapped in
        DistributedDataParallel, sharded by FSDP2, or not.
    kind : {"output", "input", "bias"}
        Rows are output units with their incoming weights, input units with their outgoing weights,
        or the bias of each output unit.
    parameters : str
        Wildcard over the names of a recurrent layer's parameters, for example "weight_hh_*"; other
        layers have only "weight" and "bias".

    Returns
    -------
    dict of str to Tensor, shape (units, depth), or (units,) for a bias
        One entry, "weight" or "bias", for most layers. A recurrent layer has one per matrix and gate,
        for example "weight_hh_l0.forget"; input units serve all gates, so their sheets are not split.
        The tensors are functions of the parameters: gradients reach these.

    Raises
    ------
    ValueError
        If the layer has no such parameter.
    TypeError
        If it is no layer whose convention is known.

    Notes
    -----
    A unit of a grouped convolution sees only the inputs of its group; units of different groups are
    compared weight by weight all the same, as the package topoloss does, so that the sheet of a
    depthwise convolution is one of filter shapes.
    """
    if kind not in ("output", "input", "bias"):
        raise ValueError(f"kind={kind!r}; expected 'output', 'input' or 'bias'")
    module = unwrapped(module)
    reader = next((READERS[name] for name in framework_names(module) if name in READERS), None)
    if reader is None:
        raise TypeError(
            f"{type(module).__name__} is no layer whose weights can be laid out ({', '.join(READERS)} are); name such "
            "a layer, or give laplacian_pyramid_loss a tensor of shape (out, in, *kernel)"
        )
    sheets = reader(module, kind)
    found = {name: sheet for name, sheet in sheets.items() if fnmatchcase(name, parameters)}
    if not found:
        raise ValueError(
            f"{type(module).__name__} has no {'bias' if kind == 'bias' else 'weight'} that matches {parameters!r}; "
            f"it has {', '.join(sheets) or 'none'}"
        )
    return found


def _whole(parameter: Tensor) -> Tensor:
    # what FSDP shards is gathered; every process then has the same loss, and its shard gets its part of the gradient
    return parameter.full_tensor() if isinstance(parameter, DTensor) else parameter


def framework_names(module: nn.Module) -> list[str]:
    """Names of a layer's class and those it descends from, as far as they are torch's or transformers' own."""
    # by name, because the Conv1D of transformers belongs here and transformers itself does not; only the
    # frameworks' own classes, because a class of the same name elsewhere may keep its weight otherwise
    return [
        base.__name__ for base in type(module).__mro__ if base.__module__.startswith(("torch.nn.", "transformers."))
    ]


def _dense(module: nn.Module, kind: str) -> dict[str, Tensor]:
    return _one_sheet(module, kind, lambda weight: weight[None, :, :, None])


def _transposed_dense(module: nn.Module, kind: str) -> dict[str, Tensor]:
    return _one_sheet(module, kind, lambda weight: weight.T[None, :, :, None])


def _convolution(module: Any, kind: str) -> dict[str, Tensor]:
    """Weight (out, in / groups, *kernel)."""
    return _one_sheet(module, kind, lambda weight: weight.flatten(2).unflatten(0, (module.groups, -1)))


def _transposed_convolution(module: Any, kind: str) -> dict[str, Tensor]:
    """Weight (in, out / groups, *kernel)."""
    return _one_sheet(module, kind, lambda weight: weight.flatten(2).unflatten(0, (module.groups, -1)).transpose(1, 2))


def _one_sheet(module: Any, kind: str, to_groups: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Sheet of a weight that ``to_groups`` turns to (groups, outputs per group, inputs per group, kernel)."""
    if kind == "bias":
        return {} if module.bias is None else {"bias": _whole(module.bias)}
    grouped = to_groups(_whole(module.weight))
    grouped = grouped if kind == "output" else grouped.transpose(1, 2)
    return {"weight": grouped.flatten(0, 1).flatten(1)}


def _recurrent(module: Any, kind: str) -> dict[str, Tensor]:
    """Sheets of RNN, LSTM and GRU, whose parameters stack the gates along their first axis."""
    names = [name for name, _ in module.named_parameters(recurse=False)]
    if parametrize.is_parametrized(module):
        names += list(module.parametrizations)
    gates = next((GATES[name] for name in framework_names(module) if name in GATES), ())
    sheets = {}
    for name in sorted(name for name in names if name.startswith("bias_" if kind == "bias" else "weight_")):
        stacked = _whole(getattr(module, name))
        if kind == "input":
            sheets[name] = stacked.T
        elif not gates or name.startswith("weight_hr"):  # the projection of an LSTM comes after its gates
            sheets[name] = stacked
        else:
            sheets |= {f"{name}.{gate}": part for gate, part in zip(gates, stacked.chunk(len(gates)), strict=True)}
    return sheets


# in the order in which torch stacks them
GATES: dict[str, tuple[str, ...]] = dict.fromkeys(("LSTM", "LSTMCell"), ("input", "forget", "cell", "output"))
GATES |= dict.fromkeys(("GRU", "GRUCell"), ("reset", "update", "new"))

READERS: dict[str, Callable[[nn.Module, str], dict[str, Tensor]]] = {
    "Linear": _dense,
    "Conv1D": _transposed_dense,
    **dict.fromkeys(("Conv1d", "Conv2d", "Conv3d"), _convolution),
    **dict.fromkeys(("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"), _transposed_convolution),
    **dict.fromkeys(("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"), _recurrent),
}
