"""The page of several subjects' encodings: layers over subjects, scores beside head motion, and where each one is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from topographic.brain import GroupEncoding
from topographic.evaluation.wording import NO_BREAK, NOTHING, counted, number, p_value
from topographic.pages.pictures import embedded
from topographic.pages.render import write_rendered
from topographic.pages.tables import Cells
from topographic.plots.group_figures import draw_motion, draw_over_subjects

__all__ = ["write_group"]

_MOVED = "mean framewise displacement (mm)"
_TITLES = {"text": "Layers of the language model", "speech": "Layers of the speech encoder"}
_MAIN = {"text": "mean r", "speech": "mean r of speech layers"}  # what is held against motion before all
_LEVEL = 0.05
_FEW = 30  # subjects; of fewer, a rho of .36 is not told from 0
_REFERENCES = {"r untrained": "untrained weights", "r random tokens": "random tokens", "r controls": "controls"}
_TESTED = {
    "r": "mean r",
    "r above untrained": "above untrained weights",
    "r above random tokens": "above random tokens",
    "R2 added by the layer": "R² added by the layer",
}


def write_group(
    file: str | Path,
    group: GroupEncoding,
    title: str,
    *,
    data: str = "",
    pages: Mapping[str, str] | None = None,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Write one self-contained page; ``pages`` says where those of the subjects are, as seen from its folder."""
    best, n = group.best(), len(group.subjects)
    speech = group.best("speech") if "speech" in set(group.layers["model"]) else None
    moved: Any = group.subjects[np.isfinite(group.subjects[_MOVED])]
    return write_rendered(
        Path(file),
        "group.html",
        title=title,
        data=data,
        n_subjects=counted(n, "subject"),
        best=_led(best),
        speech=None if speech is None else _led(speech),
        kinds=[_kind(group, kind) for kind in dict.fromkeys(group.layers["model"])],
        n_tested=n,
        least_p=p_value(1 / 2**n),
        motion=_motion_cells(group.motion),
        main_motion=[_said_motion(row) for row in group.motion.to_dict("records") if row["score"] in _MAIN.values()],
        scatters=[] if moved.empty else [_scatter(moved, score) for score in _MAIN.values() if score in moved],
        subjects=group.subjects.to_dict("records"),
        columns=[name for name in group.subjects if name not in ("subject", "runs", "scans")],
        pages=dict(pages or {}),
        cell=_cell,
        notes=group.notes,
        about=Cells(["", ""], [(str(key), _said(value)) for key, value in {**group.about, **(about or {})}.items()]),
    )


def _led(row: Mapping[str, Any]) -> dict[str, str]:
    p = float(row["p corrected"])
    said = f", p{NO_BREAK}{p_value(p, sign=True)}" if np.isfinite(p) else ""
    said += ", not told from 0" if p > _LEVEL else ""
    return {"layer": str(row["layer"]), "depth": f"{row['depth']:g}", "r": _with_interval(row) + said}


def _kind(group: GroupEncoding, kind: str) -> dict[str, Any]:
    """Figure and table of one model's layers."""
    rows: Any = group.layers[group.layers["model"] == kind]
    scores = group.scores[group.scores["model"] == kind]
    of_r = rows[rows["score"] == "r"]
    layers, labels = of_r["layer"].tolist(), [f"{depth:g}" for depth in of_r["depth"]]
    values = scores.pivot(index="subject", columns="layer", values="r")[layers].to_numpy(dtype=np.float64)
    means = scores.groupby("layer")[[column for column in _REFERENCES if column in scores]].mean().loc[layers]
    references = {said: means[column].tolist() for column, said in _REFERENCES.items() if column in means}
    references = {said: line for said, line in references.items() if np.isfinite(line).all()}
    interval = of_r["low"].tolist(), of_r["high"].tolist()
    drawn = draw_over_subjects(values, interval, labels, references=references, y_label="mean r of held-out runs")
    return {"name": kind, "title": _TITLES[kind], "figure": embedded(drawn.figure), "cells": _layer_cells(rows, layers)}


def _layer_cells(rows: Any, layers: list[str]) -> Cells:
    shown = [name for name in _TESTED if name in set(rows["score"])]
    cells = []
    for layer in layers:
        own = {str(row["score"]): row for row in rows[rows["layer"] == layer].to_dict("records")}
        line = [layer, f"{own['r']['depth']:g}"]
        for name in shown:
            line += [_with_interval(own[name]), _p(own[name])]
        cells.append(line)
    groups = [("", 2), *((_TESTED[name], 2) for name in shown)]
    return Cells(["layer", "depth", *(["mean [95 %]", "p"] * len(shown))], cells, groups)


def _with_interval(row: Mapping[str, Any]) -> str:
    mean = number(float(row["mean"]), 3)
    if not np.isfinite(row["low"]):
        return mean
    limits = f"[{number(float(row['low']), 3)},{NO_BREAK}{number(float(row['high']), 3)}]"
    return f"{mean}{NO_BREAK}{limits}"


def _p(row: Mapping[str, Any]) -> str:
    value = float(row["p corrected"])
    return p_value(value) if np.isfinite(value) else NOTHING


def _motion_cells(motion: pd.DataFrame) -> Cells | None:
    if motion.empty:
        return None
    rows = [
        [str(row["score"]), number(float(row["rho"]), 3, signed=True), p_value(float(row["p"])), str(row["n_subjects"])]
        for row in motion.to_dict("records")
    ]
    return Cells(["score", "Spearman's rho", "p", "subjects"], rows)


def _said_motion(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "score": row["score"],
        "rho": number(float(row["rho"]), 3, signed=True),
        "p": p_value(float(row["p"]), sign=True),
        "n": int(row["n_subjects"]),
        "exact": bool(row["exact"]),
        "goes": bool(row["p"] <= _LEVEL),
        "few": bool(row["n_subjects"] < _FEW),
        "falls": bool(row["rho"] < 0),
    }


def _scatter(moved: pd.DataFrame, score: str) -> dict[str, Any]:
    drawn = draw_motion(moved[_MOVED].tolist(), moved[score].tolist(), moved["subject"].tolist(), y_label=score)
    return {"name": score, "figure": embedded(drawn.figure)}


def _cell(value: float) -> str:
    return number(float(value), 3) if np.isfinite(value) else NOTHING


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_said(one)}" for key, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
