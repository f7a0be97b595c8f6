import numpy as np
import pandas as pd
import pytest

from topographic.brain import StoryEncoding, group_encodings
from topographic.pages.group import write_group

pytest.importorskip("jinja2", reason="needs the extra topographic[report]")
pytest.importorskip("matplotlib", reason="needs the extra topographic[report]")


@pytest.fixture
def group():
    def make(n, *, moved=True, speech=True, slope=-0.5, seed=0):
        draw = np.random.default_rng(seed)
        encodings = {}
        for subject in range(n):
            displacement = float(draw.gamma(2.0, 0.1)) if moved else None
            tables = []
            for layers in (["wte <b>", "h.0", "h.1"], ["proj", "block"]):
                r = draw.normal(0.1, 0.01, len(layers)) + np.linspace(0, 0.1, len(layers)) + slope * (displacement or 0)
                rows = {"layer": layers, "depth": np.linspace(0, 1, len(layers)), "r": r, "r untrained": 0.02}
                rows |= {"r random tokens": 0.01} if len(layers) == 3 else {}
                tables.append(
                    pd.DataFrame({**rows, "r controls": 0.1 + r / 9, "r both": r, "R2 added by the layer": r / 10})
                )
            about = {"runs": ["a", "b"], "scans": 1260, "data": "x"}
            encodings[f"sub-{subject}"] = StoryEncoding(
                tables[0],
                pd.DataFrame(),
                pd.DataFrame(),
                "h.1",
                None,
                {},
                (),
                about,
                tables[1] if speech else None,
                displacement,
            )
        return group_encodings(encodings, n_draws=999)

    return make


def main_of(page):
    return page.read_text().split("<main>")[1]


def test_the_page_says_layers_motion_and_where_each_subject_is(group, tmp_path):
    page = write_group(
        tmp_path / "index.html",
        group(8),
        "a model & eight",
        data="stories",
        pages={"sub-0": "sub-0/index.html"},
        about={"delays": [1, 2]},
    )
    assert "a model &amp; eight" in page.read_text()
    text = main_of(page)
    assert "Over 8 subjects of stories, the layer h.1 (depth 1)" in page.read_text()
    assert "wte &lt;b&gt;" in text
    assert "Layers of the speech encoder" in text
    assert "with 8 subjects none can be below .004" in text
    assert "the loudness of the sound among" in text
    assert (
        "Over the 8 subjects with confounds, Spearman's rho of the mean r with mean framewise displacement is" in text
    )
    assert "Subjects who move less score higher" in text
    assert text.count('<a href="sub-0/index.html">sub-0</a>') == 1
    assert text.count("<img") == 4
    assert "1,260" in text
    assert "delays" in text
    assert "nan" not in text.replace("&nbsp;", "").split("<footer>")[0].split('src="data')[0]


def test_no_number_stands_where_none_can_be_told(group, tmp_path):
    text = main_of(write_group(tmp_path / "index.html", group(4), "four"))
    assert "cannot be told from 4: 5 subjects with confounds are needed." in text
    assert "This cannot be told here; the notes above say why." in text
    assert "rho" not in text
    assert text.count("<img") == 4, "the points are shown all the same"
    text = main_of(write_group(tmp_path / "index.html", group(6, moved=False, speech=False), "six"))
    assert "no subject has confounds: how much anybody moved is not known" in text
    assert text.count("<img") == 1
    assert "speech encoder" not in text
    text = main_of(write_group(tmp_path / "index.html", group(2), "two"))
    assert "none can be below" not in text
    assert "whether a mean over 2 subjects differs from 0 cannot be told: 3 are needed." in text


def test_no_relation_is_no_evidence_of_none(group, tmp_path):
    text = main_of(write_group(tmp_path / "index.html", group(6, slope=0.0, seed=1), "six"))
    assert "no evidence that these scores go with motion; with so few subjects, it is none that they do not" in text
    assert "by all orders of the subjects" in " ".join(text.split())
