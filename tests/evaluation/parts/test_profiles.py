import dataclasses

import numpy as np
import pytest

from topographic.evaluation import Choices
from topographic.evaluation.parts.profiles import language_profiles

CHOICES = Choices(fwhm_mm=(0.0, 2.0), n_draws=39)


def test_profiles_are_those_of_the_other_half(language):
    found = language_profiles(language.subject(language.planted()), CHOICES)
    orderings, rows = (table.rows for table in found.tables)
    counts = {(row["FWHM (mm)"], row["order"]): row for row in orderings}
    assert counts[0.0, "S>W>J>N"]["clusters"] == 2
    assert counts[0.0, "S>W>N>J"]["clusters"] == 0
    assert counts[0.0, "S>W>N>J"]["clusters of 53 (published)"] == 37
    network = {row["condition"]: row for row in rows if row["units"] == "q < .05 and t > 0" and row["FWHM (mm)"] == 0}
    assert list(network) == list(language.strength)
    for condition, row in network.items():
        assert row["mean"] == pytest.approx(language.strength[condition], abs=0.35)
        assert row["low"] < row["mean"] < row["high"]
        assert row["n_items"] == 30, "only the half that did not choose the units"
    magnitudes = [row for row in rows if row["absolute"] and row["FWHM (mm)"] == 2]
    assert [row["TopoLM (published)"] for row in magnitudes] == [0.3462, 0.3346, 0.25, 0.26]
    assert {row["units"] for row in rows if "cluster" in row["units"]} >= {
        "layer 0 attn, cluster 1",
        "layer 1 attn, cluster 1",
    }
    assert [picture.name for picture in found.pictures] == ["network_fwhm_0", "network_fwhm_2"]


def test_an_empty_network_has_no_profile_and_says_so(language):
    still = {
        site: dataclasses.replace(one, values=np.ones_like(one.values)) for site, one in language.planted().items()
    }
    found = language_profiles(language.subject(still), Choices(fwhm_mm=(0.0,)))
    assert found.notes == [
        "q < .05 and t > 0, FWHM 0 mm: no unit, so no profile.",
        "top 1 % of all units, FWHM 0 mm: no unit, so no profile.",
        "Cohen's d > 0.8, FWHM 0 mm: no unit, so no profile.",
    ]
    assert found.tables[1].rows == []
    assert found.pictures == []
