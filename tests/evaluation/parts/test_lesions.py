import dataclasses

import numpy as np
import pytest

from topographic.behaviour import perplexity, token_log_probabilities
from topographic.evaluation import Choices
from topographic.evaluation.parts.lesions import lesions
from topographic.interventions import ablate


def test_lesions_stand_beside_their_controls(tiny_subject):
    found = lesions(tiny_subject, Choices(quick=True, lesion_fractions=(0.05,), lesion_draws=2, lesion_pairs=2))
    rows = {row["measure"]: row for row in found.tables[0].rows}
    pairs = tiny_subject.minimal_pairs(2)
    assert list(rows)[:2] == ["perplexity", "accuracy"]
    assert {f"accuracy: {term}" for term in pairs.labels["phenomenon"]} == set(rows) - {"perplexity", "accuracy"}
    for row in rows.values():
        assert row["units"] == 7, "5 % of 144 units"
        assert np.isfinite([row["model"], row["layer"], row["connected"]]).all()
        judge = row["judged by"]
        assert judge == "connected", "the network is contiguous"
        assert row["effect"] == pytest.approx(row["lesion"] - row[judge])
        assert 1 / 3 <= row["p"] <= row["p (corrected)"] <= 1
        assert (row["p"], row["p (corrected)"]) == (row[f"p ({judge})"], row[f"p ({judge}, corrected)"])
        assert np.isnan([row["low"], row["high"]]).all(), "two draws have no interval"
        columns = list(row)
        assert columns.index("effect") < columns.index("low") < columns.index("p") < columns.index("p (corrected)")
    options = {"batch_size": 32, "progress": False}
    passages = tiny_subject.passages(pairs)
    intact = perplexity(token_log_probabilities(tiny_subject.model, tiny_subject.tokenizer, passages, **options))
    assert rows["perplexity"]["intact"] == pytest.approx(intact)
    chosen = [one for one in tiny_subject.network(rule="top", level=0.05).values() if one.n_selected]
    with ablate(tiny_subject.model, chosen):
        silenced = perplexity(token_log_probabilities(tiny_subject.model, tiny_subject.tokenizer, passages, **options))
    assert rows["perplexity"]["lesion"] == pytest.approx(silenced)
    assert silenced != pytest.approx(intact, rel=1e-6)


DISC, DIAGONAL = (lambda row, column: (row < 2) & (column < 3)), (lambda row, column: (row == column) & (row % 2 == 0))


def lesioned_where(chosen, subject, monkeypatch, level=None):
    """The part with a network of units that lie where it is said, for one level or all."""
    own = type(subject).network

    def network(self, *, rule, **how):
        found = own(self, rule=rule, **how)
        if level not in (None, how["level"]):
            return found
        places = {site: one.sheet.positions_mm.long().numpy() for site, one in found.items()}
        return {site: dataclasses.replace(found[site], mask=chosen(*at.T)) for site, at in places.items()}

    monkeypatch.setattr(type(subject), "network", network)


@pytest.mark.parametrize(("chosen", "judge"), [(DISC, "connected"), (DIAGONAL, "layer")], ids=["disc", "scattered"])
def test_a_contiguous_lesion_is_judged_by_connected_controls_alone(tiny_subject, monkeypatch, chosen, judge):
    lesioned_where(chosen, tiny_subject, monkeypatch)
    (table,) = lesions(tiny_subject, Choices(quick=True, lesion_fractions=(0.05,), lesion_draws=2)).tables
    for row in table.rows:
        assert row["judged by"] == judge
        assert row["p"] == row[f"p ({judge})"] >= 1 / 3
        others = [row[f"p ({kind}{more})"] for kind in ("model", "layer") for more in ("", ", corrected")]
        assert np.isnan(others).all() == (judge == "connected")
        assert np.isfinite([row["model"], row["layer"], row["connected"], row["p (connected)"]]).all()
    assert "then describe and have no p" in table.note


def test_a_lesion_without_room_for_controls_is_told_and_not_dropped(tiny_subject, monkeypatch):
    lesioned_where(lambda row, column: (row + column) % 2 == 0, tiny_subject, monkeypatch, level=0.5)
    found = lesions(tiny_subject, Choices(quick=True, lesion_fractions=(0.01, 0.5), lesion_draws=1, lesion_pairs=1))
    assert {row["size"] for row in found.tables[0].rows} == {"top 1 %"}
    (note,) = found.notes
    assert note.startswith("top 50 %: not measured.")
    assert "choose a smaller" in note


@pytest.mark.parametrize("mode", ["mean", "resample"])
def test_other_kinds_of_lesion(tiny_subject, mode):
    choices = Choices(quick=True, lesion_fractions=(0.05,), lesion_draws=1, lesion_pairs=1, lesion_mode=mode)
    found = lesions(tiny_subject, choices)
    zero = lesions(tiny_subject, Choices(quick=True, lesion_fractions=(0.05,), lesion_draws=1, lesion_pairs=1))
    assert found.tables[0].rows, found.notes
    assert found.tables[0].rows[0]["intact"] == zero.tables[0].rows[0]["intact"]
    assert found.tables[0].rows[0]["lesion"] != zero.tables[0].rows[0]["lesion"]
    assert f"mode {mode!r}" in found.text


def test_what_breaks_inside_is_no_note(tiny_subject, monkeypatch):
    def broken(*_, **__):
        raise ValueError("a bug")

    monkeypatch.setattr("topographic.evaluation.parts.lesions.lesion_effects", broken)
    with pytest.raises(ValueError, match="a bug"):
        lesions(tiny_subject, Choices(quick=True, lesion_fractions=(0.01,), lesion_draws=1, lesion_pairs=1))


def test_no_unit_to_silence(tiny_subject, plant):
    """Responses that do not vary: no t is above 0."""
    heard = tiny_subject.recorded("localizer")
    still = {site: dataclasses.replace(one, values=np.ones_like(one.values)) for site, one in heard.items()}
    subject = plant(dataclasses.replace(tiny_subject, cache_folder=None), localizer=still)
    found = lesions(subject, Choices(quick=True, lesion_fractions=(0.05,), lesion_draws=1, lesion_pairs=1))
    assert found.tables[0].rows == []
    assert found.notes == ["top 5 %: not measured. No unit responds more to sentences than to nonword strings."]


def test_one_draw_is_told_in_the_singular(tiny_subject):
    found = lesions(tiny_subject, Choices(quick=True, lesion_fractions=(0.01,), lesion_draws=1, lesion_pairs=1))
    assert "(1 draw each)" in found.text
