"""`Maps` and `Numbers`: the maps of many sites as one thing, and a number of each of them as a table."""

import math
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload
from urllib.parse import quote

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from topographic import drawing
from topographic.maps.references import BesideNulls, Referenced, against_nulls, mean_over_sheets
from topographic.maps.unit_map import UnitMap, statistic_label
from topographic.storage import load_json, save_json, write_folder_atomically

if TYPE_CHECKING:
    from topographic.drawing.picture import Figure

__all__ = ["Maps", "Numbers"]

_FDR = 0.05
_INDEX = "maps.json"


class Maps(Mapping[str, UnitMap]):
    """The maps of many sites: a mapping of site to `UnitMap` that can be seen, listed, sliced and kept.

    Parameters
    ----------
    maps : mapping of str to UnitMap
        By site, in the order in which they are shown.

    Raises
    ------
    TypeError
        If something in it is no UnitMap.

    Examples
    --------
    >>> import numpy as np
    >>> from topographic.sheets import grid
    >>> sites = ("h.0.attn", "h.0.mlp", "h.1.attn")
    >>> maps = Maps({site: UnitMap(site, np.arange(6.0), grid((2, 3)), "welch_t") for site in sites})
    >>> maps
    Maps(welch_t: 3 sites, 18 units: h.0.attn, h.0.mlp, h.1.attn)
    >>> maps["*.attn"]
    Maps(welch_t: 2 sites, 12 units: h.0.attn, h.1.attn)
    >>> maps["h.0.mlp"]
    UnitMap('h.0.mlp': welch_t of 6 units, from 0 to 5)
    """

    def __init__(self, maps: Mapping[str, Any]) -> None:
        others = [f"{site!r} is a {type(one).__name__}" for site, one in maps.items() if not isinstance(one, UnitMap)]
        if others:
            raise TypeError(f"{others[0]}; expected a UnitMap at every site: make them with t_map or contrast")
        self._maps = dict(maps)

    @overload
    def __getitem__(self, site: str) -> UnitMap: ...
    @overload
    def __getitem__(self, site: object) -> "UnitMap | Maps": ...
    def __getitem__(self, site: object) -> "UnitMap | Maps":
        """The map of exactly this site, or the `Maps` of all sites that a wildcard matches."""
        if site in self._maps:
            return self._maps[str(site)]
        matching = {name: one for name, one in self._maps.items() if fnmatchcase(name, str(site))}
        if not matching:
            shown = ", ".join(map(repr, list(self._maps)[:4])) + (", ..." if len(self._maps) > 4 else "")
            raise KeyError(f"no map at {site!r}; expected a site or a wildcard over {shown or 'nothing'}")
        return Maps(matching)

    def __contains__(self, site: object) -> bool:
        """Whether there is a map of exactly this site."""
        return site in self._maps

    def __iter__(self) -> Iterator[str]:
        """Names of the sites."""
        return iter(self._maps)

    def __len__(self) -> int:
        """Number of sites."""
        return len(self._maps)

    def __repr__(self) -> str:
        """One line."""
        statistics = "+".join(dict.fromkeys(one.statistic for one in self._maps.values()))
        n_units = sum(one.sheet.n_units for one in self._maps.values())
        names = list(self._maps)
        shown = ", ".join(names if len(names) < 4 else [names[0], "...", names[-1]])
        return f"Maps({statistics or 'none'}: {len(names)} site{'s' * (len(names) != 1)}, {n_units} units: {shown})"

    def to_frame(self) -> pd.DataFrame:
        """A row per site: its units, their mean size beside the nulls, the most extreme values, the significant share.

        Returns
        -------
        DataFrame
            ``site``, ``statistic``, ``units``, ``mean |value|`` with mean, standard deviation and p of each null that
            the map carries, ``min``, ``max``, and where maps have q the share of units with q < .05.
        """
        rows = []
        for site, one in self._maps.items():
            present = one.values[~np.isnan(one.values)]
            sizes = _mean_size(one).to_columns("mean |value|") if len(present) else {"mean |value|": math.nan}
            row = {"site": site, "statistic": one.statistic, "units": one.sheet.n_units, **sizes}
            row |= {"min": float(present.min(initial=np.inf)), "max": float(present.max(initial=-np.inf))}
            row |= {} if one.q is None else {f"share q < {_FDR:g}": float((one.q < _FDR).mean())}
            rows.append(row)
        return pd.DataFrame(rows)

    def plot(self, *, limit: float | None = None, is_signed: bool = True) -> "Figure":
        """All sheets as small pictures with one colour scale and one bar.

        Parameters
        ----------
        limit : float, optional
            End of the colour scale; by default the 99.5th percentile of all absolute values.
        is_signed : bool
            Whether values may lie on both sides of zero.

        Returns
        -------
        matplotlib Figure
            Not shown: the last line of a cell shows it, ``figure.savefig`` writes it.
        """
        sheets = {site: (one.sheet, one.values) for site, one in self._maps.items()}
        statistics = dict.fromkeys(statistic_label(one.statistic) for one in self._maps.values())
        return drawing.draw_sheets(sheets, limit=limit, is_signed=is_signed, colour_label=", ".join(statistics))

    def save(self, folder: str | Path) -> Path:
        """Write every map with its nulls to a file of its own, in place of what is in the folder."""
        with write_folder_atomically(folder) as staging:
            for site, one in self._maps.items():
                one.save(staging / f"{quote(site, safe='')}.safetensors")
            save_json(staging / _INDEX, {"sites": list(self._maps)})
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> "Maps":
        """Read what `save` wrote."""
        index = Path(folder) / _INDEX
        if not index.is_file():
            raise FileNotFoundError(f"no maps at {folder} (it has no {_INDEX}); expected a folder that Maps.save wrote")
        sites = load_json(index)["sites"]
        return cls({site: UnitMap.load(Path(folder) / f"{quote(site, safe='')}.safetensors") for site in sites})

    def _repr_png_(self) -> bytes | None:
        return drawing.notebook_png(self.plot) if self._maps else None

    def _repr_html_(self) -> str:
        return drawing.notebook_html(repr(self), self._repr_png_())


