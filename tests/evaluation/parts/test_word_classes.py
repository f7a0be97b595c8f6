import numpy as np
import pytest

from topographic.evaluation import Choices
from topographic.evaluation.parts.word_classes import word_classes, word_contrasts
from topographic.maps import morans_i, t_map


@pytest.fixture
def subject(words, plant):
    return plant(words.subject, words=words.responses)


def test_the_contrasts_of_the_paper(subject):
    contrasts = word_contrasts(subject)
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
    np.testing.assert_array_equal(values, subject.recorded("words")["h.0.mlp"].values)


def test_the_planted_preference_is_found_where_it_is(subject):
    choices = Choices(fwhm_mm=(0.0, 2.0), n_draws=39)
    found = word_classes(subject, choices)
    means, depth = (table.rows for table in found.tables)
    at = {(row["contrast"], row["FWHM (mm)"], row["sheet"]): row for row in depth}
    here = at["concrete noun - concrete verb", 0.0, "layer 1 mlp"]
    assert (here["clusters (first)"], here["clusters (second)"]) == (1, 0)
    assert here["mass (first)"] > 20
    assert here["p (unit)"] == here["p (label)"] == 1 / 40
    assert at["concrete noun - concrete verb", 0.0, "layer 0 mlp"]["clusters (first)"] == 0
    assert at["abstract noun - abstract verb", 0.0, "layer 1 mlp"]["clusters (first)"] == 0
    assert at["abstract - concrete", 0.0, "layer 1 mlp"]["clusters (second)"] == 1, "the patch prefers concrete words"
    one = subject.recorded("words")["h.1.mlp"]
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


def test_other_widths_have_no_published_value(subject):
    found = word_classes(subject, Choices(fwhm_mm=(1.5,), n_draws=19))
    assert all(row["TopoLM (published)"] is None for row in found.tables[0].rows)


def test_phrases_come_first_where_they_are(tiny_subject, show, shared):
    published = show(tiny_subject, stimuli=str(shared / "data" / "stimuli"))
    contrasts = word_contrasts(published)
    assert list(contrasts)[:2] == ["noun - verb (phrases)", "noun - verb"]
    phrases = next(iter(contrasts["noun - verb (phrases)"].responses.values()))
    assert len(phrases.stimuli) == 576
    words = next(iter(contrasts["concrete noun - concrete verb"].responses.values()))
    assert len(words.stimuli) == 80
