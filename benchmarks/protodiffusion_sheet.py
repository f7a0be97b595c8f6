"""Prototypes and their condition on a sheet: is there order, and what does silencing a patch do to samples.

    python benchmarks/protodiffusion_sheet.py runs/protodiffusion --images mnist

For every tau a prototype classifier whose last layer is smooth (tau times TopoLoss), so that the numbers of a
prototype lie on a sheet, and a diffusion model that these prototypes guide, the first layer of whose condition is
smooth likewise; tau = 0 is the control. Of both sheets: whether nearby units answer to alike classes, near by and
beyond patches, beside permuted units and blocks. Then each quarter of the condition's sheet is silenced, and as many
scattered units; the same noise becomes samples, and an independent classifier says which classes are still seen.
Writes sheet.json and sheet.png.
"""

import argparse
import contextlib
import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from protodiffusion import classifier, images_of, parser, recipe
from torch.nn import functional

from topographic.diffusion import class_responses, sample, to_pixels
from topographic.drawing import draw_sheet
from topographic.interventions import ablate
from topographic.maps import Referenced, Selection, distance_decay
from topographic.maps.references import compare
from topographic.objectives import SmoothnessConfig
from topographic.runs import load_diffusion_model, load_vision_model, trained
from topographic.sheets import Sheet
from topographic.storage import save_json
from topographic.training import open_images

TABLE, LAYER = "denoiser.condition.table", "denoiser.condition.linear_1"
SAMPLING = {"guidance": 1.8, "steps": 10, "batch_size": 100}
BLOCK = 3
CORNERS = ("without upper left", "without upper right", "without lower left", "without lower right")


def main() -> None:
    """Train, map, lesion, draw."""
    said = parser(__doc__)
    said.add_argument("--taus", type=float, nargs="+", default=[0.0, 3.0])
    options = said.parse_args()
    out = Path(options.out)
    judge, _ = load_vision_model(classifier(out, options, prototypes=False, seed=1000))
    opened = open_images(images_of(options))
    found = {
        f"{tau:g}": [measured(run(out, options, tau, seed), judge, opened, options) for seed in range(options.seeds)]
        for tau in options.taus
    }
    save_json(out / "sheet.json", {tau: [one["numbers"] for one in of_tau] for tau, of_tau in found.items()})
    draw({tau: of_tau[0] for tau, of_tau in found.items()}).savefig(out / "sheet.png", dpi=150)
    rows = [
        {"tau": tau, "seed": seed, **one["numbers"]} for tau, of_tau in found.items() for seed, one in enumerate(of_tau)
    ]
    print(pd.DataFrame(rows).round(3).T.to_string())


def run(out: Path, options: argparse.Namespace, tau: float, seed: int) -> Path:
    """Folder of a diffusion model whose prototypes and condition are smooth by as much."""

    def smooth(layer: str) -> SmoothnessConfig:
        return SmoothnessConfig(weight=tau, sites=layer) if tau else SmoothnessConfig()

    prototypes = classifier(
        out,
        options,
        prototypes=True,
        seed=seed,
        run=str(out / f"sheet-{tau:g}-prototypes-seed-{seed}"),
        smoothness=smooth("backbone.classifier.1"),
    )
    said = {"condition": "frozen", "prototypes": str(prototypes), "prototypes_scaled": options.scaled}
    wanted = recipe(out / f"sheet-{tau:g}-seed-{seed}", options, seed, **said)
    return trained(dataclasses.replace(wanted, smoothness=smooth(LAYER)))


