"""The lines that a notebook begins with, on tiny models."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import ResNetConfig, ResNetForImageClassification

import topographic as tg
from topographic.recording import Preparation
from topographic.stimuli import category_images

N_DRAWS = 19


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return tg.load(tiny_model)


@pytest.fixture(scope="module")
def maps(loaded):
    return tg.contrast(*loaded, "sentences", "nonwords", n_draws=N_DRAWS)


def test_a_model_becomes_maps_with_nulls_corrected_over_all_sites(loaded, maps):
    model, tokenizer = loaded
    assert list(maps) == list(model.sheets())
    by_hand = tg.record(model, tokenizer, tg.load_localizer("language"), progress=False)
    one_by_one = {site: tg.t_map(one, "sentences", "nonwords", n_draws=N_DRAWS) for site, one in by_hand.items()}
    for site, corrected in tg.control_fdr(one_by_one).items():
        assert np.array_equal(maps[site].values, corrected.values)
        assert np.array_equal(maps[site].q, corrected.q)
        assert np.array_equal(maps[site].nulls["label"], corrected.nulls["label"])
        assert maps[site].provenance["stimuli"]["name"] == "language", "which set was shown"


def test_what_a_notebook_shows_is_short_and_a_picture(maps, monkeypatch):
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)  # other tests may have brought it
    site = "transformer.h.0.mlp_sheet"
    for shown in (maps, maps[site], tg.morans_i(maps), tg.select(maps[site]), tg.clusters(maps, threshold=0.1)):
        assert "\n" not in repr(shown)
        assert len(repr(shown)) < 400
    for shown in (maps, maps[site]):
        assert shown._repr_png_().startswith(b"\x89PNG")
        assert "<img" in shown._repr_html_()
    assert maps[site].plot().get_title() == site
    figure = maps.plot()
    assert len(figure.axes) >= len(maps) + 1, "a picture of every sheet, and one colour bar"
    assert "matplotlib.pyplot" not in sys.modules, "no window, no setting of the session is touched"


def test_tables_stand_beside_their_nulls(maps):
    frame = maps.to_frame()
    assert list(frame["site"]) == list(maps)
    assert {"mean |value|", "unit null", "p (label)", "share q < 0.05"} <= set(frame)
    numbers = tg.morans_i(maps)
    table = numbers.to_frame()
    assert list(table["Moran's I"]) == [tg.morans_i(one).value for one in maps.values()]
    assert (table["q (unit)"] >= table["p (unit)"]).all()
    assert numbers.mean().unit_null.n_draws == N_DRAWS


def test_a_mapping_is_taken_wherever_one_map_is(loaded, maps):
    model, tokenizer = loaded
    ids = tokenizer("the dog runs", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        intact = model(ids).logits
        with tg.ablate(model, tg.select_top(maps, 0.1)):
            assert not torch.equal(model(ids).logits, intact)
        with tg.ablate(model, tg.clusters(maps, threshold=0.1, min_units=2)[0]):
            assert not torch.equal(model(ids).logits, intact)
        with tg.drive(model, tg.select_top(maps, 0.1), direction=maps, strength=2.0):
            assert not torch.equal(model(ids).logits, intact)
        assert torch.equal(model(ids).logits, intact)
    found = tg.clusters(maps, threshold=0.1, min_units=2)
    alone = [one for unit_map in maps.values() for one in tg.clusters(unit_map, threshold=0.1, min_units=2)]
    assert sorted(one.provenance["mass"] for one in alone)[::-1] == [one.provenance["mass"] for one in found]


def test_an_evaluation_stays_in_memory_and_can_be_saved(loaded, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fast = {"fwhm_mm": (0.0,), "n_draws": N_DRAWS, "lesion_draws": 1, "lesion_pairs": 1, "pairs_per_paradigm": 2}
    results = tg.evaluate(*loaded, suite="topolm", quick=True, progress=False, **fast)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""
    assert len(results["lesions"].to_frame())
    assert set(results.to_frame()["part"]) == set(results)
    assert "<table" in results._repr_html_()
    results.save(tmp_path / "kept")
    assert (tmp_path / "kept" / "evaluation.json").is_file()
    with pytest.raises(TypeError, match=r"no choice 'lesion_drawz'; expected some of .*lesion_draws"):
        tg.evaluate(*loaded, lesion_drawz=3)


def test_a_cell_that_is_interrupted_leaves_the_model_as_it_was(loaded, monkeypatch):
    model, tokenizer = loaded
    before = {name: vars(module).get("forward") for name, module in model.named_modules()}
    calls = []

    def interrupt(*_, **__):
        calls.append(1)
        raise KeyboardInterrupt

    handle = model.get_input_embeddings().register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        tg.contrast(model, tokenizer, "sentences", "nonwords", n_draws=0)
    handle.remove()
    assert calls
    assert {name: vars(module).get("forward") for name, module in model.named_modules()} == before


@pytest.mark.parametrize("of", ["file", "frame", "set"])
def test_stimuli_of_ones_own(loaded, tmp_path, of):
    words = [f"{word} {other}" for word in ("the dog", "a cat", "his house") for other in ("runs", "is red", "was")]
    frame = pd.DataFrame({
        "text": words,
        "condition": ["a", "b", "b"] * 3,
        "run": [str(number % 2) for number in range(9)],
        "length": [len(word) for word in words],
    })
    frame.to_csv(tmp_path / "my.csv", index=False)
    mine = {"file": tmp_path / "my.csv", "frame": frame, "set": tg.stimuli(frame)}[of]
    shown = tg.stimuli(mine)
    assert shown.condition_names == ("a", "b")
    assert shown.runs == tuple(frame["run"])
    assert list(shown.labels) == ["length"]
    maps = tg.contrast(*loaded, "a", "b", stimuli=mine, sites="attn", n_draws=9)
    assert len(maps) == 2
    assert next(iter(maps.values())).provenance["stimuli"]["name"] == shown.name


def test_a_contrast_nobody_has_is_refused(loaded):
    with pytest.raises(
        ValueError, match=r"no stimulus set that ships has the conditions 'cats', 'dogs'; there are lang"
    ):
        tg.contrast(*loaded, "cats", "dogs")


def test_a_vision_model_is_mapped_likewise(image_folders):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 9], depths=[1, 1], layer_type="basic", num_channels=1)
        model = ResNetForImageClassification(config).eval()
    images = category_images(4, folders=image_folders)
    maps = tg.contrast(model, Preparation(), "faces", "objects", stimuli=images, n_draws=9)
    assert len(maps) == 4, "every convolution of the blocks"
    with pytest.raises(ValueError, match=r"the stimuli are texts and the reader .* of a vision model; give both"):
        tg.contrast(model, Preparation(), "sentences", "nonwords", stimuli=tg.load_localizer())


def test_the_front_door_is_light_and_lists_what_it_has():
    told = (
        "import time; begun = time.perf_counter(); import topographic as tg; took = time.perf_counter() - begun\n"
        "import sys\n"
        "heavy = {'torch', 'numpy', 'pandas', 'transformers', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert took < 0.2 or 'numpy' not in sys.modules, took\n"
        "assert {'load', 'contrast', 'stimuli', 'sites', 'UnitMap'} <= set(dir(tg)) & set(tg.__all__)\n"
        "assert tg.grid(4).n_units == 4\n"
        "import topographic.stimuli\n"
        "assert callable(tg.stimuli) and tg.stimuli.load_localizer is tg.load_localizer\n"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", tg.__all__)
def test_every_door_opens(name):
    found = getattr(tg, name)
    assert found.__doc__
    with pytest.raises(AttributeError, match="no attribute 'trane'; dir"):
        _ = tg.trane
