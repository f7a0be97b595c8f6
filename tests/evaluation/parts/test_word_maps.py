import dataclasses

import numpy as np

from topographic.brain.word_corpora import ERP_COMPONENTS
from topographic.evaluation import Choices
from topographic.evaluation.parts.word_maps import word_maps


def test_units_that_follow_planted_components_stand_beside_their_null(follows_a_corner):
    subject, corner = follows_a_corner
    (site,) = subject.sheets
    found = word_maps(subject, Choices(n_draws=39))
    table = found.to_frame().set_index("component")
    assert set(table.index) == set(ERP_COMPONENTS)
    planted, others = table.loc[["N400", "P600"]], table.drop(["N400", "P600"])
    assert (planted["p (largest |r|)"] == 0.025).all()
    assert planted["largest |r|"].min() > others["largest |r|"].max() + 0.1
    r = np.abs(found.maps[f"N400/{site}"].values)
    assert r[corner].mean() > 1.5 * r[~corner].mean()
    assert {name.split("/")[0] for name in found.maps} == set(ERP_COMPONENTS)
    assert found.maps[f"N400/{site}"].provenance["target"] == "N400"
    assert found.maps[f"N400/{site}"].provenance["n_controls"] == 5
    alike = found["alike"].to_frame().set_index("component")
    assert len(alike) == 5
    assert alike["r with N400"].abs().idxmax() == "P600"
    assert alike.loc["P600", "p (shift)"] == 0.025


def test_no_unit_follows_the_number_of_tokens_of_a_word(told_by_tokens, uncounted):
    def follow(subject):
        return word_maps(subject, Choices(n_draws=39)).to_frame().query("component == 'N400'")

    found = follow(told_by_tokens)
    assert (found["p (largest |r|)"] > 0.05).all()
    uncounted()
    without = follow(dataclasses.replace(told_by_tokens))
    assert (without["p (largest |r|)"] == 0.025).all(), "units would seem to follow it"
    assert (without["largest |r|"] > 2 * found["largest |r|"]).all()
