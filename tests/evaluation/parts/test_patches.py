"""Lesions by size and steering of a rebased model, beside their controls."""

import dataclasses

import numpy as np
import pytest

from topographic.evaluation import Choices, NotMeasurable
from topographic.evaluation.parts.patches import patch_lesions, patch_steering
from topographic.recording import weights_checksum


def test_lesions_of_every_size_stand_beside_patches_that_remove_as_much(turned_subject):
    before = weights_checksum(turned_subject.model)
    found = patch_lesions(
        turned_subject, Choices(lesion_fractions=(0.06, 0.2), quick=True, lesion_draws=3, lesion_pairs=1)
    )
    assert weights_checksum(turned_subject.model) == before
    rows = found["patch_lesions"].rows
    measured = {row["size"] for row in rows}
    assert len(measured) + len(found.notes) == 1, "a quick look has one size"
    for row in rows:
        assert row["site"] == "transformer.h.1.sheet"
        assert row["kind"] in ("intact", "lesion", "connected")
    if rows:
        assert {"perplexity", "accuracy", "noun prediction", "verb prediction"} <= {row["measure"] for row in rows}
        values = {(row["measure"], row["kind"]): row["value"] for row in rows}
        assert values["perplexity", "lesion"] != values["perplexity", "intact"]


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
    silent = {
        site: dataclasses.replace(one, values=np.zeros_like(one.values))
        for site, one in turned_subject.recorded("localizer").items()
    }
    turned_subject._recorded[turned_subject.recording_key("localizer")] = silent
    with pytest.raises(NotMeasurable, match="no unit responds more to"):
        patch_lesions(turned_subject, Choices(quick=True))
