"""What rotations, fitted on running text, make of contrasts that a pretrained model was never fitted on.

    python benchmarks/pretrained_layouts.py MODEL --texts wiki.txt --stimuli SETS --out FOLDER --only 'model.layers.?'
    python benchmarks/pretrained_layouts.py MODEL --out FOLDER --tables     # of what is finished; measures nothing
    python benchmarks/pretrained_layouts.py MODEL --out FOLDER --depth depth.png      # the same by layer
    python benchmarks/pretrained_layouts.py MODEL --texts wiki.txt --out FOLDER --only 'model.layers.?' --maps maps.png

Every site is laid out row-major, by a random rotation, by one fitted on the text, by one fitted on the same text with
samples shuffled within units, and by an assignment. Every layout is judged by its loss on text it has not seen, and by
Moran's I of the maps of contrasts, beside labels permuted at the level at which items were sampled. Each cell (text,
site, units, way, seed) is one file, kept under a key of everything that decided it; the same command goes on.

Ways of treating units: "unit", each by its own standard deviation; "overall", all by one; "without", all by one and
without the units of largest variance, as many as one row of the sheet has.
"""

import argparse
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm.auto import tqdm

from topographic.drawing import draw_sheets
from topographic.drawing.style import COLOURS, finish
from topographic.layouts import cached_activations, fit_assignment, fit_rotation, moments, shuffled_within_units
from topographic.layouts.blocks import fitting_neighborhoods
from topographic.losses import spatial_correlation_loss
from topographic.maps import morans_i, t_map
from topographic.maps.references import compare
from topographic.recording import Responses, find_sites, record, weights_checksum
from topographic.runs import load_model
from topographic.sheets import Sheet, grid, grid_shape
from topographic.stimuli import StimulusSet, load_localizer
from topographic.storage import code_version, digest, load_json, save_json

WAYS = ("row-major", "random", "rotation", "shuffled", "assigned")
UNITS = ("unit", "overall", "without")
_CODE = ("layouts.rotation", "layouts.assignment", "layouts.population", "maps.contrasts", "maps.autocorrelation")


class Contrast(NamedTuple):
    """Two conditions of a set."""

    stimuli: StimulusSet
    condition: str
    baseline: str


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    if options.tables:
        print(tables(cells_in(options.out)))
        return
    if options.depth:
        depth_figure(cells_in(options.out)).savefig(options.depth, dpi=150)
        return
    model, tokenizer = load_model(options.model, options.tokenizer, device="cpu")
    contrasts = contrasts_of(options.stimuli)
    heard = responses(model, tokenizer, contrasts, options)
    names = [site for site in find_sites(model, options.sites) if chosen(site, options.only)]
    for text in options.texts:
        recorded = cached_activations(
            model,
            tokenizer,
            text.read_text(encoding="utf-8"),
            options.sites,
            options.out / "activations",
            n_tokens=options.fitted + options.held_out,
        )
        if options.maps:
            map_figure(recorded, names, heard, contrasts, options).savefig(options.maps, dpi=150)
            return
        told = {"text": text.stem, "text_sha256": hashlib.sha256(text.read_bytes()).hexdigest()}
        told |= {"fitted": options.fitted, "held_out": options.held_out, "weights": weights_checksum(model)}
        cells = [
            (seed, site, units, way)
            for seed in options.seeds
            for site in names
            for units in options.units
            for way in options.ways
        ]
        for seed, site, units, way in tqdm(cells, desc=text.stem):
            decided = {**told, "site": site, "units": units, "way": way, "seed": seed, "draws": options.draws}
            shown = {name: one.stimuli.checksum for name, one in contrasts.items()}
            code = [code_version(f"topographic.{name}") for name in _CODE]
            path = options.out / "cells" / f"{digest([decided, shown, code])[:24]}.json"
            if path.is_file():
                continue
            values = recorded[site]
            found = measure(values, decided, {name: heard[name][site] for name in contrasts}, contrasts)
            save_json(path, {**decided, "code": code, **found})


