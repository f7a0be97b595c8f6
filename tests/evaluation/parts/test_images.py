import dataclasses

import numpy as np
import pytest

from topographic.evaluation.parts.images import image_selectivity
from topographic.evaluation.subject import Choices
from topographic.maps import summarize, t_map
from topographic.recording import Responses, low_level_responses
from topographic.sheets import grid
from topographic.stimuli import CATEGORY_CONTRASTS

CHOICES = Choices(fwhm_mm=(0.0,), n_draws=19)


@pytest.fixture
def planted(image_bench):
    """Noise, but for a patch that prefers intact faces to everything else, scrambled faces included."""
    stimuli, sheet = image_bench.categories.stimuli, grid((12, 12), "fc1")
    patch = ((sheet.positions_mm[:, 0] < 4) & (sheet.positions_mm[:, 1] < 4)).numpy()
    values = np.random.default_rng(0).standard_normal((len(stimuli), 144))
    values += 6 * np.outer(np.array(stimuli.conditions) == "faces", patch)
    recorded = {"categories": {"fc1": Responses("fc1", values, sheet, stimuli)}}
    return dataclasses.replace(image_bench, _recorded=recorded)


def test_a_planted_preference_is_found_and_is_not_in_the_images(planted):
    found = image_selectivity(planted, CHOICES)
    means, images, depth = (table.rows for table in found.tables)
    by_name = {row["contrast"]: row for row in means}
    assert list(by_name) == [name for name in CATEGORY_CONTRASTS if not name.startswith("scrambled")]
    faces = by_name["faces"]
    assert faces["p (unit)"] == faces["p (label)"] == 1 / 20
    assert (faces["clusters (first)"], faces["clusters (second)"]) == (1, 0)
    assert by_name["animate-inanimate"]["clusters (first)"] == 0
    strength = {row["contrast"]: row for row in images}
    responses = planted.recorded("categories")
    for name in ("faces", "animate-inanimate"):
        row = strength[name]
        intact = summarize(responses, *CATEGORY_CONTRASTS[name], n_draws=19).mean_abs_t
        scrambled = summarize(responses, *CATEGORY_CONTRASTS[f"scrambled {name}"], n_draws=0).mean_abs_t
        low_level = summarize(low_level_responses(planted.categories), *CATEGORY_CONTRASTS[name], n_draws=0).rows
        assert (row["mean |t|"], row["p (label)"]) == (pytest.approx(intact.value), intact.label_null.p)
        assert row["scrambled images"] == pytest.approx(scrambled.value)
        assert [row["pixels"], row["power spectra"]] == pytest.approx([one.mean_abs_t.value for one in low_level])
    assert strength["faces"]["mean |t|"] > 1.3 * strength["faces"]["scrambled images"]
    t = t_map(responses["fc1"], *CATEGORY_CONTRASTS["faces"]).values
    assert strength["faces"]["share of t > 5"] == pytest.approx((t > 5).mean())
    assert strength["faces"]["share of t > 5"] > 0.08
    assert strength["vehicles"]["share of t > 5"] == 0
    assert len(depth) == len(means)
    assert "faces_fwhm_0/fc1" in found.maps


def test_pictures_by_depth_have_as_many_lines_as_colours(planted):
    found = image_selectivity(planted, CHOICES)
    (picture,) = (one for one in found.pictures if one.name.startswith("depth"))
    named = [text.get_text() for text in picture.figure.axes[0].get_legend().get_texts()]
    assert named == ["faces", "objects", "characters", "animals", "vehicles", "floor"]
