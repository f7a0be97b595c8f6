"""Listening to modules and changing what they say, always undone on the way out.

The outputs are caught by giving a module an instance attribute ``forward`` rather than by
``register_forward_hook``: `torch.compile` does not notice hooks that come or go after it has compiled
(it skips their guards), so a compiled model would stay deaf, or keep an edit for ever. It does guard
an instance's ``forward``.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MethodType
from typing import Any, no_type_check

import torch
from torch import Tensor, nn

from topographic.recording.sites import find_sites, modules_by_site

__all__ = ["change_forward", "changes_of", "edit", "first_tensor", "listen", "tap", "with_tensor", "wrap_forward"]

# The functions marked no_type_check run inside compiled models; the run-time checks of annotations that
# the tests switch on everywhere else cannot be traced by torch.compile.


@contextlib.contextmanager
def tap(model: nn.Module, sites: str | Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Hear the output of modules while the block runs.

    Parameters
    ----------
    model : nn.Module
        Any model; compiled ones may be tapped before or after they compile (each state of a model,
        tapped and not, is compiled once).
    sites : str or sequence of str
        Names or wildcards, as `find_sites` takes them.

    Yields
    ------
    dict of str to Tensor
        Latest output of every site that has been called, with its gradient. Of a tuple, list or
        mapping (a Hugging Face ``ModelOutput``) it is the first tensor. Nothing is detached or
        copied. A site that was not called is absent.

    Raises
    ------
    ValueError
        If a pattern matches nothing.
    TypeError
        If a site's output holds no tensor.

    Notes
    -----
    Taps and edits nest: each acts on what the ones entered before it let through, so a tap entered
    inside an edit hears the edited output. Contexts are left in the reverse order.
    """
    heard: dict[str, Tensor] = {}

    @no_type_check
    def keep(site, output):
        heard[site] = output

    with listen(model, sites, keep):
        yield heard


@contextlib.contextmanager
def listen(model: nn.Module, sites: str | Sequence[str], hear: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Call ``hear(site, output)`` whenever a module has spoken, while the block runs; otherwise as `tap`."""
    modules = modules_by_site(model)
    with _fused_paths_off(), contextlib.ExitStack() as stack:
        for site in find_sites(model, sites):
            stack.enter_context(_changed_forward(modules[site], _listener(site, hear)))
        yield


@contextlib.contextmanager
def edit(model: nn.Module, functions: Mapping[str, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Replace the output of modules while the block runs.

    Parameters
    ----------
    model : nn.Module
        Any model.
    functions : mapping of str to callable
        For each site (name or wildcard) a function of its output tensor that returns the tensor to
        use instead. Of a tuple, list or mapping the first tensor is replaced, the rest is kept.
        A site named by several keys is changed by each in turn.

    Yields
    ------
    None
        Nothing; the model itself is changed until the block ends, also by an exception.

    Raises
    ------
    ValueError
        If a pattern matches nothing, or a function changes the shape, dtype or device.
    TypeError
        If a function returns no tensor, or a site's output holds none.
    """
    modules = modules_by_site(model)
    with _fused_paths_off(), contextlib.ExitStack() as stack:
        for pattern, function in functions.items():
            for site in find_sites(model, pattern):
                stack.enter_context(_changed_forward(modules[site], _editor(site, function)))
        yield


@no_type_check
def _listener(site: str, hear: Callable[[str, Tensor], None]) -> Callable[[nn.Module, Any], Any]:
    def attend(_, output):
        hear(site, first_tensor(site, output)[1])
        return output

    return attend


@no_type_check
def _editor(site: str, function: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Any], Any]:
    def change(_, output):
        key, tensor = first_tensor(site, output)
        changed = function(tensor)
        if not isinstance(changed, Tensor):
            raise TypeError(
                f"edit at {site!r} returned {type(changed).__name__}; expected a tensor: return the one to use instead"
            )
        if (changed.shape, changed.dtype, changed.device) != (tensor.shape, tensor.dtype, tensor.device):
            raise ValueError(
                f"edit at {site!r} turned {_kind(tensor)} into {_kind(changed)}; "
                "return a tensor of the same shape, dtype and device"
            )
        return with_tensor(output, key, changed)

    return change