def arguments() -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="anything that load_model takes")
    parser.add_argument("--tokenizer")
    parser.add_argument("--texts", type=Path, nargs="+", default=[], help="files of running text")
    parser.add_argument("--stimuli", type=Path, help="folder of the published sets; ours by default")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sites", nargs="+", default=["resid", "attn", "mlp"], help="what is recorded, once")
    parser.add_argument("--only", nargs="+", help="of these the ones to lay out, by name or wildcard")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--units", nargs="+", default=["unit"], choices=UNITS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--fitted", type=int, default=8192, help="tokens that layouts are fitted on")
    parser.add_argument("--held-out", type=int, default=4096, help="tokens after these, for the loss")
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tables", action="store_true")
    parser.add_argument("--depth", type=Path, help="file of a picture of what is finished; measures nothing")
    parser.add_argument(
        "--maps", type=Path, help="file of a picture: the first contrast, sites laid out on the first text"
    )
    return parser.parse_args()


def chosen(site: str, only: list[str] | None) -> bool:
    """Whether a site is to be laid out."""
    return only is None or any(fnmatchcase(site, pattern) for pattern in only)


def contrasts_of(folder: Path | None) -> dict[str, Contrast]:
    """Language, word class, concreteness."""
    if folder is None:
        language, phrases = load_localizer("language"), load_localizer("nouns_verbs")
        words = phrases
    else:
        language, phrases, words = (load_localizer(name, folder) for name in ("fedorenko2010", "hauptman", "moseley"))
    concreteness = words.labels["concreteness"]
    by_concreteness = replace(words, name="concreteness", conditions=concreteness, labels={"class": words.conditions})
    return {
        "sentences - nonwords": Contrast(language, "sentences", "nonwords"),
        "noun - verb": Contrast(phrases, "noun", "verb"),
        "abstract - concrete": Contrast(by_concreteness, "abstract", "concrete"),
    }


def responses(
    model: Any, tokenizer: Any, contrasts: dict[str, Contrast], options: argparse.Namespace
) -> dict[str, dict[str, Responses]]:
    """Responses of every recorded site to the items of each contrast, recorded once."""
    found: dict[str, dict[str, Responses]] = {}
    for name, one in contrasts.items():
        about = [
            weights_checksum(model),
            one.stimuli.checksum,
            options.sites,
            code_version("topographic.recording.record"),
        ]
        folder = options.out / "responses" / digest(about)[:16]
        if not (folder / "done.json").is_file():
            made = record(model, tokenizer, one.stimuli, options.sites, grid)
            folder.mkdir(parents=True, exist_ok=True)
            for site, response in made.items():
                response.save(folder / f"{site}.safetensors")
            save_json(folder / "done.json", list(made))
        found[name] = {site: Responses.load(folder / f"{site}.safetensors") for site in load_json(folder / "done.json")}
    return found


def measure(
    values: np.ndarray, decided: dict[str, Any], heard: dict[str, Responses], contrasts: dict[str, Contrast]
) -> dict[str, Any]:
    """Lay one site out in one way; its loss on held-out text and the maps of all contrasts."""
    n_fitted = decided["fitted"]
    sheet = grid(values.shape[1])
    kept = np.arange(values.shape[1])
    if decided["units"] == "without":
        n_columns = (grid_shape(sheet) or (1, 1))[1]
        kept = np.sort(np.argsort(-values[:n_fitted].astype(np.float64).var(0), kind="stable")[n_columns:])
        sheet = grid(len(kept))
    fitted = np.asarray(values[:n_fitted], np.float64)[:, kept]
    mean, scale = moments(fitted, "unit" if decided["units"] == "unit" else "overall")
    matrix = matrix_of(fitted, sheet, decided)
    held_out = laid_out(values[n_fitted : n_fitted + decided["held_out"]][:, kept], mean, scale, matrix)
    maps = {}
    for name, one in contrasts.items():
        shown = laid_out(heard[name].values[:, kept], mean, scale, matrix).numpy()
        on_sheet = replace(heard[name], values=shown.astype(np.float32), sheet=sheet)
        t = t_map(on_sheet, one.condition, one.baseline, n_draws=decided["draws"], seed=decided["seed"])
        index = morans_i(t)
        maps[name] = {"I": index.value, "mean_abs_t": float(np.abs(t.values).mean())}
        for null, beside in index.nulls.items():
            maps[name][null] = {"mean": beside.mean, "sd": beside.sd, "p": beside.p}
        maps[name]["label"]["draws"] = [round(float(draw), 9) for draw in index.nulls["label"].draws]
    loss = float(spatial_correlation_loss(held_out, sheet.positions_mm, fitting_neighborhoods(sheet)))
    return {"loss": loss, "contrasts": maps}


