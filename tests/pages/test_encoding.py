from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from topographic.brain import StoryEncoding
from topographic.pages.encoding import write_encoding

pytest.importorskip("jinja2", reason="needs the extra topographic[report]")
pytest.importorskip("matplotlib", reason="needs the extra topographic[report]")
SCORES = ("r", "r untrained", "r random tokens", "r controls", "r both", "R2 added by the layer")


@pytest.fixture
def encoding():
    def make(n_targets=3, vertex_r=None):
        layers = pd.DataFrame({
            "layer": ["wte", "h.0 <b>"],
            "depth": [0.0, 1.0],
            **{name: [0.1, 0.2] for name in SCORES},
        })
        layers["share with q <= .05"] = [0.0, 0.5]
        targets = pd.DataFrame({"target": [f"parcel {one}" for one in range(n_targets)], "p": 0.005, "q": 0.01})
        targets = targets.assign(**{name: np.linspace(0, 0.4, n_targets) for name in SCORES})
        targets.loc[0, "r"] = np.nan
        about = {
            "data": "a subject",
            "tested": f"{n_targets} parcels",
            "controls": ["word rate"],
            "draws": 199,
            "delays": [1, 2],
        }
        alone = pd.DataFrame({"feature": ["word rate", "static vectors"], "columns": [4, 200], "r": [0.125, -0.031]})
        return StoryEncoding(layers, alone, targets, "h.0 <b>", vertex_r, {}, ("2 targets are constant",), about)

    return make


def test_the_page_says_what_was_found_and_by_what_it_stands(encoding, tmp_path):
    page = write_encoding(tmp_path / "index.html", encoding(), "a model & a subject").read_text()
    assert "a model &amp; a subject" in page
    assert "h.0 &lt;b&gt; (shown below)" in page
    assert "best of 2 layers on these very data" in page
    assert "2 targets are constant" in page
    assert "static vectors" in page
    assert "\u22120.031" in page
    assert "On the surface" not in page
    assert "nan" not in page.split("<main>")[1].replace("&nbsp;", "")


def test_layers_of_a_speech_encoder_have_a_section(encoding, tmp_path):
    made = encoding()
    heard = made.layers.drop(columns="r random tokens").assign(layer=["proj", "block"], r=[0.3, 0.456])
    assert "speech encoder" not in write_encoding(tmp_path / "index.html", made, "title").read_text()
    page = write_encoding(tmp_path / "index.html", replace(made, speech=heard), "title").read_text()
    section = page.split('<section id="speech">')[1].split("</section>")[0]
    assert "0.456" in section
    assert "random tokens" not in section
    assert "loudness of the sound" in section


def test_long_tables_are_cut_and_surfaces_drawn(encoding, tmp_path):
    pytest.importorskip("nilearn", reason="needs the extra topographic[brain]")
    values = np.random.default_rng(0).normal(size=20484)
    page = write_encoding(tmp_path / "index.html", encoding(100, values), "title").read_text()
    assert "40 targets of smaller r are in targets.csv" in page
    assert page.count("hemisphere</h3>") == 2
