"""From a configuration to the objective: which terms a run adds to its task loss."""

from typing import Any

from torch import nn

from topographic.sheets import LAYOUTS, Sheet
from topographic.training.config import HasTrainingConfigs, SmoothnessConfig, SpatialConfig
from topographic.training.objective import Objective, SpatialCorrelation, Term
from topographic.training.weight_terms import SCHEDULES, WeightSheet, WeightSmoothness

__all__ = ["configured_objective", "smoothness_term", "spatial_term"]


def configured_objective(model: nn.Module, config: HasTrainingConfigs) -> Objective:
    """Everything a configuration adds to the task loss.

    Parameters
    ----------
    model : nn.Module
        Any model; if it has a method ``sheets``, that says where the units of its sites lie.
    config : RunConfig
        Or any dataclass with the fields ``spatial``, ``smoothness`` and ``training``.

    Returns
    -------
    Objective
        Without a term if all weights are 0.

    Raises
    ------
    ValueError
        If no sites are named and the model carries no sheets, or a pattern matches nothing.
    TypeError
        If a site of the smoothness term is no layer with weights.
    """
    terms: list[Term] = []
    if config.spatial.weight > 0:
        terms.append(spatial_term(model, config.spatial, seed=config.training.seed))
    if config.smoothness.is_on or config.smoothness.watched:
        terms.append(smoothness_term(config.smoothness))
    return Objective(model, terms, accumulation=config.training.gradient_accumulation_steps)


def spatial_term(model: nn.Module, config: SpatialConfig, *, seed: int) -> SpatialCorrelation:
    """Spatial correlation loss on the sheets of a model, as the configuration asks for it.

    Parameters
    ----------
    model : nn.Module
        Any model; if it has a method ``sheets``, that says where the units of its sites lie.
    config : SpatialConfig
        Sites, neighbourhoods and weight.
    seed : int
        What neighbourhoods are drawn from.

    Returns
    -------
    SpatialCorrelation
        The term.

    Raises
    ------
    ValueError
        If no sites are named and the model carries no sheets.
    """
    sheets_of = getattr(model, "sheets", None)
    carried: Any = sheets_of() if callable(sheets_of) else {}
    sites = config.sites if config.sites is not None else list(carried)
    if not sites:
        raise ValueError(
            f"{type(model).__name__} carries no sheets and spatial.sites names none; set spatial.sites to modules, "
            "for example ['transformer.h.*.attn'], or spatial.weight to 0"
        )

    def layout(n_units: int, site: str) -> Sheet:
        return carried[site] if site in carried else LAYOUTS[config.layout](n_units, site)

    return SpatialCorrelation(
        sites=sites,
        layout=layout,
        weight=config.weight,
        neighborhoods=config.neighborhoods,
        radius=config.radius,
        k=config.k,
        n_neighborhoods=config.n_neighborhoods,
        norm=config.norm,
        seed=seed,
    )


def smoothness_term(config: SmoothnessConfig) -> WeightSmoothness:
    """Smoothness of weights, as the configuration asks for it.

    Parameters
    ----------
    config : SmoothnessConfig
        Layers, blur, weight and its schedule.

    Returns
    -------
    WeightSmoothness
        The term, called "smoothness" in the log.
    """
    trained = config.sites if config.is_on and config.sites else []
    chosen = [(site, 1.0) for site in trained] + [(site, None) for site in config.watched or ()]
    # a term of weight 0 would be left out, and with it what is only watched
    weight = config.weight if trained else 1.0
    if trained and config.schedule != "constant":
        weight = SCHEDULES[config.schedule](config.start_weight, config.weight, config.schedule_steps)
    return WeightSmoothness(
        [WeightSheet(site, config.kind, scale, config.factor, config.blur) for site, scale in chosen],
        weight=weight,
        reduction=config.reduction,
        name="smoothness",
    )
