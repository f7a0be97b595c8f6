from topographic.evaluation import Choices
from topographic.evaluation.parts.clusters import language_clusters

CHOICES = Choices(fwhm_mm=(0.0, 2.0), n_draws=39)


def test_clusters_are_counted_and_tested(language):
    found = language_clusters(language.subject(language.planted()), CHOICES)
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
    assert (numbers.values[language.patches["h.0.attn"]] == 1).all()
    kept = [found.maps[f"clusters_components_fwhm_0/{site}"] for site in language.sheets]
    assert sum((one.values > 0).sum() for one in kept) == components["units"]
    assert sum(one.provenance["n_clusters"] for one in kept) == components["clusters"]
    assert found.maps["clusters_significant_fwhm_0/h.1.attn"].provenance["n_clusters"] == 1
    tested = found.maps["sentences-nonwords_fwhm_2/h.1.attn"]
    assert tested.sheet.is_readout
    assert tested.nulls == {}
    unsmoothed = [row for row in tests if row["FWHM (mm)"] == 0]
    assert sorted(row["sheet"] for row in unsmoothed) == ["layer 0 attn", "layer 1 attn"]
    assert all(row["p (mass)"] == 1 / 40 and 14 <= row["units"] <= 18 for row in unsmoothed)


def test_noise_has_no_significant_clusters(language):
    """A patch that responds to everything alike."""
    alike = dict.fromkeys(language.strength, 2.0)
    found = language_clusters(language.subject(language.planted(strength=alike)), Choices(fwhm_mm=(0.0,), n_draws=39))
    assert found.tables[1].rows == []
    assert found.tables[1].title == "0 clusters with family-wise p <= .05"
