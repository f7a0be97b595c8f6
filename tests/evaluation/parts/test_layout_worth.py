"""What a layout is worth: order by planted truth, reliability of two layouts of one population."""

import dataclasses

import numpy as np
import pytest
import torch

from topographic.evaluation import Choices, NotMeasurable
from topographic.evaluation.parts.layout_worth import (
    adaptor_at,
    layout_order,
    layout_reliability,
    randomly_rotated,
)
from topographic.layouts import Adaptors
from topographic.recording import Responses
from topographic.sheets import grid
from topographic.stimuli import load_localizer

FEW = Choices(n_draws=99)
SITE = "transformer.h.1.sheet"


@pytest.fixture
def population():
    """Responses of 36 units whose place on the sheet says what they do, and noise."""
    rng, stimuli, sheet = np.random.default_rng(0), load_localizer("language"), grid((6, 6), SITE)
    slopes = rng.standard_normal((len(stimuli), 2)) @ (sheet.positions_mm.numpy().T - 2.5)
    return Responses(SITE, slopes + rng.standard_normal(slopes.shape), sheet, stimuli)


def test_order_is_found_where_it_was_planted_and_nowhere_else(turned_subject, population, plant):
    (row,) = layout_order(plant(turned_subject, localizer={SITE: population}), FEW)["sheets"].rows
    assert row["near"] > 0.3
    assert row["p (near)"] == row["p (far)"] == row["p (smoothness)"] == 0.01
    assert row["smoothness"] > 0.2 > 0.05 > row["smoothness, random rotation"]
    noise = dataclasses.replace(population, values=np.random.default_rng(1).standard_normal((240, 36)))
    (row,) = layout_order(plant(turned_subject, localizer={SITE: noise}), FEW)["sheets"].rows
    assert row["p (near)"] > 0.05
    assert "far" not in row, "a flat curve is not judged far away"
    assert row["note"].startswith("flat: responses do not grow less alike")


def test_the_loss_of_the_fit_stands_beside(turned_subject, population, plant):
    found = layout_order(plant(turned_subject, localizer={SITE: population}), FEW)["sheets"]
    assert "held-out loss" not in found.columns, "this rotation was not fitted"
    told = adaptor_at(turned_subject, SITE).provenance
    told |= {"loss": 0.1, "loss_before": 0.5}
    (row,) = layout_order(plant(turned_subject, localizer={SITE: population}), FEW)["sheets"].rows
    assert (row["held-out loss"], row["own order"]) == (0.1, 0.5)


def test_a_layout_agrees_with_itself_mirrored_and_not_with_another(turned_subject, population, plant, show, tmp_path):
    subject = plant(turned_subject, localizer={SITE: population})
    own = adaptor_at(subject, SITE)
    mirror = torch.arange(36).view(6, 6).flip(1).flatten()
    mirrored = dataclasses.replace(own, matrix=-own.matrix[:, mirror], mean=own.mean + 1, scale=own.scale, inverse=None)
    Adaptors([mirrored]).save(tmp_path / "mirrored")
    (row,) = layout_reliability(show(subject, other_layout=str(tmp_path / "mirrored")), FEW)["sheets"].rows
    assert row["match"] == pytest.approx(1, abs=1e-4)
    assert row["arrangement"] == pytest.approx(1, abs=1e-4)
    assert row["p (unit)"] == 0.01
    assert row["match, random rotation"] < 0.99
    (row,) = layout_reliability(subject, FEW)["sheets"].rows
    assert row["arrangement"] < 0.5


def test_layouts_that_cannot_be_held_against_each_other(turned_subject, show, tmp_path):
    with pytest.raises(NotMeasurable, match="responses pooled by sum cannot be shown on another layout"):
        layout_reliability(show(turned_subject, pooling="sum"), FEW)
    with pytest.raises(NotMeasurable, match="no other layout is named; say other_layout=FOLDER"):
        layout_reliability(show(turned_subject, other_layout=None), FEW)
    own = adaptor_at(turned_subject, SITE)
    Adaptors([dataclasses.replace(own, site="transformer.h.0")]).save(tmp_path / "elsewhere")
    with pytest.raises(NotMeasurable, match=r"no sheet of the model lies at a site of the layout in .*elsewhere"):
        layout_reliability(show(turned_subject, other_layout=str(tmp_path / "elsewhere")), FEW)
    Adaptors([dataclasses.replace(own, provenance={"weights": "a" * 64})]).save(tmp_path / "foreign")
    own.provenance["weights"] = "b" * 64
    with pytest.raises(ValueError, match=r"fitted on weights aaaaaaaaaaaa .*, this one on bbbbbbbbbbbb"):
        layout_reliability(show(turned_subject, other_layout=str(tmp_path / "foreign")), FEW)


def test_a_random_rotation_keeps_what_stimuli_have_in_common(population):
    turned = randomly_rotated(population, 0)
    standard = (population.values - population.values.mean(0)) / population.values.std(0)
    np.testing.assert_allclose(turned.values @ turned.values.T, standard @ standard.T, atol=1e-3)
    assert not np.allclose(turned.values, randomly_rotated(population, 1).values)


def test_a_sheet_of_a_model_of_ours_is_no_adaptor(tiny_subject):
    assert adaptor_at(tiny_subject, next(iter(tiny_subject.sheets))) is None
