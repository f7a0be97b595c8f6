import dataclasses

import numpy as np
import pandas as pd
import pytest

from topographic.brain import load_word_corpora
from topographic.brain.word_corpora import ERP_COMPONENTS
from topographic.evaluation import Choices, NotMeasurable, Shown
from topographic.evaluation.parts.aligned_components import aligned_components
from topographic.evaluation.parts.word_encoding import states_of


@pytest.fixture
def follows_a_corner(readers, word_data):
    """The same corpus, with potentials that follow what units in a corner of the first sheet say of a word."""
    (corpus,) = load_word_corpora(word_data).values()
    site, sheet = next(iter(readers.sheets.items()))
    states = states_of(readers, corpus, [site])[site]
    corner = (sheet.positions_mm.numpy() < 2).all(1)
    said = ((states - states.mean(0)) / states.std(0))[:, corner].mean(1)
    table = pd.read_csv(word_data / "all_measures.csv")
    noise = np.random.default_rng(1).normal(size=(len(table), 2))
    for column, name in enumerate(("N400", "P600")):
        table[name] = said / said.std() + 0.5 * noise[:, column]
    table.to_csv(word_data / "all_measures.csv", index=False)
    return dataclasses.replace(readers, sites=[site]), corner


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


def test_without_potentials_it_is_said(readers, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(NotMeasurable, match="no corpus with event-related potentials lies below"):
        aligned_components(dataclasses.replace(readers, shown=Shown(data=str(tmp_path / "none"))), Choices())
