import dataclasses

import numpy as np
import pytest

from topographic.evaluation.parts.words import selectivity, word_classes, word_contrasts
from topographic.evaluation.subject import Choices
from topographic.maps import morans_i, t_map
from topographic.recording import Responses
from topographic.sheets import permuted_grid
from topographic.stimuli import load_localizer

SHEETS = {f"h.{layer}.mlp": permuted_grid((9, 9), f"h.{layer}.mlp") for layer in range(2)}
CELLS = SHEETS["h.1.mlp"].positions_mm.numpy()
PATCH = (CELLS[:, 0] < 4) & (CELLS[:, 1] < 4)


@pytest.fixture
def bench(tiny_bench):
    """Noise, but for a patch in layer 1 that prefers concrete nouns to all other words."""
    rng, stimuli = np.random.default_rng(0), load_localizer("nouns_verbs")
    concrete_noun = (np.array(stimuli.conditions) == "noun") & (np.array(stimuli.labels["concreteness"]) == "concrete")
    responses = {}
    for site, sheet in SHEETS.items():
        values = rng.standard_normal((160, 81))
        if site == "h.1.mlp":
            values += 2.0 * np.outer(concrete_noun, PATCH)
        responses[site] = Responses(site, values, sheet, stimuli, rng.integers(1, 4, 160))
    return dataclasses.replace(tiny_bench, layout=SHEETS, sites=list(SHEETS), _recorded={stimuli.checksum: responses})


def test_the_contrasts_of_the_paper(bench):
    contrasts = word_contrasts(bench)
    assert list(contrasts) == [
        "noun - verb",
        "concrete noun - concrete verb",
        "abstract noun - abstract verb",
        "abstract - concrete",
    ]
    shown = {name: one.responses["h.0.mlp"].stimuli for name, one in contrasts.items()}
    assert set(shown["concrete noun - concrete verb"].labels["concreteness"]) == {"concrete"}
    assert len(shown["abstract noun - abstract verb"]) == 80
    swapped = shown["abstract - concrete"]
    assert swapped.items == shown["noun - verb"].items
    assert swapped.conditions == shown["noun - verb"].labels["concreteness"]
    assert swapped.labels["class"] == shown["noun - verb"].conditions
    values = contrasts["abstract - concrete"].responses["h.0.mlp"].values
    np.testing.assert_array_equal(values, bench.recorded("words")["h.0.mlp"].values)


def test_the_planted_preference_is_found_where_it_is(bench):
    choices = Choices(fwhm_mm=(0.0, 2.0), n_draws=39)
    found = word_classes(bench, choices)
    means, depth = (table.rows for table in found.tables)
    at = {(row["contrast"], row["FWHM (mm)"], row["sheet"]): row for row in depth}
    here = at["concrete noun - concrete verb", 0.0, "layer 1 mlp"]
    assert (here["clusters (first)"], here["clusters (second)"]) == (1, 0)
    assert here["mass (first)"] > 20
    assert here["p (unit)"] == here["p (label)"] == 1 / 40
    assert at["concrete noun - concrete verb", 0.0, "layer 0 mlp"]["clusters (first)"] == 0
    assert at["abstract noun - abstract verb", 0.0, "layer 1 mlp"]["clusters (first)"] == 0
    assert at["abstract - concrete", 0.0, "layer 1 mlp"]["clusters (second)"] == 1, "the patch prefers concrete words"
    one = bench.recorded("words")["h.1.mlp"]
    expected = morans_i(t_map(one, "noun", "verb", fwhm_mm=2.0, n_draws=39, seed=0))
    row = at["noun - verb", 2.0, "layer 1 mlp"]
    assert (row["I"], row["floor"]) == (expected.value, expected.floor.mean)
    assert (row["unit null"], row["p (label)"]) == (expected.unit_null.mean, expected.label_null.p)
    by_name = {(row["contrast"], row["FWHM (mm)"]): row for row in means}
    mean = by_name["concrete noun - concrete verb", 0.0]
    values = [at["concrete noun - concrete verb", 0.0, f"layer {layer} mlp"]["I"] for layer in range(2)]
    assert mean["I"] == pytest.approx(np.mean(values))
    assert (mean["TopoLM (published)"], mean["control (published)"]) == (0.8039, 0.1111)
    assert by_name["abstract noun - abstract verb", 2.0]["TopoLM (published)"] == 0.7039
    assert mean["clusters (first)"] == 1
    for name in ("clusters (first)", "mass (first)", "clusters (second)", "mass (second)"):
        here = [at["noun - verb", 0.0, f"layer {layer} mlp"][name] for layer in range(2)]
        assert by_name["noun - verb", 0.0][name] == pytest.approx(sum(here)), "a total, as the note says"
    assert found.tables[0].note.startswith("Clusters and their mass are totals over all sheets, not means. ")
    assert len(found.pictures) == 2 * (4 + 1)


def test_other_widths_have_no_published_value(bench):
    found = word_classes(bench, Choices(fwhm_mm=(1.5,), n_draws=19))
    assert all(row["TopoLM (published)"] is None for row in found.tables[0].rows)


def test_selectivity_adds_the_language_contrast_and_no_published_columns(bench):
    choices = Choices(fwhm_mm=(0.0,), n_draws=19)
    localizer = load_localizer("language")
    sentences = np.array(localizer.conditions) == "sentences"
    rng, language = np.random.default_rng(1), {}
    for site, sheet in SHEETS.items():
        values = rng.standard_normal((240, 81)) + 2.0 * np.outer(sentences, PATCH) * (site == "h.1.mlp")
        language[site] = Responses(site, values, sheet, localizer, rng.integers(5, 9, 240))
    recorded = {**bench._recorded, localizer.checksum: language}
    found = selectivity(dataclasses.replace(bench, _recorded=recorded), choices)
    means, depth = (table.rows for table in found.tables)
    words = word_classes(bench, choices).tables[0].rows
    assert [row["contrast"] for row in means] == ["sentences - nonwords", *(row["contrast"] for row in words)]
    for row, other in zip(means[1:], words, strict=True):
        assert row == {key: cell for key, cell in other.items() if "published" not in key}
    rough, planted = (row for row in depth if row["contrast"] == "sentences - nonwords")
    assert (planted["sheet"], planted["clusters (first)"], planted["p (unit)"]) == ("layer 1 mlp", 1, 1 / 20)
    assert rough["clusters (first)"] == 0


def test_phrases_come_first_where_they_are(tiny_bench, shared):
    published = dataclasses.replace(tiny_bench, stimuli_folder=str(shared / "data" / "stimuli"))
    contrasts = word_contrasts(published)
    assert list(contrasts)[:2] == ["noun - verb (phrases)", "noun - verb"]
    phrases = next(iter(contrasts["noun - verb (phrases)"].responses.values()))
    assert len(phrases.stimuli) == 576
    words = next(iter(contrasts["concrete noun - concrete verb"].responses.values()))
    assert len(words.stimuli) == 80