def matrix_of(fitted: np.ndarray, sheet: Sheet, decided: dict[str, Any]) -> Tensor:
    """The change of basis; layers of one seed begin from different starts, or their maps would not be independent."""
    n_units, way = sheet.n_units, decided["way"]
    seed = int(digest([decided["site"], decided["seed"]])[:7], 16)
    scale = "unit" if decided["units"] == "unit" else "overall"
    if way == "row-major":
        return torch.eye(n_units)
    if way == "random":
        return torch.linalg.qr(torch.randn(n_units, n_units, generator=torch.Generator().manual_seed(seed)))[0]
    if way == "assigned":
        return torch.eye(n_units)[:, fit_assignment(fitted, sheet, seed=seed)]
    return fit_rotation(
        shuffled_within_units(fitted, seed) if way == "shuffled" else fitted, sheet, seed=seed, scale=scale
    )


def laid_out(values: np.ndarray, mean: Tensor, scale: Tensor, matrix: Tensor) -> Tensor:
    """Z."""
    return ((torch.from_numpy(np.asarray(values, np.float32)) - mean) / scale) @ matrix


def cells_in(folder: Path) -> list[dict[str, Any]]:
    """All that is finished."""
    return [load_json(path) for path in sorted((folder / "cells").glob("*.json"))]


def depth_figure(cells: list[dict[str, Any]]) -> Figure:
    """Moran's I of the first seed of every layer's rotation, by text, with its label null (mean, one sd) as a band."""
    contrasts = list(cells[0]["contrasts"])
    figure = Figure(figsize=(4.2 * len(contrasts), 3.4), layout="constrained")
    axes = figure.subplots(1, len(contrasts), sharey=True, squeeze=False)[0]
    for number, text in enumerate(sorted({cell["text"] for cell in cells})):
        own = [
            one
            for one in cells
            if (one["text"], one["way"], one["seed"], one["units"]) == (text, "rotation", 0, "unit")
        ]
        depths = sorted((int(one["site"].split(".")[2]), one) for one in own if one["site"].count(".") == 2)
        for ax, contrast in zip(axes, contrasts, strict=True):
            found = [one["contrasts"][contrast] for _, one in depths]
            at, null = [depth for depth, _ in depths], [one["label"] for one in found]
            low, high = ([one["mean"] + sign * one["sd"] for one in null] for sign in (-1, 1))
            ax.fill_between(at, low, high, color=COLOURS[number], alpha=0.18, linewidth=0)
            ax.plot(at, [one["I"] for one in found], color=COLOURS[number], marker="o", markersize=3, label=text)
            ax.set_title(contrast, fontsize=10, loc="left")
            finish(ax, "block", "Moran's I of the map" if ax is axes[0] else "")
    return figure


def map_figure(
    recorded: dict[str, np.ndarray],
    names: list[str],
    heard: dict[str, dict[str, Responses]],
    contrasts: dict[str, Contrast],
    options: argparse.Namespace,
) -> Figure:
    """Maps of the first contrast: a column per site, a row per way."""
    name, one = next(iter(contrasts.items()))
    rows: dict[str, tuple[Sheet, np.ndarray]] = {}
    for site in names:
        fitted = np.asarray(recorded[site][: options.fitted], np.float64)
        mean, scale = moments(fitted, "unit")
        sheet = grid(fitted.shape[1])
        for way in options.ways:
            matrix = matrix_of(fitted, sheet, {"site": site, "seed": 0, "units": "unit", "way": way})
            values = laid_out(heard[name][site].values, mean, scale, matrix).numpy()
            t = t_map(replace(heard[name][site], values=values, sheet=sheet), one.condition, one.baseline)
            rows[f"layers.{block_of(site)}.{way}"] = (sheet, t.values)
    return draw_sheets(rows, colour_label=f"Welch's t, {name}")


