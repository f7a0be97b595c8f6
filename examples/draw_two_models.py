"""Draw the maps of two runs side by side: python examples/draw_two_models.py RUN RUN OUT.png [CONTRAST]."""

import sys
from pathlib import Path

from matplotlib.figure import Figure

from topographic.maps import MapSummary
from topographic.plots import draw_map, symmetric_limit


def main(runs: list[str], out: str, contrast: str = "sentences-nonwords") -> None:
    """One row per kind of sheet, one column per block, both runs on one colour scale."""
    summaries = [MapSummary.load(Path(run) / "maps" / contrast) for run in runs]
    maps = [list(summary.maps.values()) for summary in summaries]
    limit = symmetric_limit([unit_map for each in maps for unit_map in each])
    n_blocks = len(maps[0]) // 2
    figure = Figure(figsize=(1.25 * (2 * n_blocks + 0.6), 3.1), dpi=200, layout="constrained")
    axes = figure.subplots(2, 2 * n_blocks + 1, width_ratios=[1] * n_blocks + [0.2] + [1] * n_blocks, squeeze=False)
    for ax in axes[:, n_blocks]:
        ax.set_axis_off()
    for model, (run, each) in enumerate(zip(runs, maps, strict=True)):
        for index, unit_map in enumerate(each):
            row, column = index % 2, index // 2 + model * (n_blocks + 1)
            draw_map(unit_map, axes[row, column], limit=limit)
            axes[row, column].set_title(f"block {index // 2}" if row == 0 else "", fontsize=8)
            if column in (0, n_blocks + 1):
                axes[row, column].set_ylabel(("attention", "MLP")[row], fontsize=8)
        middle = (0.25, 0.76)[model]
        figure.text(middle, 1.03, Path(run).name, ha="center", fontsize=11, weight="bold")
    figure.savefig(out, bbox_inches="tight")


if __name__ == "__main__":
    main(sys.argv[1:3], *sys.argv[3:])
