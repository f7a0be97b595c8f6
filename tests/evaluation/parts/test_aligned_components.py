import dataclasses

import numpy as np
import pytest

from topographic.brain.word_corpora import ERP_COMPONENTS
from topographic.evaluation import Choices, NotMeasurable, Shown
from topographic.evaluation.parts.aligned_components import aligned_components


def test_a_planted_component_is_found_where_it_was_put(follows_a_corner):
    subject, corner = follows_a_corner
    found = aligned_components(subject, Choices(n_draws=39, word_folds=4))
    rows = found["alignment"].to_frame().set_index("component")
    assert rows.loc[1, "p"] == 0.025
    assert rows.loc[1, "r"] > 0.7 > 0.3 > rows.loc[2, "r"]
    assert rows.loc[2, "p"] > 0.05
    assert rows["share of covariance"].is_monotonic_decreasing
    (site,) = subject.sheets
    weights = np.abs(found.maps[f"shared_1/{site}"].values)
    assert weights[corner].mean() > 1.5 * weights[~corner].mean()
    potentials = found["potentials"].to_frame().set_index("component").loc[1, list(ERP_COMPONENTS)].astype(float)
    assert set(potentials.abs().nlargest(2).index) == {"N400", "P600"}
    assert np.square(potentials).sum() == pytest.approx(1)


def test_the_number_of_tokens_of_a_word_is_nothing_shared(told_by_tokens, uncounted):
    def first(subject):
        rows = aligned_components(subject, Choices(n_draws=39, word_folds=4))["alignment"].to_frame()
        return rows.query("component == 1").iloc[0]

    one = dataclasses.replace(told_by_tokens, sites=told_by_tokens.sites[:1])
    found = first(one)
    assert found["p"] > 0.05
    uncounted()
    without = first(dataclasses.replace(one))
    assert without["p"] == 0.025, "sheet and potentials would seem to share it"
    assert without["r"] > found["r"] + 0.2


def test_without_potentials_it_is_said(readers, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(NotMeasurable, match="no corpus with event-related potentials lies below"):
        aligned_components(dataclasses.replace(readers, shown=Shown(data=str(tmp_path / "none"))), Choices())
