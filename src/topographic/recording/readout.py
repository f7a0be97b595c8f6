"""Responses as a scanner would see them: a Gaussian point-spread over the sheet."""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_array

from topographic.recording.by_site import by_site
from topographic.recording.responses import Responses
from topographic.sheets import Sheet, distances, grid, grid_shape, lattice_coordinates, spacing_mm
from topographic.sheets.expectations import expect_kind, expect_number

__all__ = ["LatticeKernel", "lattice_kernel", "readout", "readout_kernel", "readout_sheet"]

# of a step: nearer to the lattice a unit's weights differ from those of its place by rounding only
_ON_LATTICE = 1e-6


@by_site(dict)
def readout(responses: Responses, fwhm_mm: float = 2.0, *, normalized: bool = True) -> Responses:
    """Blur responses with a Gaussian, as fMRI does (apply it before any contrast, never to a t-map).

    ``s(v) = sum_u a(u) w(u, v)``, with the weights of `readout_kernel`.

    Parameters
    ----------
    responses : Responses or mapping of site to Responses
        Responses of the units of one site (of several, each is read out), values of shape (stimuli, units).
    fwhm_mm : float
        Full width at half maximum of the point-spread in mm. 0 means no readout: the responses come
        back unchanged, in unit order.
    normalized : bool
        Whether the weights at each site sum to 1, also at the edge of the sheet.

    Returns
    -------
    Responses
        Values of shape (stimuli, sites) on a sheet with ``is_readout=True``, see `readout_sheet`.

    Raises
    ------
    ValueError
        If the responses are a readout already, or as `readout_sheet` and `readout_kernel` say.

    Notes
    -----
    Rathi, Mehrer et al. (ICLR 2025, arXiv:2410.11516), section 4, use a FWHM of 2 mm at 1 mm spacing and
    ``normalized=False``. Per-site scaling changes no t value, but it does change means and effect sizes in
    units of activation. Their output lists sites with the first coordinate fastest; ours are row-major.
    """
    expect_kind("responses", responses, Responses, "one site of what record returns, responses[site]")
    if fwhm_mm == 0:
        return responses
    if responses.sheet.is_readout:
        raise ValueError(f"responses at {responses.site!r} are a readout already; give those of the units")
    kernel = readout_kernel(responses.sheet, fwhm_mm, normalized=normalized)
    return Responses(
        site=responses.site,
        values=(responses.values.astype(np.float64) @ kernel).astype(np.float32),
        sheet=readout_sheet(responses.sheet, fwhm_mm),
        stimuli=responses.stimuli,
        n_tokens=responses.n_tokens,
        provenance={**responses.provenance, "readout": {"fwhm_mm": fwhm_mm, "normalized": normalized}},
    )


def readout_sheet(sheet: Sheet, fwhm_mm: float = 2.0) -> Sheet:
    """The sites at which a sheet is read out: its lattice, every place once.

    Parameters
    ----------
    sheet : Sheet
        Sheet whose units lie on a lattice, in any order and perhaps several in one place.
    fwhm_mm : float
        Width of the readout in mm, kept in the name. 0 means no readout: the sheet itself comes back.

    Returns
    -------
    Sheet
        Sites at the sheet's own spacing over its whole range, row-major in (column 0, column 1) of the
        positions as `grid` orders them, with ``is_readout=True``. A torus is covered all round.

    Raises
    ------
    ValueError
        If the units do not lie on a lattice, or ``fwhm_mm`` is no length.
    """
    expect_number("fwhm_mm", fwhm_mm, "a width in mm of 0 (no readout) or above")
    if fwhm_mm == 0:
        return sheet
    shape, spacing = grid_shape(sheet), spacing_mm(sheet)
    if shape is None:
        raise ValueError(
            f"sheet {sheet.name!r} is not a lattice, so it has no sites to read out at; "
            "place its units on one (for example with `grid`) or use fwhm_mm=0"
        )
    if sheet.period_mm is not None:
        shape = _steps_round_torus(sheet.name, sheet.period_mm, spacing)
    origin = sheet.positions_mm.min(0).values
    return Sheet(
        name=f"{sheet.name} (FWHM {fwhm_mm:g} mm)",
        positions_mm=grid(shape, spacing_mm=spacing).positions_mm + origin,
        extent_mm=sheet.extent_mm,
        wrap=sheet.wrap,
        is_readout=True,
    )


