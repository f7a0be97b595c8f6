"""Do prototypes help a diffusion model early, and is it their meaning? Trains, measures and writes the table.

    python benchmarks/protodiffusion.py runs/protodiffusion --images mnist --seeds 3

Five conditions at equal network, images, order and noise: a table that starts at random (regular), prototypes kept
(frozen), trained on (unfrozen), and two controls of frozen: prototypes of other classes (shuffled) and random vectors
with the norms and covariance of the prototypes (random). At every checkpoint the same noise becomes samples, which are
held against test images by the kernel distance of MobileNetV2's features, with real against real as the floor, and by
how often an independent classifier sees the class that was asked for. Every run is an ordinary run folder; an
interrupted command goes on where it stopped.
"""

import argparse
import dataclasses
import inspect
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy import stats

from topographic.diffusion import (
    DiffusionModel,
    frechet_distance,
    image_features,
    kernel_distance,
    load_mobilenet,
    manifold,
    sample,
    to_pixels,
)
from topographic.drawing.style import COLOURS
from topographic.objectives import SpatialConfig
from topographic.plots import draw_sample_grids
from topographic.recording import weights_checksum
from topographic.runs import DiffusionSection, ModelConfig, Recipe, load_vision_model, trained
from topographic.storage import code_version, digest, load_arrays, load_json, save_arrays, save_json, sha256_of_file
from topographic.training import ImageConfig, TrainingConfig, open_images

CONDITIONS = {
    "regular": {"condition": "regular"},
    "frozen": {"condition": "frozen"},
    "unfrozen": {"condition": "unfrozen"},
    "shuffled": {"condition": "frozen", "prototypes_as": "shuffled"},
    "random": {"condition": "frozen", "prototypes_as": "random"},
}  # --scaled makes the prototypes of all of them as long as random rows
SAMPLING = {"guidance": 1.8, "steps": 10, "batch_size": 100}
FEATURES_SIDE = 64  # pixels that images are shown to MobileNetV2 with
CHECKPOINTS = (50, 100, 150, 200, 250, 300)
FEWEST_FOR_FRECHET = 500  # with fewer samples its bias is larger than what it is asked for