def measured(folder: Path, judge, opened, options: argparse.Namespace) -> dict:
    """Maps, numbers and samples of one model."""
    model, _ = load_diffusion_model(folder)
    heard = class_responses(model, [TABLE, LAYER], names=opened.classes)
    numbers = {}
    for site, name in ((TABLE, "prototypes"), (LAYER, "condition")):
        decay = distance_decay(heard[site], block=BLOCK, n_draws=199)
        numbers |= decay.near.to_columns(f"{name}, near", of="unit")
        numbers |= decay.far.to_columns(f"{name}, far", of="block")
    sheet, n_classes = heard[LAYER].sheet, len(opened.classes)
    shown = [number % n_classes for number in range(options.n)]
    told_apart = functional.silu(torch.from_numpy(heard[LAYER].values)).numpy()
    told_apart = (told_apart - told_apart.mean(0)) ** 2
    share = told_apart / told_apart.sum(1, keepdims=True)  # of what tells a class from the others, by unit

    def made_with(lesion: np.ndarray | None) -> np.ndarray:
        with (
            contextlib.nullcontext() if lesion is None else ablate(model, Selection(LAYER, lesion, sheet, "a quarter"))
        ):
            return to_pixels(sample(model, shown, progress=False, **SAMPLING))

    def seen(made: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            right = judge(opened.prepare(made)).logits.argmax(1).numpy() == shown
        return np.array([right[np.equal(shown, one)].mean() for one in range(n_classes)])

    kinds = {"patch": quadrants(sheet), "scattered": scattered(sheet.n_units)}
    made = {"intact": made_with(None)} | {
        f"{kind} {place}": made_with(one) for kind, masks in kinds.items() for place, one in enumerate(masks)
    }
    intact = seen(made["intact"])
    numbers["accuracy, intact"] = float(intact.mean())
    for kind, masks in kinds.items():
        lost = intact - np.array([seen(made[f"{kind} {place}"]) for place in range(len(masks))])
        carried = np.array([share[:, one].sum(1) for one in masks])
        numbers[f"{kind}: accuracy lost"] = float(lost.mean())
        numbers[f"{kind}: SD of it over classes"] = float(lost.std(1).mean())
        numbers[f"{kind}: SD of the share over classes"] = float(carried.std(1).mean())
        numbers |= related(carried, lost).to_columns(f"{kind}: r(share, lost)", of="class")
    return {"numbers": numbers, "heard": heard[LAYER], "patches": kinds["patch"], "made": made}


def related(carried: np.ndarray, lost: np.ndarray, n_draws: int = 999) -> Referenced:
    """Pearson's r over lesions and classes, each lesion about its mean; beside classes exchanged ("class")."""

    def r(order: np.ndarray) -> float:
        first, second = (one - one.mean(1, keepdims=True) for one in (carried[:, order], lost))
        size = np.linalg.norm(first) * np.linalg.norm(second)
        return float((first * second).sum() / size) if size else 0.0

    generator = np.random.default_rng(0)
    draws = np.array([r(generator.permutation(carried.shape[1])) for _ in range(n_draws)])
    value = r(np.arange(carried.shape[1]))
    return Referenced(value, {"class": compare(value, draws)})


def quadrants(sheet: Sheet) -> list[np.ndarray]:
    """Units of each quarter of the sheet."""
    places = sheet.positions_mm.numpy()
    upper = places > (places.min(0) + places.max(0)) / 2
    return [(upper == corner).all(1) for corner in ((False, False), (False, True), (True, False), (True, True))]


def scattered(n_units: int) -> list[np.ndarray]:
    """As many units, from anywhere: two random partitions into quarters."""
    generator = np.random.default_rng(0)
    return [generator.permutation(n_units) % 4 == part for part in range(4) for _ in range(2)]


def draw(found: dict[str, dict]) -> Figure:
    """For each tau what the condition's units say to every class, and what comes of silencing a quarter of them."""
    figure = Figure(figsize=(10.5, 3.2 * len(found)), layout="constrained")
    for part, (tau, one) in zip(np.atleast_1d(figure.subfigures(len(found), 1)), found.items(), strict=True):
        part.suptitle(f"tau = {tau}", x=0.01, ha="left", fontsize=11)
        maps, grids = part.subfigures(1, 2, width_ratios=[1.25, 1])
        heard, values = one["heard"], one["heard"].values - one["heard"].values.mean(0)
        limit = float(np.abs(values).max())
        axes = maps.subplots(2, -(-len(values) // 2)).flat
        for ax, name, row in zip(axes, heard.stimuli.conditions, values, strict=False):
            draw_sheet(heard.sheet, row, ax, limit=limit, is_rooted=True, title=name)
        shown = {"intact": None} | {f"patch {place}": mask for place, mask in enumerate(one["patches"])}
        for row, (ax, (name, mask)) in enumerate(zip(grids.subplots(len(shown), 1), shown.items(), strict=True)):
            made = one["made"][name][: len(values), ..., 0]
            apart = np.pad(made, ((0, 0), (0, 0), (0, 1)), constant_values=255)
            ax.imshow(np.hstack(apart), cmap="gray", vmin=0, vmax=255)
            ax.set_axis_off()
            ax.set_title("intact" if mask is None else CORNERS[row - 1], fontsize=8, loc="left", pad=2)
    return figure


if __name__ == "__main__":
    main()
