"""Where the units of a recorded site lie: on the sheets a model carries, or as a layout says."""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from topographic.losses.wrappers import unwrapped
from topographic.recording.sites import find_sites, site_name, suggested_sites
from topographic.sheets import Layout, Sheet, grid

__all__ = ["AnyLayout", "carried_sheets", "check_places", "chosen_sites", "own_layout", "settled_layout"]

AnyLayout = Layout | Mapping[str, Sheet] | None
_MICROMETRE = 1e-3  # models keep positions to the micrometre


def carried_sheets(model: nn.Module) -> dict[str, Sheet]:
    """The sheets that a model carries: what its method ``sheets`` returns.

    Parameters
    ----------
    model : nn.Module
        Any model, wrapped (DDP, torch.compile) or not.

    Returns
    -------
    dict of str to Sheet
        By site; empty for a model without that method.

    Raises
    ------
    TypeError
        If the method returns something else.

    Examples
    --------
    >>> carried_sheets(nn.Linear(2, 3))
    {}
    """
    bare = unwrapped(model)
    method = getattr(bare, "sheets", None)
    if not inspect.isroutine(method):
        return {}
    sheets: Any = method()
    if not isinstance(sheets, Mapping) or not all(isinstance(sheet, Sheet) for sheet in sheets.values()):
        raise TypeError(f"{type(bare).__name__}.sheets() returned a {type(sheets).__name__}; expected {{site: Sheet}}")
    return {site_name(site): sheet for site, sheet in sheets.items()}


def own_layout(model: nn.Module, otherwise: Layout = grid) -> Layout:
    """Layout of a model's own: the sheets it carries at their sites, another layout elsewhere.

    Parameters
    ----------
    model : nn.Module
        Any model, wrapped or not.
    otherwise : callable
        Layout ``(n_units, name) -> Sheet`` of the other sites.

    Returns
    -------
    callable
        ``(n_units, name) -> Sheet``.

    Examples
    --------
    >>> own_layout(nn.Linear(2, 6))(6, "hidden")
    Sheet('hidden', 6 units, sheet, extent_mm=(2.0, 3.0))
    """
    carried = carried_sheets(model)
    return lambda n_units, name: carried[name] if name in carried else otherwise(n_units, name)


def chosen_sites(model: Any, sites: str | Sequence[str] | None) -> list[str]:
    """Names of the sites; those of the sheets that the model carries where none are given."""
    bare = unwrapped(model)
    if sites is not None:
        return find_sites(model, sites)
    carried = list(carried_sheets(model))
    if not carried:
        raise ValueError(
            f"sites=None, and {type(bare).__name__} carries no sheets whose sites would be meant; name "
            f"some, for example sites={suggested_sites(model)!r}"
        )
    return find_sites(model, carried)


def settled_layout(model: nn.Module, names: Sequence[str], layout: AnyLayout, *, relayout: bool = False) -> Layout:
    """The layout that holds at some sites of a model; one that says otherwise than the model itself is refused."""
    if isinstance(layout, Mapping) and (missing := [name for name in names if name not in layout]):
        raise ValueError(
            f"layout has no sheet for site {missing[0]!r} ({len(missing)} of {len(names)} sites lack one); "
            f"it holds {', '.join(map(repr, list(layout)[:3]))}...: add it or narrow the site patterns"
        )
    # on the meta device there are no positions yet, and nothing to record
    unborn = any(tensor.is_meta for tensor in unwrapped(model).buffers())
    carried = {} if relayout or unborn else carried_sheets(model)

    def settled(n_units: int, name: str) -> Sheet:
        if layout is None:
            sheet = carried[name] if name in carried else grid(n_units, name)
        else:
            sheet = layout[name] if isinstance(layout, Mapping) else layout(n_units, name)
        if sheet.n_units != n_units:
            raise ValueError(
                f"site {name!r} has {n_units} units and its sheet {sheet.name!r} places {sheet.n_units}; "
                "give it a layout of its width"
            )
        return sheet

    if layout is not None:
        there = [name for name in names if name in carried]
        _check_against(carried, ((name, settled(carried[name].n_units, name)) for name in there), "the layout")
    return settled


def check_places(model: nn.Module, sheets: Iterable[tuple[str, Sheet]], what: str, *, relayout: bool = False) -> None:
    """Refuse sheets on which units lie elsewhere than on those the model carries, unless that is meant."""
    if not relayout:
        _check_against(carried_sheets(model), sheets, what)


def _check_against(carried: Mapping[str, Sheet], sheets: Iterable[tuple[str, Sheet]], what: str) -> None:
    for site, sheet in sheets:
        if site in carried and sheet.n_units == carried[site].n_units and not _alike(sheet, carried[site]):
            raise ValueError(
                f"{what} puts the units of site {site!r} elsewhere than the sheet that the model carries; use that one "
                "(layout=None), or pass relayout=True to lay units out anew on purpose"
            )


def _alike(one: Sheet, other: Sheet) -> bool:
    def agree(these: Any, those: Any) -> bool:
        these, those = (torch.as_tensor(some, dtype=torch.float64) for some in (these, those))
        return these.shape == those.shape and torch.allclose(these, those, rtol=0, atol=_MICROMETRE)

    return agree(one.positions_mm, other.positions_mm) and agree(one.period_mm or (), other.period_mm or ())
