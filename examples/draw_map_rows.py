"""Draw folders of unit maps as rows of one picture: python examples/draw_map_rows.py OUT.png LABEL NAME=FOLDER ...

A folder holds UnitMap files, as RUN/maps/CONTRAST and RUN/evaluation/PART/maps/CONTRAST do. Its maps are one row in the
order of the layers, every second, third ... of them where they are many. All rows share one colour scale, called LABEL.
"""

import re
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from topographic.drawing.site_names import site_labels
from topographic.maps import UnitMap
from topographic.plots import draw_map, symmetric_limit
from topographic.sheets import grid_shape

MOST = 6


def main(out: str, label: str, rows: dict[str, Path]) -> None:
    """One row per folder, one column per site."""
    maps = {name: in_order(folder) for name, folder in rows.items()}
    every = [one for found in maps.values() for one in found]
    limit, signed = symmetric_limit(every), bool(min(np.nanmin(one.values) for one in every) < 0)
    widest = max(maps.values(), key=len)
    widths = [columns / rows for rows, columns in (grid_shape(one.sheet) for one in widest)]
    size = (1.4 * sum(widths) + 1.4, 1.5 * len(maps) + 0.4)
    figure = Figure(figsize=size, dpi=160, layout="constrained")
    axes = figure.subplots(len(maps), len(widths), squeeze=False, width_ratios=widths)
    for number, (row, (name, found)) in enumerate(zip(axes, maps.items(), strict=True)):
        labels = site_labels([one.site for one in found])
        for ax, unit_map in zip(row, found, strict=False):
            draw_map(unit_map, ax, limit=limit, is_signed=signed)
            if number == 0:
                ax.set_title(labels[unit_map.site], fontsize=8)
        for ax in row[len(found) :]:
            ax.set_axis_off()
        row[0].set_ylabel(name, fontsize=9)
    drawn = axes[0, 0].images[0]
    bar = figure.colorbar(drawn, ax=axes, shrink=0.6, aspect=22, label=label, extend="both" if signed else "max")
    bar.outline.set_visible(False)
    figure.savefig(out)


def in_order(folder: Path) -> list[UnitMap]:
    """Maps of a folder in the order of the layers, evenly chosen where there are many."""
    found = [UnitMap.load(path) for path in folder.glob("*.safetensors")]
    if not found:
        raise SystemExit(f"{folder} holds no maps; expected .safetensors files of `topo map` or `topo evaluate`")
    found.sort(key=lambda one: [int(word) if word.isdigit() else word for word in re.split(r"(\d+)", one.site)])
    chosen = np.unique(np.linspace(0, len(found) - 1, min(MOST, len(found))).round().astype(int))
    return [found[number] for number in chosen]


if __name__ == "__main__":
    main(*sys.argv[1:3], {name: Path(folder) for name, folder in (word.split("=", 1) for word in sys.argv[3:])})
