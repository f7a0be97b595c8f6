import numpy as np
import pytest

from topographic.evaluation import Choices
from topographic.evaluation.parts.selectivity import category_selectivity, language_selectivity
from topographic.evaluation.parts.word_classes import word_classes
from topographic.maps import summarize, t_map
from topographic.recording import Responses, low_level_responses
from topographic.sheets import grid
from topographic.stimuli import CATEGORY_CONTRASTS, load_localizer

CHOICES = Choices(fwhm_mm=(0.0,), n_draws=19)


@pytest.fixture
def planted(image_subject, plant):
    """Noise, but for a patch that prefers intact faces to everything else, scrambled faces included."""
    stimuli, sheet = image_subject.categories.stimuli, grid((12, 12), "fc1")
    patch = ((sheet.positions_mm[:, 0] < 4) & (sheet.positions_mm[:, 1] < 4)).numpy()
    values = np.random.default_rng(0).standard_normal((len(stimuli), 144))
    values += 6 * np.outer(np.array(stimuli.conditions) == "faces", patch)
    return plant(image_subject, categories={"fc1": Responses("fc1", values, sheet, stimuli)})


def test_a_planted_preference_is_found_and_is_not_in_the_images(planted):
    found = category_selectivity(planted, CHOICES)
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


def test_the_language_contrast_is_added_and_no_published_columns(words, plant):
    choices = Choices(fwhm_mm=(0.0,), n_draws=19)
    localizer = load_localizer("language")
    sentences = np.array(localizer.conditions) == "sentences"
    rng, language = np.random.default_rng(1), {}
    for site, sheet in words.sheets.items():
        values = rng.standard_normal((240, 81)) + 2.0 * np.outer(sentences, words.patch) * (site == "h.1.mlp")
        language[site] = Responses(site, values, sheet, localizer, rng.integers(5, 9, 240))
    found = language_selectivity(plant(words.subject, words=words.responses, localizer=language), choices)
    means, depth = (table.rows for table in found.tables)
    of_words = word_classes(plant(words.subject, words=words.responses), choices).tables[0].rows
    assert [row["contrast"] for row in means] == ["sentences - nonwords", *(row["contrast"] for row in of_words)]
    for row, other in zip(means[1:], of_words, strict=True):
        assert row == {key: cell for key, cell in other.items() if "published" not in key}
    rough, planted = (row for row in depth if row["contrast"] == "sentences - nonwords")
    assert (planted["sheet"], planted["clusters (first)"], planted["p (unit)"]) == ("layer 1 mlp", 1, 1 / 20)
    assert rough["clusters (first)"] == 0
