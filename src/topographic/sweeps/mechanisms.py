"""What is compared between mechanisms of topography: order of responses and weights, what it costs and what it buys."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from topographic.behaviour import token_log_probabilities
from topographic.interventions import (
    downsampling_curve,
    grown_patch,
    lesion_effects,
    matched_fractions,
    pruning_curve,
)
from topographic.layouts import fit_assignment
from topographic.losses import weight_sheets
from topographic.maps import (
    activity_smoothness,
    effect_size_map,
    topographic_statistic,
    weight_smoothness,
)
from topographic.maps.autocorrelation import each_morans_i
from topographic.maps.nulls import stream
from topographic.maps.references import Referenced, compare, mean_over_sheets
from topographic.maps.smoothness import response_smoothness
from topographic.maps.summary import summarize
from topographic.maps.topographic_statistic import CUTOFFS
from topographic.recording import find_sites, record, tap
from topographic.recording.placement import settled_layout
from topographic.recording.responses import Responses
from topographic.recording.sites import modules_by_site
from topographic.sheets import Sheet, distances
from topographic.stimuli import StimulusSet, load_localizer
from topographic.sweeps.choices import Mechanisms

__all__ = ["laid_out_sheets", "measure_mechanism", "weights_morans_i"]

_CONTRAST = ("sentences", "nonwords")
_AT_ONCE = 32
_MAPS_AT_ONCE = 8192
Sheets = Mapping[str, Sheet]


def measure_mechanism(
    model: Any,
    tokenizer: Any,
    held_out: Sequence[Mapping[str, Any]],
    choices: Mechanisms,
    *,
    sheets: Sheets | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """All numbers of one model, by name; those of a place begin with it.

    ``sheets`` lays the units of the sites out elsewhere than the model and `grid` do.
    """
    stimuli = load_localizer("language")
    places = {place: find_sites(model, pattern) for place, pattern in choices.sites.items()}
    layout: dict[str, Any] = {"layout": sheets, "relayout": sheets is not None}
    heard = record(model, tokenizer, stimuli, [site for sites in places.values() for site in sites], **layout)
    numbers: dict[str, float] = {}
    for place, sites in places.items():
        of_place = {site: heard[site] for site in sites}
        numbers |= {f"{place}: {name}": value for name, value in _order(of_place, choices, seed).items()}
    layers = _layers(model, places, choices, heard)
    for place in choices.weights:
        own = {site: sheet for site, (of, sheet) in layers.items() if of == place}
        numbers |= {f"{place}: {name}": value for name, value in _weights(model, own, choices, seed).items()}
    plain = _without_parametrizations(model)

    def loss(changed: nn.Module) -> float:
        return _held_out_loss(changed, held_out)

    if layers:
        numbers |= _survival(plain, {site: sheet for site, (_, sheet) in layers.items()}, loss, choices, seed)
    return numbers | _lesion(model, tokenizer, stimuli, heard, places, choices, seed=seed)


def laid_out_sheets(
    model: Any, shown: Sequence[Mapping[str, Any]], patterns: Sequence[str], *, seed: int = 0
) -> dict[str, Sheet]:
    """Sheets on which a model's units lie so that neighbours respond alike to a text (`fit_assignment`)."""
    sites = [site for pattern in patterns for site in find_sites(model, pattern)]
    heard: dict[str, list[Tensor]] = {site: [] for site in sites}
    with torch.no_grad():
        for batch in _batches(model, shown):
            with tap(model, sites) as values:
                model(input_ids=batch["input_ids"])
            for site in sites:
                heard[site].append(values[site].flatten(0, -2).float())
    settled = settled_layout(model, sites, None)
    found = {}
    for site, parts in heard.items():
        values = torch.cat(parts)
        sheet = settled(values.shape[1], site)
        positions_mm = torch.empty_like(sheet.positions_mm)
        positions_mm[fit_assignment(values, sheet, seed=seed)] = sheet.positions_mm  # place i holds unit order[i]
        found[site] = dataclasses.replace(sheet, positions_mm=positions_mm)
    return found