def readout_kernel(sheet: Sheet, fwhm_mm: float = 2.0, *, normalized: bool = True) -> Float[np.ndarray, "units sites"]:
    """Weight of every unit at every site of `readout_sheet`.

    ``w(u, v) = exp(-||x_u - g_v||^2 / (2 sigma^2)) / Z(v)`` with ``sigma = FWHM / sqrt(8 ln 2)``; Z is the sum
    of the exponentials at the site if normalised, else ``2 pi sigma^2``.

    Parameters
    ----------
    sheet : Sheet
        Sheet whose units lie on a lattice; distances on a torus go the shorter way round.
    fwhm_mm : float
        Full width at half maximum in mm; 0 gives the identity.
    normalized : bool
        Whether the weights at each site sum to 1. If not, they do so only on average, far from the edges of
        a sheet with one unit per mm^2 (edge 0.735, corner 0.540 at a FWHM of 2 mm), as in the code released
        with TopoLM.

    Returns
    -------
    ndarray of float64, shape (units, sites)
        ``values @ kernel`` is the readout.

    Raises
    ------
    ValueError
        As `readout_sheet`, or if a site is out of reach of every unit.
    """
    sites = readout_sheet(sheet, fwhm_mm)
    if fwhm_mm == 0:
        return np.eye(sheet.n_units)
    variance = fwhm_mm**2 / (8 * math.log(2))
    gap = distances(sheet.positions_mm, sites.positions_mm, period_mm=sheet.period_mm)
    weights = torch.exp(-gap.square() / (2 * variance))
    if not normalized:
        return (weights / (2 * math.pi * variance)).numpy()
    mass = weights.sum(0)
    if (mass == 0).any():
        raise ValueError(
            f"sheet {sheet.name!r}: {int((mass == 0).sum())} sites are out of reach of every unit at "
            f"fwhm_mm={fwhm_mm:g}; widen it"
        )
    return (weights / mass).numpy()


@dataclass(frozen=True, eq=False)
class LatticeKernel:
    """The normalised weights of `readout_kernel`, a factor for each axis of the lattice.

    ``w = place^T (rows (x) columns) / Z``: for n x n units 2 n products for a value where the whole kernel takes n^2.
    """

    place: csr_array  # (cells, units): 1 where a unit lies
    rows: Float[np.ndarray, "cell_rows site_rows"]
    columns: Float[np.ndarray, "cell_columns site_columns"]
    mass: Float[np.ndarray, " sites"]  # Z

    def read(self, values: Float[np.ndarray, "units items"]) -> Float[np.ndarray, "sites items"]:
        """What every site sees of each item, in the type of the values. Items are last: their sums run in memory."""
        n_items = values.shape[1]
        rows, columns = self.rows.astype(values.dtype), self.columns.astype(values.dtype)
        cells = (self.place.astype(values.dtype) @ values).reshape(len(rows), -1)
        along_rows = (rows.T @ cells).reshape(-1, len(columns), n_items)
        seen = np.matmul(columns.T, along_rows).reshape(-1, n_items)
        seen /= self.mass.astype(values.dtype)[:, None]
        return seen


def lattice_kernel(sheet: Sheet, fwhm_mm: float) -> LatticeKernel | None:
    """The normalised kernel in factors; None where units lie beside their lattice by more than rounding."""
    step, shape = spacing_mm(sheet), grid_shape(readout_sheet(sheet, fwhm_mm))
    cells = lattice_coordinates(sheet)
    if cells is None or shape is None or fwhm_mm == 0:
        return None
    origin = sheet.positions_mm.min(0).values
    if (sheet.positions_mm - origin - step * cells).abs().max() > _ON_LATTICE * step:
        return None
    n_rows, n_columns = (int(last) + 1 for last in cells.max(0).values)
    variance = fwhm_mm**2 / (8 * math.log(2))
    factors: list[np.ndarray] = []
    for axis, n_places in enumerate((n_rows, n_columns)):
        units, sites = (step * torch.arange(n, dtype=torch.float64)[:, None] for n in (n_places, shape[axis]))
        gap = distances(units, sites, period_mm=sheet.period_mm and (sheet.period_mm[axis],))
        factors.append(torch.exp(-gap.square() / (2 * variance)).numpy())
    flat = (cells[:, 0] * n_columns + cells[:, 1]).numpy()
    place = csr_array((np.ones(len(flat)), (flat, np.arange(len(flat)))), shape=(n_rows * n_columns, len(flat)))
    rows, columns = factors
    unscaled = LatticeKernel(place, rows, columns, np.ones(rows.shape[1] * columns.shape[1]))
    return replace(unscaled, mass=unscaled.read(np.ones((len(flat), 1)))[:, 0])


def _steps_round_torus(name: str, period_mm: tuple[float, ...], step_mm: float) -> tuple[int, int]:
    steps = [length / step_mm for length in period_mm]
    if any(abs(step - round(step)) > 1e-3 for step in steps):
        raise ValueError(
            f"sheet {name!r}: its period of {period_mm} mm is no whole number of its {step_mm:g} mm steps; "
            "give an extent_mm that the lattice fills"
        )
    return round(steps[0]), round(steps[1])
