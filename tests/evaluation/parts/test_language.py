import dataclasses

import numpy as np
import pytest

from topographic.evaluation.parts.language import (
    language_clusters,
    language_network,
    language_profiles,
    significant_clusters,
)
from topographic.evaluation.subject import Choices
from topographic.maps import t_map
from topographic.recording import Responses
from topographic.sheets import permuted_grid
from topographic.stimuli import load_localizer

STRENGTH = {"sentences": 3.0, "words": 2.0, "jabberwocky": 1.0, "nonwords": 0.0}
SHEETS = {f"h.{layer}.attn": permuted_grid((10, 10), f"h.{layer}.attn") for layer in range(2)}
# a patch of 4 x 4 units on each sheet
PATCHES = {
    site: ((sheet.positions_mm[:, 0] < 4) & (sheet.positions_mm[:, 1] >= 6)).numpy() for site, sheet in SHEETS.items()
}


def planted(*, gap=2, strength=STRENGTH):
    """Responses of two sheets to our localizer: each patch responds S > W > J > N, the rest is noise."""
    rng, stimuli = np.random.default_rng(0), load_localizer("language")
    nonwords = np.isin(stimuli.conditions, ["jabberwocky", "nonwords"])
    n_tokens = rng.integers(8, 13, len(stimuli)) + gap * nonwords
    effect = np.array([strength[condition] for condition in stimuli.conditions])
    return {
        site: Responses(
            site, rng.standard_normal((240, 100)) + np.outer(effect, PATCHES[site]), sheet, stimuli, n_tokens
        )
        for site, sheet in SHEETS.items()
    }


def bench_of(tiny_bench, responses):
    checksum = load_localizer("language").checksum
    return dataclasses.replace(tiny_bench, layout=SHEETS, sites=list(SHEETS), _recorded={checksum: responses})


CHOICES = Choices(fwhm_mm=(0.0, 2.0), n_draws=39)


def test_the_network_is_found_stable_and_beside_the_published_share(tiny_bench):
    found = language_network(bench_of(tiny_bench, planted()), CHOICES)
    rules, sheets = (table.rows for table in found.tables)
    by_rule = {(row["rule"], row["length"]): row for row in rules}
    q = by_rule["q < .05 and t > 0", "none"]
    assert 31 <= q["units"] <= 36, "32 were planted"
    assert q["share"] == q["units"] / 200
    assert (q["sentences"], q["strings"], q["sheets"]) == (60, 60, 2)
    assert q["Dice"] > 0.85 > 0.5 > q["Dice null"]
    assert q["p (Dice)"] == q["p (r)"] == 1 / 40
    assert (q["TopoLM (published)"], q["control (published)"]) == (0.474, 0.432)
    assert by_rule["top 1 % of all units", "none"]["units"] == 2
    assert 0 < by_rule["q < .05 and t > 0", "matched"]["sentences"] < 60
    assert {row["length"] for row in rules} == {"none", "matched", "regressed"}
    assert [row["sheet"] for row in sheets] == ["layer 0 attn", "layer 1 attn"]
    assert sum(row["units (q)"] for row in sheets) == q["units"]
    assert all(row["Dice (q)"] > 0.8 for row in sheets)
    assert [(picture.name, picture.headline) for picture in found.pictures] == [
        ("maps_fwhm_0", True),
        ("maps_fwhm_2", False),
    ]
    assert found.notes == []
    assert "nonwords 12." in found.text
    assert list(found.maps) == [f"sentences-nonwords_fwhm_{width}/{site}" for width in (0, 2) for site in SHEETS]
    assert all(one.q is not None for one in found.maps.values())
    kept = found.selections["q_length_none/h.1.attn"]
    assert (kept.mask & PATCHES["h.1.attn"]).sum() == 16
    assert len(found.selections) == 9 * 2, "rules, treatments of length, sheets"


def test_lengths_that_cannot_be_matched_are_told(tiny_bench):
    found = language_network(bench_of(tiny_bench, planted(gap=20)), Choices(fwhm_mm=(0.0,), n_draws=19))
    (note,) = found.notes
    assert note.startswith("Length matched: not possible. only 0 items of sentences (8 to 12 tokens)")
    assert {row["length"] for row in found.tables[0].rows} == {"none", "regressed"}


