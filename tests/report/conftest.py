"""Two synthetic run folders: units that respond alike to their neighbours, and units that do not."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.ndimage import gaussian_filter

from topographic.maps import MapSummary, summarize
from topographic.recording.responses import Responses
from topographic.report import sections
from topographic.sheets import grid
from topographic.stimuli import StimulusSet

SITES = [f"transformer.h.{layer}.{kind}" for layer in range(4) for kind in ("attn", "mlp")]
SIDE = 14


def stimuli() -> StimulusSet:
    """Forty sentences and forty strings in two runs."""
    return StimulusSet(
        name="language",
        items=[f"The dog number {index} ran home." for index in range(40)]
        + [f"dralp sniv {index} torb wug." for index in range(40)],
        conditions=["sentences"] * 40 + ["nonwords"] * 40,
        runs=["odd", "even"] * 40,
        source="Written for the tests.",
        licence="CC0",
    )


def responses(*, smooth: bool, effect: float, seed: int, sites: list[str] = SITES) -> dict[str, Responses]:
    """Noise over units and items, smoothed over the sheet if asked, with a planted preference for sentences."""
    rng, shown, found = np.random.default_rng(seed), stimuli(), {}
    for site in sites:
        noise = rng.normal(size=(len(shown), SIDE, SIDE))
        preference = rng.normal(size=(SIDE, SIDE))
        if smooth:
            noise = gaussian_filter(noise, (0, 1.5, 1.5), mode="reflect")
            preference = gaussian_filter(preference, 1.5, mode="reflect")
        values = noise / noise.std() + effect * np.equal(shown.conditions, "sentences")[:, None, None] * (
            preference / preference.std()
        )
        found[site] = Responses(
            site,
            values.reshape(len(shown), -1),
            grid((SIDE, SIDE), site),
            shown,
            n_tokens=rng.integers(5, 9, len(shown)),
            provenance={"model": "TopoLMForCausalLM", "pooling": "mean"},
        )
    return found


def write_run(folder: Path, *, weight: float, summaries: list[MapSummary]) -> Path:
    """A finished run as training and mapping leave it."""
    folder.mkdir(parents=True)
    config = {
        "run": str(folder),
        "overwrite": False,
        "model": {"preset": "demo", "pretrained": None, "seed": 0, "layout_seed": None},
        "data": {"text": "movie-reviews", "sequence_length": 64, "seed": 42},
        "spatial": {"weight": weight, "sites": None, "radius": 5},
        "training": {"max_steps": 400, "batch_size": 16, "betas": [0.9, 0.95], "seed": 42},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    corpus = {"text": "movie-reviews", "source": "the package movie-reviews 1.0", "licence": "as the package says"}
    corpus |= {"text_sha256": "ab" * 32, "tokens": {"train": 1960000, "validation": 40000}}
    corpus |= {"documents": {"train": 9800, "validation": 200}}
    record = {
        "status": "finished",
        "started": "2030-01-01T10:00:00+00:00",
        "finished": "2030-01-01T10:02:30+00:00",
        "stopped_early": False,
        "wall_time_s": 150.4,
        "steps": 400,
        "tokens_seen": 409600,
        "eval_loss": 5.1 + weight,
        "model": "TopoLMForCausalLM",
        "n_parameters": 1234567,
        "corpus": corpus,
        "seeds": {"data": 42, "training": 42},
        "versions": {"topographic": "0.1.0", "python": "3.11.2", "torch": "2.13.0"},
        "git_commit": "0123456789abcdef",
        "n_processes": 1,
        "device": "cpu (2 cores)",
        "resumed": [],
    }
    (folder / "run.json").write_text(json.dumps(record))
    rng = np.random.default_rng(int(weight * 100))
    with open(folder / "metrics.jsonl", "w") as opened:
        for step in range(10, 401, 10):
            task = 4 * np.exp(-step / 90) + 5 + weight / 4
            line = {"step": step, "loss": task, "task_loss": task + rng.normal() * 0.05}
            if weight:
                spatial = 0.5 - 0.4 * (1 - np.exp(-step / 80)) + rng.normal(size=len(SITES)) * 0.02
                line |= {f"spatial/{site}": value for site, value in zip(SITES, spatial, strict=True)}
                line |= {"spatial_loss": weight * spatial.sum(), "loss": task + weight * spatial.sum()}
            opened.write(json.dumps(line) + "\n")
            if step % 100 == 0:
                opened.write(json.dumps({"step": step, "eval_loss": task + 0.1}) + "\n")
    (folder / "model").mkdir()
    for summary in summaries:
        kept = summary.save(folder / "maps", nulls=False)
        stimuli().save(kept / "stimuli.json")
    return folder


@pytest.fixture(scope="session")
def measured() -> dict[str, MapSummary]:
    """The maps of both models; the smooth one also tells sentences from nonwords."""
    options = {"condition": "sentences", "baseline": "nonwords", "n_draws": 60}
    return {
        "topographic": summarize(responses(smooth=True, effect=0.8, seed=1), **options),
        "control": summarize(responses(smooth=False, effect=0.3, seed=2), **options),
    }


@pytest.fixture(scope="session")
def run_folders(tmp_path_factory: pytest.TempPathFactory, measured: dict[str, MapSummary]) -> list[Path]:
    """Both runs; tests that change one make a copy."""
    folder = tmp_path_factory.mktemp("runs") / "demo"
    return [
        write_run(folder / "topographic", weight=0.25, summaries=[measured["topographic"]]),
        write_run(folder / "control", weight=0.0, summaries=[measured["control"]]),
    ]


@pytest.fixture
def no_ink(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made but not rendered, which is what takes the time."""
    monkeypatch.setattr(sections, "data_uri", lambda figure, kind: f"data:image/{kind};base64,")
