"""The page of an encoding of stories: layers beside their controls, targets, surfaces, and what was done."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from topographic.brain import StoryEncoding, load_mesh
from topographic.evaluation.wording import number, p_value, percent
from topographic.maps import UnitMap
from topographic.pages.pictures import embedded
from topographic.pages.render import write_rendered
from topographic.pages.tables import Cells
from topographic.plots.layer_figures import draw_by_depth
from topographic.plots.surface_figures import draw_surface_views

__all__ = ["write_encoding"]

_LINES = {
    "r": "layer",
    "r untrained": "untrained weights",
    "r random tokens": "random tokens",
    "r controls": "controls",
    "r both": "layer + controls",
}


def write_encoding(file: str | Path, encoding: StoryEncoding, title: str) -> Path:
    """Write one self-contained page."""
    layers, targets = encoding.layers, encoding.targets
    best = layers.loc[layers["layer"] == encoding.shown].iloc[0]
    # the largest first: a page of thousands of voxels is no page
    order = targets.sort_values("r", ascending=False, na_position="last").head(60)
    return write_rendered(
        Path(file),
        "encoding.html",
        title=title,
        encoding=encoding,
        best=best,
        best_r=number(float(best["r"]), 3),
        added=number(float(best["R2 added by the layer"]), 3, signed=True),
        share=percent(float(best["share with q <= .05"])),
        profile=embedded(_profile(layers)),
        surfaces=_surfaces(encoding),
        layers=_layer_cells(layers, encoding.shown),
        alone=_alone_cells(encoding),
        speech=None if encoding.speech is None else _speech(encoding.speech),
        targets=_target_cells(order),
        n_left_out=len(targets) - len(order),
        about=Cells(["", ""], [(str(key), _said(value)) for key, value in encoding.about.items()]),
    )


def _surfaces(encoding: StoryEncoding) -> list[dict[str, Any]]:
    """The shown layer's scores on both hemispheres, seen from outside and from the middle."""
    values = encoding.vertex_r
    if values is None or len(values) != 20484:
        return []
    limit = float(np.nanquantile(np.abs(values), 0.99))
    found = []
    for side, part in (("left", values[:10242]), ("right", values[10242:])):
        mesh = load_mesh(f"fsaverage5/infl_{side}")
        unit_map = UnitMap(f"{side} hemisphere", part, mesh.sheet, "r")
        views = ("left", "right") if side == "left" else ("right", "left")
        drawn = draw_surface_views(unit_map, mesh, views, limit=limit, colour_label="r of held-out runs")
        found.append({**embedded(drawn, "png"), "name": f"{side} hemisphere"})
    return found


def _layer_cells(layers: pd.DataFrame, shown: str | None = None) -> Cells:
    lines = {column: said for column, said in _LINES.items() if column in layers}
    header = ["layer", "depth", *lines.values(), "R² added by the layer", "targets with q ≤ .05"]
    rows = [
        [
            str(row["layer"]) + (" (shown below)" if row["layer"] == shown else ""),
            f"{row['depth']:g}",
            *(number(float(row[column]), 3) for column in lines),
            number(float(row["R2 added by the layer"]), 3, signed=True),
            percent(float(row["share with q <= .05"])),
        ]
        for row in layers.to_dict("records")
    ]
    return Cells(header, rows)


def _speech(layers: pd.DataFrame) -> dict[str, Any]:
    """Figure and table of the layers of a speech encoder."""
    return {"profile": embedded(_profile(layers)), "cells": _layer_cells(layers)}


def _profile(layers: pd.DataFrame) -> Any:
    lines = {said: layers[column].tolist() for column, said in _LINES.items() if column in layers}
    labels = [f"{depth:g}" for depth in layers["depth"]]
    return draw_by_depth(lines, labels, y_label="mean r of held-out runs").figure


def _alone_cells(encoding: StoryEncoding) -> Cells:
    rows = encoding.alone.to_dict("records")
    found = [[str(row["feature"]), str(row["columns"]), number(float(row["r"]), 3)] for row in rows]
    return Cells(["by itself", "columns", "mean r"], found)


def _target_cells(targets: Any) -> Cells:
    header = ["target", *_LINES.values(), "R² added by the layer", "p", "q"]
    rows = [
        [
            str(row["target"]),
            *(number(float(row[column]), 3) for column in _LINES),
            number(float(row["R2 added by the layer"]), 3, signed=True),
            p_value(float(row["p"])),
            p_value(float(row["q"])),
        ]
        for _, row in targets.iterrows()
    ]
    return Cells(header, rows)


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_said(one)}" for key, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