@no_type_check
def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')} on {tensor.device}"


@no_type_check
def first_tensor(site: str, output: Any) -> tuple[Any, Tensor]:
    """Where in the output its first tensor is (None: it is the output), and the tensor."""
    if isinstance(output, Tensor):
        return None, output
    if isinstance(output, (tuple, list)):
        entries = list(enumerate(output))
    else:
        entries = list(output.items()) if isinstance(output, Mapping) else []
    for key, entry in entries:
        if isinstance(entry, Tensor):
            return key, entry
    raise TypeError(
        f"site {site!r} returned {type(output).__name__} without a tensor in it; choose a module that returns one"
    )


@no_type_check
def with_tensor(output: Any, key: Any, tensor: Tensor) -> Any:
    """The output with the entry that `first_tensor` found replaced, the original left alone."""
    if key is None:
        return tensor
    if isinstance(output, Mapping):
        return type(output)(**{**output, key: tensor})
    entries = [*output[:key], tensor, *output[key + 1 :]]
    return type(output)(*entries) if hasattr(output, "_fields") else type(output)(entries)


@contextlib.contextmanager
def _changed_forward(module: nn.Module, change: Callable[[nn.Module, Any], Any]) -> Iterator[None]:
    """Pass a module's output through ``change`` for the length of the block."""
    undo = change_forward(module, change)
    try:
        yield
    finally:
        undo()


def change_forward(module: nn.Module, change: Callable[[nn.Module, Any], Any]) -> Callable[[], None]:
    """Pass a module's output through ``change(module, output)`` from now on; what is returned undoes it."""
    return _put_forward(module, _then(_unbound_forward(module), change))


def wrap_forward(module: nn.Module, around: Callable[..., Any]) -> Callable[[], None]:
    """Let ``around(module, forward, *args, **kwargs)`` answer for a module from now on; what is returned undoes it."""
    return _put_forward(module, _around(_unbound_forward(module), around))


def changes_of(module: nn.Module) -> list[Callable[[nn.Module, Any], Any]] | None:
    """What `change_forward` put on a module, the latest first; None where its forward was replaced in another way."""
    forward = vars(module).get("forward")
    if forward is None:
        return []
    function: Any = getattr(forward, "__func__", None)
    found = []
    while hasattr(function, "change"):
        found.append(function.change)
        function = function.__wrapped__
    return found if function is type(module).forward else None


def _put_forward(module: nn.Module, function: Callable[..., Any]) -> Callable[[], None]:
    previous = vars(module).get("forward")
    ours = MethodType(function, module)
    module.forward = ours

    def undo() -> None:
        if vars(module).get("forward") is not ours:
            raise RuntimeError(
                f"forward of {type(module).__name__} was replaced inside a tap or edit and not put back; "
                "leave such contexts in the reverse order of entering them"
            )
        if previous is None:
            del module.forward
        else:
            module.forward = previous

    return undo


@no_type_check
def _unbound_forward(module: nn.Module) -> Callable[..., Any]:
    """The forward in force, as a function that takes the module, so that a deep copy calls its own."""
    previous = vars(module).get("forward")
    if previous is None:
        return type(module).forward
    if isinstance(previous, MethodType) and previous.__self__ is module:
        return previous.__func__
    return lambda _, *args, **kwargs: previous(*args, **kwargs)


@no_type_check
def _then(inner: Callable[..., Any], change: Callable[[nn.Module, Any], Any]) -> Callable[..., Any]:
    def forward(self, *args, **kwargs):
        return change(self, inner(self, *args, **kwargs))

    # callers read the signature (transformers does to choose arguments)
    forward.__wrapped__, forward.change = inner, change
    return forward


@no_type_check
def _around(inner: Callable[..., Any], around: Callable[..., Any]) -> Callable[..., Any]:
    def forward(self, *args, **kwargs):
        return around(self, inner, *args, **kwargs)

    forward.__wrapped__ = inner
    return forward


@contextlib.contextmanager
def _fused_paths_off() -> Iterator[None]:
    """Keep torch.nn.TransformerEncoder from computing its submodules in one kernel that calls none of them."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