def weights_morans_i(
    weights: Float[Tensor, "units depth"], sheet: Sheet, *, n_draws: int = 99, seed: int = 0
) -> Referenced:
    """Mean over inputs of Moran's I of the weights by which the units of a sheet hear one input."""
    maps = weights.detach().double().T.cpu().numpy()
    value = float(each_morans_i(maps, sheet).mean())
    generator = stream(seed, "unit", sheet.name)
    orders = [generator.permutation(maps.shape[1]) for _ in range(n_draws)]
    at_once = max(1, _MAPS_AT_ONCE // len(maps))
    draws: list[float] = []
    for first in range(0, n_draws, at_once):
        permuted = np.stack([maps[:, order] for order in orders[first : first + at_once]])
        draws += each_morans_i(permuted.reshape(-1, maps.shape[1]), sheet).reshape(len(permuted), -1).mean(1).tolist()
    return Referenced(value, {"unit": compare(value, np.array(draws))})


def _order(responses: Mapping[str, Responses], choices: Mechanisms, seed: int) -> dict[str, float]:
    """How the responses at one place are ordered on its sheets, means over these."""
    drawn: dict[str, Any] = {"n_draws": choices.n_draws, "seed": seed}
    summary = summarize(responses, *_CONTRAST, **drawn)
    t_g = [_topographic_statistic(one, **drawn) for one in responses.values()]
    found = {
        "I": summary.morans_i,
        "mean |t|": summary.mean_abs_t,
        "I of activity": mean_over_sheets([activity_smoothness(one, **drawn).mean for one in responses.values()]),
        "t_g": mean_over_sheets(t_g),
        "smoothness": mean_over_sheets([response_smoothness(one, **drawn).smoothness for one in responses.values()]),
    }
    numbers = _flat(found)
    numbers["dimensions"] = float(np.mean([row.effective_dimensionality for row in summary.rows]))
    return numbers


def _topographic_statistic(responses: Responses, **drawn: Any) -> Referenced:
    """t_g on a torus where the sheet is one, without cut-offs within which a small sheet has no neighbours."""
    sheet = responses.sheet
    apart = distances(sheet.positions_mm / torch.tensor(sheet.extent_mm, dtype=torch.float64))
    nearest = float(apart[apart > 0].min())
    cutoffs = [one for one in CUTOFFS if one >= nearest]
    return topographic_statistic(responses, torus=sheet.wrap, cutoffs=cutoffs, **drawn)


def _weights(model: Any, layers: Sheets, choices: Mechanisms, seed: int) -> dict[str, float]:
    """How the weights that make the units of one place are ordered, means over its layers."""
    modules = modules_by_site(model)
    drawn: dict[str, Any] = {"n_draws": choices.n_draws, "seed": seed}
    rows = {site: weight_sheets(modules[site])["weight"].detach() for site in layers}
    return _flat({
        "I of weights": mean_over_sheets([
            weights_morans_i(rows[site], sheet, **drawn) for site, sheet in layers.items()
        ]),
        "smoothness of weights": mean_over_sheets([
            weight_smoothness(rows[site], sheet, **drawn) for site, sheet in layers.items()
        ]),
    })


def _survival(
    model: nn.Module, layers: Sheets, loss: Callable[[nn.Module], float], choices: Mechanisms, seed: int
) -> dict[str, float]:
    """What downsampling and pruning to as few parameters cost, beside downsampling with the units permuted."""
    whole, sites = loss(model), list(layers)
    drawn: dict[str, Any] = {"n_draws": choices.n_models, "seed": seed}
    small = downsampling_curve(
        model, sites, [choices.removed], loss, layout=layers, relayout=True, keep_bias=True, **drawn
    )
    pruned = pruning_curve(model, sites, matched_fractions(model, sites, small), loss, progress=False)
    null = small[0].unit_null
    numbers = {"downsampled": small[0].value - whole, "pruned": pruned[0].value - whole}
    if null is not None:
        numbers |= {"downsampled, units permuted": null.mean - whole, "downsampled: p": null.p}
    return numbers


def _lesion(
    model: Any,
    tokenizer: Any,
    stimuli: StimulusSet,
    heard: Mapping[str, Responses],
    places: Mapping[str, Sequence[str]],
    choices: Mechanisms,
    *,
    seed: int,
) -> dict[str, float]:
    """What a patch around the peak of every map is for, more than other patches: chosen on one half of the items.

    Of the other half is taken what silencing costs sentences beyond what it costs nonword strings, in nats per token.
    """
    halves = [np.flatnonzero(_half(stimuli) == half).tolist() for half in (0, 1)]
    chosen = []
    for place in choices.lesioned or places:
        for site in places[place]:
            one = heard[site]
            first = one.take(np.array(halves[0]))
            peak = effect_size_map(first, *_CONTRAST)
            chosen.append(grown_patch(peak, max(1, round(choices.lesion * one.sheet.n_units))))
    rest = stimuli.take(halves[1])
    sides = [list(rest.select(condition=side).items) for side in _CONTRAST]

    def costs(changed: nn.Module) -> dict[str, float]:
        logs = [token_log_probabilities(changed, tokenizer, side, progress=False) for side in sides]
        sentences, nonwords = (-float(np.concatenate(one).mean()) for one in logs)
        return {"specificity": sentences - nonwords, "sentences": sentences}

    effects = lesion_effects(
        model,
        chosen,
        {one.site: one.sheet for one in chosen},
        costs,
        n_draws=choices.n_models,
        seed=seed,
        relayout=True,
    )
    of = {(one.measure, one.kind): one for one in effects}
    control = of["specificity", "connected"]
    return {
        "lesion: sentences": of["sentences", "lesion"].value - of["sentences", "intact"].value,
        "lesion: specificity": of["specificity", "lesion"].value - of["specificity", "intact"].value,
        "lesion: specificity beyond other patches": control.effect,
        "lesion: p": control.p,
    }


def _half(stimuli: StimulusSet) -> np.ndarray:
    """0 or 1 for every item, in turn within each condition."""
    counted: dict[str, int] = {}
    halves = []
    for condition in stimuli.conditions:
        counted[condition] = counted.get(condition, -1) + 1
        halves.append(counted[condition] % 2)
    return np.array(halves)


def _layers(
    model: Any, places: Mapping[str, Sequence[str]], choices: Mechanisms, heard: Mapping[str, Responses]
) -> dict[str, tuple[str, Sheet]]:
    """Every linear layer that makes the units of a place, with the place and the sheet that they lie on."""
    found = {}
    for place, pattern in choices.weights.items():
        layers = find_sites(model, pattern)
        if len(layers) != len(places[place]):
            raise ValueError(
                f"mechanisms.weights: {pattern!r} matches {len(layers)} layers and mechanisms.sites "
                f"{len(places[place])} sites of {place!r}; expected the layer of every site"
            )
        found |= {layer: (place, heard[site].sheet) for layer, site in zip(layers, places[place], strict=True)}
    return found


def _without_parametrizations(model: Any) -> Any:
    """A copy whose linear layers have the weights that are used as their own, so that they can be pruned."""
    plain = copy.deepcopy(model)
    for parent in list(plain.modules()):
        for name, layer in list(parent.named_children()):
            # taking parametrizations away would change the class, which copies share
            if isinstance(layer, nn.Linear) and parametrize.is_parametrized(layer):
                own = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
                own.weight = nn.Parameter(layer.weight.detach().clone())
                own.bias = layer.bias
                setattr(parent, name, own)
    return plain


@torch.no_grad()
def _held_out_loss(model: Any, windows: Sequence[Mapping[str, Any]]) -> float:
    losses = [(float(model(**batch).loss), len(batch["input_ids"])) for batch in _batches(model, windows)]
    return sum(loss * n for loss, n in losses) / sum(n for _, n in losses)


def _batches(model: Any, windows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Tensor]]:
    device = next(model.parameters()).device
    for first in range(0, len(windows), _AT_ONCE):
        batch = [windows[index] for index in range(first, min(first + _AT_ONCE, len(windows)))]
        yield {name: torch.stack([torch.as_tensor(one[name]) for one in batch]).to(device) for name in batch[0]}


def _flat(found: Mapping[str, Referenced]) -> dict[str, float]:
    """Numbers with their nulls: z and p of each under names of their own."""
    numbers = {}
    for name, one in found.items():
        numbers[name] = one.value
        for null in ("unit", "label"):
            if null in one.nulls:
                numbers |= {f"{name}, {word} ({null})": getattr(one.nulls[null], word) for word in ("mean", "z", "p")}
    return {name: float(value) for name, value in numbers.items() if np.isfinite(value)}
