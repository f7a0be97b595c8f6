from dataclasses import replace

import pytest
import torch
from torch import nn

from topographic.losses.pyramid import laplacian_pyramid_loss
from topographic.sheets import grid, permuted_grid
from topographic.training.config import RunConfig, SmoothnessConfig, SpatialConfig, TrainingConfig
from topographic.training.terms import configured_objective, smoothness_term, spatial_term


class WithSheets(nn.Module):
    """A model that says where its units lie."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)

    def sheets(self):
        return {"a": grid(16, "a")}


def asked(seed=0, **sections):
    return RunConfig(**sections, training=TrainingConfig(seed=seed, gradient_accumulation_steps=2))


def test_sheets_come_from_the_model_and_the_rest_from_the_layout():
    objective = configured_objective(WithSheets(), asked(3, spatial=SpatialConfig(radius=2)))
    assert objective.sites == {"spatial": ["a"]}
    (term,) = objective.terms
    assert term._place("a", 16)[0] == grid(16, "a")
    config = SpatialConfig(sites=["a", "b"], radius=2, weight=0.25, n_neighborhoods=2, norm="linf")
    objective = configured_objective(WithSheets(), asked(3, spatial=config))
    assert objective.sites == {"spatial": ["a", "b"]}
    (term,) = objective.terms
    assert term._place("a", 16)[0] == grid(16, "a")
    assert term._place("b", 16)[0] == permuted_grid(16, "b")
    assert (term.weight, term.n_neighborhoods, term.norm, term.seed) == (0.25, 2, "linf", 3)


def test_no_sheets_and_no_sites():
    with pytest.raises(ValueError, match=r"Linear carries no sheets and spatial.sites names none; set spatial.sites"):
        spatial_term(nn.Linear(3, 3), SpatialConfig(), seed=0)
    assert configured_objective(nn.Linear(3, 3), asked(spatial=SpatialConfig(weight=0.0))).terms == []


def test_smoothness_is_the_weighted_mean_over_its_layers():
    model, config = WithSheets(), SmoothnessConfig(weight=2.0, sites=["a"], watched=["b"], factor=2.0)
    objective = configured_objective(model, asked(spatial=SpatialConfig(weight=0.0), smoothness=config))
    assert objective.accumulation == 2
    loss, parts = objective(torch.tensor(1.0), draw=0)
    alone = {name: laplacian_pyramid_loss(getattr(model, name).weight, 2.0) for name in "ab"}
    assert parts["smoothness/a"] == alone["a"]
    assert parts["smoothness/b"] == alone["b"]
    torch.testing.assert_close(parts["smoothness_loss"], 2 * alone["a"])
    torch.testing.assert_close(loss, 1 + 2 * 2 * alone["a"])  # times the passes that the loss is divided by


def test_both_losses_side_by_side():
    config = asked(spatial=SpatialConfig(radius=2), smoothness=SmoothnessConfig(weight=1.0, sites=["b"]))
    assert [term.name for term in configured_objective(WithSheets(), config).terms] == ["spatial", "smoothness"]


def test_layers_that_are_only_watched():
    config = SmoothnessConfig(watched=["a"], sites=["b"])
    objective = configured_objective(WithSheets(), asked(spatial=SpatialConfig(weight=0.0), smoothness=config))
    loss, parts = objective(torch.tensor(1.0), draw=0)
    assert set(parts) == {"task_loss", "smoothness/a", "smoothness_loss"}
    assert (loss, parts["smoothness_loss"]) == (1.0, 0.0)


@pytest.mark.parametrize(("schedule", "halfway"), [("linear", 1.5), ("cosine", 1.5)])
def test_schedules_go_by_the_step(schedule, halfway):
    config = SmoothnessConfig(weight=2.0, start_weight=1.0, sites=["a"], schedule=schedule, schedule_steps=4)
    weight = smoothness_term(config).weight
    assert [weight(step) for step in (0, 2, 4, 9)] == pytest.approx([1.0, halfway, 2.0, 2.0])
    assert smoothness_term(replace(config, schedule="constant")).weight == 2.0


def test_a_layer_without_weights_is_refused():
    model = nn.Sequential(nn.Linear(9, 9), nn.ReLU())
    config = asked(spatial=SpatialConfig(weight=0.0), smoothness=SmoothnessConfig(weight=1.0, sites=["1"]))
    with pytest.raises(TypeError, match="site '1'"):
        configured_objective(model, config)