class Numbers(Mapping[str, BesideNulls]):
    """A number of every site beside its nulls, and a table of them that is corrected over the sites.

    Parameters
    ----------
    numbers : mapping of str to Referenced or MoransI
        By site.
    name : str
        What the number is called.

    Examples
    --------
    >>> from topographic.maps import NullReference, Referenced
    >>> nulls = {"a": NullReference(0.1, 0.2, 3.0, 0.01, 199), "b": NullReference(0.1, 0.2, 3.0, 0.04, 199)}
    >>> numbers = Numbers({site: Referenced(0.7, {"unit": null}) for site, null in nulls.items()}, "I")
    >>> numbers
    Numbers('I': 2 sites, 0.700 on average)
    >>> numbers.to_frame()[["site", "I", "p (unit)", "q (unit)"]]
      site    I  p (unit)  q (unit)
    0    a  0.7      0.01      0.02
    1    b  0.7      0.04      0.04
    """

    def __init__(self, numbers: Mapping[str, BesideNulls], name: str = "value") -> None:
        self._numbers, self.name = dict(numbers), name

    def __getitem__(self, site: str) -> BesideNulls:
        """The number of this site."""
        return self._numbers[site]

    def __iter__(self) -> Iterator[str]:
        """Names of the sites."""
        return iter(self._numbers)

    def __len__(self) -> int:
        """Number of sites."""
        return len(self._numbers)

    def __repr__(self) -> str:
        """One line."""
        mean = float(np.mean([one.value for one in self._numbers.values()])) if self._numbers else math.nan
        return f"Numbers({self.name!r}: {len(self)} site{'s' * (len(self) != 1)}, {mean:.3f} on average)"

    def mean(self) -> Referenced:
        """The mean over sites, against the mean of the same draw over the sites (`mean_over_sheets`)."""
        return mean_over_sheets(list(self._numbers.values()))

    def to_frame(self) -> pd.DataFrame:
        """A row per site: the number, and of each null mean, standard deviation, p, and q over all sites.

        Returns
        -------
        DataFrame
            ``q (null)`` is the Benjamini-Hochberg adjusted p over the sites.
        """
        frame = pd.DataFrame([{"site": site, **one.to_columns(self.name)} for site, one in self._numbers.items()])
        for column in [name for name in frame.columns if name.startswith("p (")]:
            tested = frame[column].notna().to_numpy()
            q = np.full(len(frame), np.nan)
            q[tested] = false_discovery_control(frame.loc[tested, column].to_numpy(float))
            frame.insert(list(frame.columns).index(column) + 1, f"q{column[1:]}", q)
        return frame

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(index=False)


def _mean_size(unit_map: UnitMap) -> Referenced:
    return against_nulls(unit_map, lambda maps: np.nanmean(np.abs(maps), axis=1))