def test_clusters_are_counted_and_tested(tiny_bench):
    found = language_clusters(bench_of(tiny_bench, planted()), CHOICES)
    counts, tests = (table.rows for table in found.tables)
    by_method = {(row["FWHM (mm)"], row["method"]): row for row in counts}
    passed = by_method[0.0, "family-wise p <= .05"]
    assert (passed["clusters"], passed["units"]) == (2, sum(row["units"] for row in tests if row["FWHM (mm)"] == 0))
    components = by_method[0.0, "components"]
    assert (components["clusters"], components["at least"]) == (2, 10)
    assert 32 <= components["units"] <= 38
    published = by_method[2.0, "published"]
    assert (published["clusters (published)"], published["median size (published)"]) == (53, 111)
    assert "clusters (published)" not in by_method[0.0, "published"]
    assert published["units"] > components["units"], "the published rule absorbs units that fail"
    # every map that is tested is kept, and every cluster that is counted
    numbers = found.maps["clusters_components_fwhm_0/h.0.attn"]
    assert numbers.statistic == "cluster_number"
    assert set(numbers.values) == {0, 1}
    assert (numbers.values[PATCHES["h.0.attn"]] == 1).all()
    kept = [found.maps[f"clusters_components_fwhm_0/{site}"] for site in SHEETS]
    assert sum((one.values > 0).sum() for one in kept) == components["units"]
    assert sum(one.provenance["n_clusters"] for one in kept) == components["clusters"]
    assert found.maps["clusters_significant_fwhm_0/h.1.attn"].provenance["n_clusters"] == 1
    tested = found.maps["sentences-nonwords_fwhm_2/h.1.attn"]
    assert tested.sheet.is_readout
    assert tested.nulls == {}
    unsmoothed = [row for row in tests if row["FWHM (mm)"] == 0]
    assert sorted(row["sheet"] for row in unsmoothed) == ["layer 0 attn", "layer 1 attn"]
    assert all(row["p (mass)"] == 1 / 40 and 14 <= row["units"] <= 18 for row in unsmoothed)


def test_noise_has_no_significant_clusters(tiny_bench):
    """A patch that responds to everything alike."""
    alike = dict.fromkeys(STRENGTH, 2.0)
    found = language_clusters(bench_of(tiny_bench, planted(strength=alike)), Choices(fwhm_mm=(0.0,), n_draws=39))
    assert found.tables[1].rows == []
    assert found.tables[1].title == "0 clusters with family-wise p <= .05"


def test_significance_is_one_sided_and_has_a_level():
    maps = {site: t_map(one, "sentences", "nonwords", n_draws=39) for site, one in planted().items()}
    assert len(significant_clusters(maps, 3.0)) == 2
    assert significant_clusters(maps, 3.0, sign="negative") == []
    assert significant_clusters(maps, 3.0, alpha=1 / 50) == []


def test_profiles_are_those_of_the_other_half(tiny_bench):
    found = language_profiles(bench_of(tiny_bench, planted()), CHOICES)
    orderings, rows = (table.rows for table in found.tables)
    counts = {(row["FWHM (mm)"], row["order"]): row for row in orderings}
    assert counts[0.0, "S>W>J>N"]["clusters"] == 2
    assert counts[0.0, "S>W>N>J"]["clusters"] == 0
    assert counts[0.0, "S>W>N>J"]["clusters of 53 (published)"] == 37
    network = {row["condition"]: row for row in rows if row["units"] == "q < .05 and t > 0" and row["FWHM (mm)"] == 0}
    assert list(network) == list(STRENGTH)
    for condition, row in network.items():
        assert row["mean"] == pytest.approx(STRENGTH[condition], abs=0.35)
        assert row["low"] < row["mean"] < row["high"]
        assert row["n_items"] == 30, "only the half that did not choose the units"
    magnitudes = [row for row in rows if row["absolute"] and row["FWHM (mm)"] == 2]
    assert [row["TopoLM (published)"] for row in magnitudes] == [0.3462, 0.3346, 0.25, 0.26]
    assert {row["units"] for row in rows if "cluster" in row["units"]} >= {
        "layer 0 attn, cluster 1",
        "layer 1 attn, cluster 1",
    }
    assert [picture.name for picture in found.pictures] == ["network_fwhm_0", "network_fwhm_2"]


def test_an_empty_network_has_no_profile_and_says_so(tiny_bench):
    still = {site: dataclasses.replace(one, values=np.ones_like(one.values)) for site, one in planted().items()}
    found = language_profiles(bench_of(tiny_bench, still), Choices(fwhm_mm=(0.0,)))
    assert found.notes == [
        "q < .05 and t > 0, FWHM 0 mm: no unit, so no profile.",
        "top 1 % of all units, FWHM 0 mm: no unit, so no profile.",
        "Cohen's d > 0.8, FWHM 0 mm: no unit, so no profile.",
    ]
    assert found.tables[1].rows == []
    assert found.pictures == []
