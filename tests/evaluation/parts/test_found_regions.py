"""Regions found in passages without labels: planted topics, noise, and texts that say nothing."""

import numpy as np
import pytest

from topographic.evaluation import Choices
from topographic.evaluation.parts.found_regions import found_regions
from topographic.recording import Responses

SITE = "transformer.h.1.sheet"
FEW = Choices(n_draws=199)


@pytest.fixture
def respond(turned_subject, passages, topics, show, plant):
    """A subject that read them; places 0 to 5 answer to a share of what is said about music."""

    def responding(strength):
        subject = show(turned_subject, text=str(passages))
        shown = subject.stimuli("text")
        values = np.random.default_rng(1).standard_normal((len(shown), 36))
        values[np.ix_(["music" in one or "violin" in one or "drums" in one for one in shown.items], range(6))] += (
            strength
        )
        return plant(subject, text={SITE: Responses(SITE, values, subject.sheets[SITE], shown, np.full(len(shown), 7))})

    return responding


def test_a_planted_region_is_found_and_named(respond, topics):
    subject = respond(2.0)
    assert len(subject.stimuli("text")) == 150, "what stands there twice is one passage"
    found = found_regions(subject, FEW)
    row = found["regions"].rows[0]
    assert set(row["words"].split(", ")) & set(topics["music"].split())
    assert row["d"] > 1 > 0.4 > abs(row["d elsewhere"])
    assert row["p (corrected)"] == 0.005
    assert found.selections["region_1"].mask[:6].sum() >= 4
    assert row["mass"] > row["mass on control"]
    (unit_map,) = found.maps.values()
    assert set(np.flatnonzero(unit_map.values)) == set(np.flatnonzero(found.selections["region_1"].mask))
    assert found.pictures


def test_noise_has_no_region(respond):
    found = found_regions(respond(0.0), FEW)
    assert not found["regions"].rows
    assert not found.selections
    assert not found.pictures