def recipe(folder: Path, options: argparse.Namespace, seed: int, **said) -> Recipe:
    """One run; a seed decides weights, order, noise and the controls alike in every condition."""
    steps = max(options.checkpoints)
    every = int(np.gcd.reduce(options.checkpoints))
    return Recipe(
        run=str(folder),
        model=ModelConfig(seed=seed),
        images=images_of(options),
        diffusion=DiffusionSection(
            prototypes_seed=seed,
            block_out_channels=options.channels,
            attention=[False] * (len(options.channels) - 1) + [True],
            beta_schedule="squaredcos_cap_v2",
            sample_steps=steps,
            samples_per_class=1,
            **said,
        ),
        spatial=SpatialConfig(weight=0.0),
        training=TrainingConfig(
            max_steps=steps,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            min_learning_rate=options.learning_rate / 50,
            warmup_steps=min(30, steps // 2),
            weight_decay=1e-4,
            betas=(0.9, 0.999),
            eval_steps=steps,
            eval_batches=5,
            save_steps=every,
            keep_checkpoints=None,
            report_to="none",
            seed=seed,
        ),
    )


def images_of(options: argparse.Namespace) -> ImageConfig:
    """The images, small enough for a processor."""
    return ImageConfig(name=options.images, folder=options.folder, size=options.size)


def classifier(out: Path, options: argparse.Namespace, *, prototypes: bool, seed: int, **changes) -> Path:
    """A classifier of the images: the one whose prototypes guide, or an independent one that judges."""
    folder = out / (f"prototypes-seed-{seed}" if prototypes else "judge")
    said = recipe(folder, options, seed)
    steps = {
        "max_steps": options.classifier_steps,
        "save_steps": options.classifier_steps,
        "batch_size": 2 * options.batch_size,
    }
    said = dataclasses.replace(
        said,
        model=ModelConfig("prototypes_demo" if prototypes else "resnet_demo", seed=seed),
        diffusion=DiffusionSection(),
        training=dataclasses.replace(said.training, eval_steps=options.classifier_steps, eval_batches=None, **steps),
    )
    return trained(dataclasses.replace(said, **changes))


def main() -> None:
    """Train what is not trained, measure what is not measured, print the table."""
    options = parser(__doc__).parse_args()
    out = Path(options.out)
    judge, _ = load_vision_model(classifier(out, options, prototypes=False, seed=1000))
    mobilenet = load_mobilenet(options.weights)
    opened = open_images(images_of(options))
    pixels = opened.validation.pixels
    half = min(options.real, len(pixels) // 2)
    order = np.random.default_rng(0).permutation(len(pixels))
    real, other = (
        image_features(mobilenet, pixels[part], side=FEATURES_SIDE) for part in (order[:half], order[half : 2 * half])
    )
    floor = kernel_distance(real, other)
    print(f"real against real: kernel distance {floor.mean:.4f}, Frechet distance {frechet_distance(real, other):.2f}")
    shown = [number % len(opened.classes) for number in range(options.n)]
    seen_by = {
        "judge": weights_checksum(judge),
        "features": weights_checksum(mobilenet),
        "images": opened.validation.stimuli.checksum,
        "classes": shown,
        "code": [code_version(f"topographic.diffusion.{file}") for file in ("distances", "sampling")],
        "measures": digest(inspect.getsource(measured)),
        "real": [half, FEATURES_SIDE],
    }
    rows, samples = [], {}
    for seed in range(options.seeds):
        prototypes = classifier(out, options, prototypes=True, seed=seed)
        for name in options.conditions:
            said = CONDITIONS[name]
            folder = out / f"{name}-seed-{seed}"
            given = {} if name == "regular" else {"prototypes": str(prototypes), "prototypes_scaled": options.scaled}
            wanted = recipe(folder, options, seed, **said, **given)
            trained(wanted)
            shape = DiffusionModel.from_pretrained(folder / "model").config
            for step in options.checkpoints:
                weights = folder / "checkpoints" / f"checkpoint-{step}"
                decided = {**seen_by, "checkpoint": sha256_of_file(weights / "model.safetensors"), **SAMPLING}
                kept = folder / "measured" / f"{step}-{digest(decided)[:16]}.json"
                if not kept.is_file():
                    model = DiffusionModel.from_pretrained(weights, config=shape).eval()
                    made = to_pixels(sample(model, shown, **SAMPLING))
                    save_arrays(kept.with_suffix(".safetensors"), {"pixels": made}, {})
                    save_json(kept, measured(made, shown, real, mobilenet, judge, opened))
                rows.append({"condition": name, "seed": seed, "step": step, **load_json(kept)})
                pixels = load_arrays(kept.with_suffix(".safetensors"))[0]["pixels"]
                by_class = pixels.reshape(-1, len(opened.classes), *pixels.shape[1:]).swapaxes(0, 1)
                if seed == 0 and step in options.checkpoints[1::2]:
                    samples.setdefault(name, {})[step] = by_class
    table = pd.DataFrame(rows)
    table.to_csv(out / "table.csv", index=False)
    print(summary(table, "kernel_distance").to_string())
    print(summary(table, "accuracy").to_string())
    draw_sample_grids(samples, shown=3).savefig(out / "samples.png", dpi=150)
    draw_curves(table, floor.mean, 1 / len(opened.classes)).savefig(out / "curves.png", dpi=150)


def measured(made, shown, real, mobilenet, judge, opened) -> dict:
    """The numbers of one checkpoint."""
    features = image_features(mobilenet, made, side=FEATURES_SIDE, progress=False)
    with torch.no_grad():
        seen = torch.cat([judge(batch).logits.argmax(1) for batch in opened.prepare(made).split(250)])
    near = manifold(real, features)
    frechet = {"frechet_distance": frechet_distance(real, features)} if len(made) >= FEWEST_FOR_FRECHET else {}
    return {
        "kernel_distance": kernel_distance(real, features).mean,
        **frechet,
        "accuracy": float((seen == torch.tensor(shown)).float().mean()),
        **near._asdict(),
    }


def draw_curves(table: pd.DataFrame, floor: float, chance: float) -> Figure:
    """Each measure by step: every seed as a dot, their mean as a line, and what real images or chance would give."""
    figure = Figure(figsize=(9.3, 3.4), layout="constrained")
    measures = {"kernel_distance": ("kernel distance", floor), "accuracy": ("samples seen as their class", chance)}
    for ax, (measure, (label, line)) in zip(figure.subplots(1, 2), measures.items(), strict=True):
        for place, (name, colour) in enumerate(zip(CONDITIONS, COLOURS, strict=False)):
            own = table[table["condition"] == name]
            if own.empty:
                continue
            ax.plot(own["step"] + 3 * (place - 2), own[measure], ".", color=colour, alpha=0.5, markersize=4)
            means = own.groupby("step")[measure].mean()
            ax.plot(means.index, means, color=colour, label=name)
        ax.axhline(line, color="#666666", linewidth=0.9, linestyle="--")
        ax.spines[["top", "right"]].set_visible(False)
        ax.set(xlabel="training step", ylabel=label)
    ax.legend(frameon=False, fontsize=8)
    return figure


def summary(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Mean over seeds, and the difference from regular of the same seed with its 95 % t interval."""
    wide = table.pivot_table(index=["step", "seed"], columns="condition", values=measure)
    lines = {}
    for name in wide.columns:
        difference = (wide[name] - wide["regular"]).unstack("seed")
        mean, n = difference.mean(axis=1), difference.count(axis=1)
        half = stats.t.ppf(0.975, (n - 1).clip(lower=1)) * difference.std(axis=1) / np.sqrt(n)
        cells = wide[name].groupby("step").mean()
        lines[name] = [
            f"{value:.4f}" + ("" if name == "regular" else f" ({delta:+.4f} ± {width:.4f})")
            for value, delta, width in zip(cells, mean, half, strict=True)
        ]
    return pd.DataFrame(lines, index=[f"{measure}, step {step}" for step in sorted(table["step"].unique())])


def parser(description: str | None) -> argparse.ArgumentParser:
    """What the command line may say."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--images", default="mnist")
    parser.add_argument("--folder", help="the set's files, in place of fetching them")
    parser.add_argument("--size", type=int, default=8, help="pixels along each side")
    parser.add_argument("--weights", help="torchvision's MobileNetV2, in place of the package")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--conditions", nargs="+", choices=CONDITIONS, default=list(CONDITIONS), help="regular among them"
    )
    parser.add_argument("--scaled", action="store_true", help="prototypes as long as the rows of a random table")
    parser.add_argument("--n", type=int, default=100, help="samples of a checkpoint")
    parser.add_argument("--real", type=int, default=500, help="test images that samples are held against")
    parser.add_argument("--channels", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--checkpoints", type=int, nargs="+", default=list(CHECKPOINTS))
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=5e-3, help="at first; a fiftieth in the end")
    parser.add_argument("--classifier-steps", type=int, default=200)
    return parser


if __name__ == "__main__":
    main()