def tables(cells: list[dict[str, Any]]) -> str:
    """One table for each text, treatment of units and contrast: sites down, ways across; then what holds over sites."""
    lines = []
    for text, units in sorted({(cell["text"], cell["units"]) for cell in cells}):
        some = [cell for cell in cells if (cell["text"], cell["units"]) == (text, units)]
        ways = [way for way in WAYS if any(cell["way"] == way for cell in some)]
        lines += [f"\n## {text}, units: {units}", *overview(some, ways)]
        for contrast in some[0]["contrasts"]:
            lines += [
                f"\n### {contrast}",
                "",
                "| site | seed | " + " | ".join(ways) + " |",
                "|" + "---|" * (2 + len(ways)),
            ]
            for site, seed in by_depth({(cell["site"], cell["seed"]) for cell in some}):
                row = {cell["way"]: cell for cell in some if (cell["site"], cell["seed"]) == (site, seed)}
                told = [cell_text(row[way]["contrasts"][contrast]) if way in row else "" for way in ways]
                lines.append(f"| {site} | {seed} | " + " | ".join(told) + " |")
    return "\n".join(lines)


def overview(cells: list[dict[str, Any]], ways: list[str]) -> Iterator[str]:
    """For sites of one kind, all of one seed: means, and p of the mean and of each site's z corrected over the sites.

    A draw relabels the items alike at every site, so that means and largest z of the sites have a null of their own.
    """
    columns = ("sites", "seed", "way", "n", "held-out loss", "contrast", "mean I", "label null", "p", "corrected < .05")
    yield f"\n| {' | '.join(columns)} |\n" + "|---" * len(columns) + "|"
    families = sorted({(kind_of_site(cell["site"]), cell["seed"]) for cell in cells})
    for kind, seed in families:
        for way in ways:
            own = [one for one in cells if (kind_of_site(one["site"]), one["seed"], one["way"]) == (kind, seed, way)]
            for contrast in own[0]["contrasts"] if own else ():
                found = [cell["contrasts"][contrast] for cell in own]
                indices, draws = (
                    np.array([one["I"] for one in found]),
                    np.array([one["label"]["draws"] for one in found]),
                )
                mean, sd = draws.mean(1), draws.std(1, ddof=1)
                p = compare(float(indices.mean()), draws.mean(0)).p
                largest = ((draws - mean[:, None]) / sd[:, None]).max(0)
                corrected = [compare(float(z), largest).p for z in (indices - mean) / sd]
                loss, n_held = np.mean([cell["loss"] for cell in own]), sum(one < 0.05 for one in corrected)
                yield (
                    f"| {kind} | {seed} | {way} | {len(own)} | {loss:.3f} | {contrast} | {indices.mean():.3f} | "
                    f"{mean.mean():.3f} | {p:.3f} | {n_held} |"
                )


def kind_of_site(site: str) -> str:
    """Its name without numbers."""
    return ".".join("*" if part.isdigit() else part for part in site.split("."))


def block_of(site: str) -> int:
    """The first number in its name."""
    return next(int(part) for part in site.split(".") if part.isdigit())


def by_depth(pairs: set[tuple[str, int]]) -> list[tuple[str, int]]:
    """Sites in the order of depth."""
    return sorted(pairs, key=lambda pair: ([int(part) if part.isdigit() else -1 for part in pair[0].split(".")], pair))


def cell_text(found: dict[str, Any]) -> str:
    """I, its label null and p."""
    null = found["label"]
    return f"{found['I']:.3f}, {null['mean']:.3f} ± {null['sd']:.3f}, {null['p']:.2f}"


if __name__ == "__main__":
    main()
