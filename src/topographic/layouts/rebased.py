"""A model that shows the activity of its sites on sheets, and is otherwise what it was.

Each site gets a child called ``sheet``, a module that is called with Z and gives it on. Whatever hears or changes
modules, taps, edits, recordings, lesions, objectives, hooks of torch, then hears and changes Z by that name.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MethodType
from typing import Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from topographic.layouts.adaptors import Adaptor, Adaptors, to_sheet, to_stream
from topographic.losses.wrappers import unwrapped
from topographic.recording.checksum import weights_checksum
from topographic.recording.hooks import change_forward, first_tensor, with_tensor
from topographic.recording.sites import find_sites, modules_by_site, site_name
from topographic.sheets import Sheet

__all__ = ["AdaptedSheet", "rebase", "rebased"]

AnyAdaptors = Adaptor | Mapping[str, Adaptor] | Sequence[Adaptor]


@contextlib.contextmanager
def rebased(model: nn.Module, adaptors: AnyAdaptors, *, any_weights: bool = False) -> Iterator[nn.Module]:
    """Show the activity of some sites on sheets while the block runs.

    ``Z = (X - m) S^-1 Q`` is the output of a module ``<site>.sheet``; what is done to it there returns to the site as
    ``X' = X + (Z' - Z) Q^-1 S``, and where nothing is done the site's output is untouched.

    Parameters
    ----------
    model : nn.Module
        Any model, wrapped (DDP, torch.compile) or not, in any precision; Z is computed in float32 at least. Of a
        site's tuple, list or mapping the first tensor counts. Feature maps (batch, channels, height, width) are shown
        as such, with the places of the sheet in the place of the channels.
    adaptors : Adaptor, or sequence or mapping of them
        One per site.
    any_weights : bool
        Take adaptors that were fitted on other weights, such as those of the model before its fine-tuning, or in
        another precision.

    Yields
    ------
    nn.Module
        The model itself. Its method ``sheets`` gives the sheets of the adaptors beside those it carries, so that
        recordings, selections and objectives find them. Its state dict stays what it was.

    Raises
    ------
    ValueError
        If a site does not exist or cannot be rebased, the weights are others, or, when the model runs, a site's
        output has another width than its sheet.
    TypeError
        If the model is not loaded.

    Notes
    -----
    Sites rebased together may be changed further by another ``rebased`` inside; a site that shows a sheet already can
    not. Everything is taken back when the block ends, also by an exception, in the reverse order of entering.

    Examples
    --------
    >>> from topographic.sheets import grid
    >>> model = nn.ModuleDict({"first": nn.Linear(2, 4)})
    >>> turned = Adaptor("first", torch.zeros(4), torch.ones(4), torch.eye(4), grid(4), "rotation")
    >>> with rebased(model, turned) as shown:
    ...     print(shown.sheets())
    {'first.sheet': Sheet('sheet', 4 units, sheet, extent_mm=(2.0, 2.0))}
    """
    with contextlib.ExitStack() as stack:
        for undo in _put_in_place(model, adaptors, any_weights=any_weights):
            stack.callback(undo)
        yield model


def rebase(model: nn.Module, adaptors: AnyAdaptors, *, any_weights: bool = False) -> nn.Module:
    """Show the activity of some sites on sheets for good.

    Parameters
    ----------
    model, adaptors, any_weights
        As in `rebased`.

    Returns
    -------
    nn.Module
        The model itself.

    Raises
    ------
    ValueError, TypeError
        As `rebased`; the model is then as it was.

    Examples
    --------
    >>> from topographic.sheets import grid
    >>> turned = Adaptor("first", torch.zeros(4), torch.ones(4), torch.eye(4), grid(4), "rotation")
    >>> rebase(nn.ModuleDict({"first": nn.Linear(2, 4)}), turned)["first"].sheet
    AdaptedSheet(Adaptor('first', rotation, 4 units))
    """
    _put_in_place(model, adaptors, any_weights=any_weights)
    return model


class AdaptedSheet(nn.Module):
    """What a site shows: called with Z, it gives Z on."""

    mean: Tensor
    scale: Tensor
    matrix: Tensor
    inverse: Tensor

    def __init__(self, adaptor: Adaptor, device: torch.device) -> None:
        super().__init__()
        self.adaptor = adaptor
        # not persistent: the state dict of the model is its own
        for name in _TENSORS:
            self.register_buffer(name, getattr(adaptor, name), persistent=False)
        self._move(device)

    @property
    def content_checksum(self) -> str:
        """What decides Z, for `weights_checksum`."""
        return self.adaptor.checksum

    @no_type_check
    def forward(self, shown: Tensor) -> Tensor:
        """Z as it is."""
        return shown

    @no_type_check
    def around(self, activations: Float[Tensor, "*samples units"]) -> Float[Tensor, "*samples units"]:
        """The activity of the site with what is done to its sheet."""
        units, axis = self.adaptor.n_units, 1 if activations.ndim == 4 else -1
        if activations.ndim not in (2, 3, 4) or activations.shape[axis] != units or not activations.is_floating_point():
            raise ValueError(
                f"site {self.adaptor.site!r} gives shape {tuple(activations.shape)} ({activations.dtype}) and its "
                f"adaptor has {units} units; expected (..., tokens, {units}) numbers, or feature maps "
                f"(batch, {units}, height, width): fit adaptors on this model, at modules that give one vector per "
                "token or place"
            )
        if self.mean.device != activations.device:
            self._move(activations.device)
        dtype = torch.promote_types(activations.dtype, torch.float32)
        with torch.autocast(activations.device.type, enabled=False):
            precise = activations.to(dtype).movedim(axis, -1)
            shown = to_sheet(precise, self.mean, self.scale, self.matrix).movedim(-1, axis)
            given = shown.clone()  # which may be changed in place
            changed = self(given)
            if changed is given and _is_untouched(given):
                return activations
            change = to_stream((changed - shown).movedim(axis, -1), self.scale, self.inverse)
            return (precise + change).movedim(-1, axis).to(activations.dtype)

    def extra_repr(self) -> str:
        """The adaptor, for printing."""
        return repr(self.adaptor)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "AdaptedSheet":
        # moved with the model, but never rounded with it
        self._move(fn(self.mean.new_empty(0)).device)
        return self

    def _move(self, device: torch.device) -> None:
        for name in _TENSORS:
            self._buffers[name] = getattr(self.adaptor, name).to(device)


@no_type_check
def _is_untouched(fresh: Tensor) -> bool:
    """Whether a fresh tensor is surely as it was made; where torch does not count changes its values have to tell."""
    return not torch.compiler.is_compiling() and not fresh.is_inference() and fresh._version == 0


def _put_in_place(model: nn.Module, adaptors: AnyAdaptors, *, any_weights: bool) -> list[Callable[[], None]]:
    """Put adaptors into a model; what undoes it, in the order it was done."""
    given = [adaptors] if isinstance(adaptors, Adaptor) else adaptors
    of_site = given if isinstance(given, Adaptors) else Adaptors(given)
    bare, modules = unwrapped(model), modules_by_site(model)
    device = next((parameter.device for parameter in bare.parameters()), torch.device("cpu"))
    places = {}
    for one in of_site.values():
        [site] = find_sites(model, one.site)
        places[site] = _checked(modules[site], one)
    if not any_weights:
        _check_weights(bare, of_site)
    undos: list[Callable[[], None]] = []
    try:
        for (site, module), one in zip(places.items(), of_site.values(), strict=True):
            undos += _change(site, module, AdaptedSheet(one, device).train(module.training))
        undos.append(_carry(bare))
    except BaseException:
        for undo in reversed(undos):
            undo()
        raise
    return undos


def _checked(module: nn.Module, adaptor: Adaptor) -> nn.Module:
    where = f"site {adaptor.site!r}"
    if isinstance(module, _ConvNd) and not isinstance(module, nn.Conv2d):
        raise ValueError(
            f"{where} is a {type(module).__name__}, whose units lie on no last axis; name a module that gives vectors, "
            "or the feature maps of a Conv2d"
        )
    if isinstance(module._modules.get("sheet"), AdaptedSheet):
        raise ValueError(
            f"{where} shows a sheet already; leave the other rebased() first, or rebase '{adaptor.site}.sheet'"
        )
    if isinstance(module, nn.Sequential):
        last = next(reversed(module._modules), "0")
        raise ValueError(
            f"{where} runs all its parts in turn; name the last of them, '{adaptor.site}.{last}', which says the same"
        )
    if hasattr(module, "sheet"):
        raise ValueError(f"{where} ({type(module).__name__}) has a part of its own called 'sheet'; name one around it")
    return module


def _check_weights(bare: nn.Module, adaptors: Mapping[str, Adaptor]) -> None:
    fitted = {one.provenance["weights"]: site for site, one in adaptors.items() if "weights" in one.provenance}
    if not fitted:
        return
    found = weights_checksum(bare, contents=False)
    for checksum, site in fitted.items():
        if checksum != found:
            raise ValueError(
                f"the adaptor of {site!r} was fitted on other weights ({str(checksum)[:12]}) than those of this "
                f"{type(bare).__name__} ({found[:12]}); load that model in the same precision, or pass any_weights=True"
            )


def _change(site: str, module: nn.Module, shown: AdaptedSheet) -> list[Callable[[], None]]:
    """Give a site its sheet; what undoes it."""
    undo = change_forward(module, _through_sheet(site))
    module.add_module("sheet", shown)
    return [lambda: delattr(module, "sheet"), undo]


@no_type_check  # runs inside compiled models
def _through_sheet(site: str) -> Callable[[nn.Module, Any], Any]:
    def change(module, output):
        key, activations = first_tensor(site, output)
        # of the module that runs, which may be a copy of the one that was changed
        changed = module.sheet.around(activations)
        return output if changed is activations else with_tensor(output, key, changed)

    change.of_output_alone = True  # and of what is done to the sheet: what was said once may be said again
    return change


def _carry(bare: nn.Module) -> Callable[[], None]:
    """Let a model's method ``sheets`` tell of those of its adaptors too; what undoes it."""
    previous, inherited = vars(bare).get("sheets"), getattr(bare, "sheets", None)
    if "sheets" in bare._modules or (inherited is not None and not inspect.isroutine(inherited)):
        raise ValueError(
            f"{type(bare).__name__} has a part called 'sheets', where it would tell of its sheets; rename it"
        )
    carried = getattr(inherited, "__func__", None)

    def sheets(self: nn.Module) -> dict[str, Sheet]:
        own = {} if carried is None else dict(carried(self))
        adapted = ((name, one) for name, one in self.named_modules() if isinstance(one, AdaptedSheet))
        return own | {site_name(name): one.adaptor.sheet for name, one in adapted}

    vars(bare)["sheets"] = MethodType(sheets, bare)

    def undo() -> None:
        if previous is None:
            del vars(bare)["sheets"]
        else:
            vars(bare)["sheets"] = previous

    return undo


_TENSORS = ("mean", "scale", "matrix", "inverse")
