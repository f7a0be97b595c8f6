import pytest

from topographic.evaluation import Choices
from topographic.evaluation.parts.network import language_network

CHOICES = Choices(fwhm_mm=(0.0, 2.0), n_draws=39)


def test_the_network_is_found_stable_and_beside_the_published_share(language):
    found = language_network(language.subject(language.planted()), CHOICES)
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
        ("sentences-nonwords_fwhm_0", True),
        ("sentences-nonwords_fwhm_2", False),
    ]
    assert found.notes == []
    assert "nonwords 12." in found.text
    assert list(found.maps) == [
        f"sentences-nonwords_fwhm_{width}/{site}" for width in (0, 2) for site in language.sheets
    ]
    assert all(one.q is not None for one in found.maps.values())
    kept = found.selections["q_length_none/h.1.attn"]
    assert (kept.mask & language.patches["h.1.attn"]).sum() == 16
    assert len(found.selections) == 9 * 2, "rules, treatments of length, sheets"


def test_lengths_that_cannot_be_matched_are_told(language):
    found = language_network(language.subject(language.planted(gap=20)), Choices(fwhm_mm=(0.0,), n_draws=19))
    (note,) = found.notes
    assert note.startswith("Length matched: not possible. only 0 items of sentences (8 to 12 tokens)")
    assert {row["length"] for row in found.tables[0].rows} == {"none", "regressed"}


def test_what_breaks_inside_is_no_note(language, monkeypatch):
    def broken(*_, **__):
        raise ValueError("a bug")

    monkeypatch.setattr("topographic.evaluation.parts.network.localize", broken)
    with pytest.raises(ValueError, match="a bug"):
        language_network(language.subject(language.planted()), Choices(fwhm_mm=(0.0,), n_draws=19))
