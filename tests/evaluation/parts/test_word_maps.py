import numpy as np

from topographic.brain.word_corpora import ERP_COMPONENTS
from topographic.evaluation import Choices
from topographic.evaluation.parts.word_maps import word_maps


def test_units_that_follow_the_planted_component_stand_beside_their_null(readers):
    found = word_maps(readers, Choices(n_draws=39))
    table = found.to_frame().set_index(["component", "sheet"])
    assert set(table.index.get_level_values(0)) == set(ERP_COMPONENTS)
    assert (table.loc["N400", "p (largest |r|)"] <= 0.05).all()
    assert (table.loc["N400", "largest |r|"] > table.loc["P600", "largest |r|"]).all()
    assert len(found.maps) == 12
    assert {name.split("/")[0] for name in found.maps} == set(ERP_COMPONENTS)
    assert found.maps[f"N400/{next(iter(readers.sheets))}"].provenance["target"] == "N400"
    alike = found["alike"].to_frame()
    assert len(alike) == 10
    assert np.abs(alike["r with N400"]).le(1).all()
