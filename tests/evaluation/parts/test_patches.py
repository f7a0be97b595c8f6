"""Lesions by size and steering of a rebased model, beside their controls."""

import dataclasses

import numpy as np
import pytest

from topographic.evaluation import Choices, NotMeasurable
from topographic.evaluation.parts.patches import _regions, _word_classes, patch_lesions, patch_steering
from topographic.maps.localizer import one_stimulus_set
from topographic.maps.stability import split_half
from topographic.recording import weights_checksum


def test_lesions_of_every_size_stand_beside_patches_that_remove_as_much(turned_subject):
    before = weights_checksum(turned_subject.model)
    found = patch_lesions(
        turned_subject, Choices(lesion_fractions=(0.06, 0.2), quick=True, lesion_draws=3, lesion_pairs=1)
    )
    assert weights_checksum(turned_subject.model) == before
    rows = found["patch_lesions"].rows
    tried = len({(row["region"], row["size"]) for row in rows}) + len(found.notes)
    assert tried == 3, "a quick look has one size"
    values = {(row["region"], row["measure"], row["kind"]): row for row in rows}
    for region in {row["region"] for row in rows}:
        measures = {measure for one, measure, _ in values if one == region}
        assert {"perplexity", "accuracy", "noun prediction", "verb prediction"} <= measures
        intact, lesion, connected = (values[region, "perplexity", kind] for kind in ("intact", "lesion", "connected"))
        assert lesion["value"] != intact["value"]
        assert lesion["site"] == "transformer.h.1.sheet"
        assert connected["p (corrected)"] >= connected["p"]
    assert len(values) == len(rows)


def test_each_region_lies_where_its_own_side_is_preferred(turned_subject):
    choosers, missing = _regions(turned_subject)
    assert set(choosers) == {"sentences", "nouns", "verbs"}
    assert not missing
    nouns, verbs = choosers["nouns"].values, choosers["verbs"].values
    np.testing.assert_allclose(nouns, -verbs)
    assert nouns.argmax() != verbs.argmax()


def test_words_that_are_predicted_chose_no_unit(turned_subject):
    nouns, verbs = _word_classes(turned_subject)
    chosen_by, others = (set(one_stimulus_set(half).items) for half in split_half(turned_subject.recorded("words")))
    assert nouns
    assert verbs
    assert not chosen_by & {*nouns, *verbs}
    assert {*nouns, *verbs} <= others


def test_steering_has_a_curve_for_the_target_and_for_both_controls(turned_subject):
    found = patch_steering(turned_subject, Choices(quick=True, lesion_draws=2, lesion_pairs=1), strengths=(-3.0, 3.0))
    table = found.to_frame()
    assert set(table["kind"]) == {"target", "elsewhere", "random"}
    assert set(table["measure"]) == {"noun - verb (nats)", "perplexity"}
    assert sorted(set(table["strength"])) == [-3, 3]
    assert np.isfinite(table["value"]).all()
    target = table[(table["kind"] == "target") & (table["measure"] == "noun - verb (nats)")]
    assert (target["change"] != 0).all()
    beside = table[table["kind"] != "target"]
    assert beside["p"].between(1 / 3, 1).all()


def test_nothing_responds(turned_subject):
    choices = Choices(quick=True, lesion_draws=2, lesion_pairs=1)
    silence(turned_subject, "words")
    found = patch_lesions(turned_subject, choices)
    assert [note.partition(":")[0] for note in found.notes if "no unit responds more to" in note] == ["nouns", "verbs"]
    silence(turned_subject, "localizer")
    with pytest.raises(NotMeasurable, match=r"sentences: no unit responds more to .*; nouns: .*; verbs: "):
        patch_lesions(turned_subject, choices)


def silence(subject, role):
    subject._recorded[subject.recording_key(role)] = {
        site: dataclasses.replace(one, values=np.zeros_like(one.values)) for site, one in subject.recorded(role).items()
    }
