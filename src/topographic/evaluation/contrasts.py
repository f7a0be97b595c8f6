"""One contrast of a live model: what it is shown, recorded, mapped at every site and tested, in one call."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from topographic.evaluation.choices import MapChoices
from topographic.evaluation.mapping import KINDS, kind_for, stimuli_with
from topographic.maps import Maps, control_fdr, t_map
from topographic.maps.contrasts import Conditions
from topographic.recording import carried_sheets, own_layout, suggested_sites, vision_layers
from topographic.sheets import LAYOUTS, Layout, Sheet
from topographic.stimuli import ImageStimuli, StimulusSet, stimuli_from

__all__ = ["contrast"]


def contrast(
    model: nn.Module,
    reader: Any,
    condition: Conditions,
    baseline: Conditions,
    *,
    stimuli: StimulusSet | ImageStimuli | pd.DataFrame | str | Path | None = None,
    sites: str | Sequence[str] | None = None,
    layout: str | Layout | Mapping[str, Sheet] | None = None,
    fwhm_mm: float = 0.0,
    n_draws: int = 200,
    exchangeable: Sequence[str] = ("run",),
    null: str | None = None,
    pooling: str = "mean",
    batch_size: int = 32,
    seed: int = 0,
) -> Maps:
    """Maps of one contrast at every site of a model, with their nulls, corrected over all sites together.

    Parameters
    ----------
    model : nn.Module
        Any model; `topographic.load` gives one with what reads for it.
    reader : tokenizer or callable
        The tokenizer of a language model; how images become what a vision model takes (`Preparation`).
    condition, baseline : str or sequence of str
        Names of the conditions to compare; several names are pooled.
    stimuli : StimulusSet, ImageStimuli, DataFrame, str or Path, optional
        What is shown, as `stimuli_from` takes it; by default the set that ships with the library and has these
        conditions: "language" or "nouns_verbs" (`load_localizer`), of a vision model `category_images`. The
        provenance of the maps says which.
    sites : str or sequence of str, optional
        Names, wildcards or aliases (`list_sites`). By default the sheets that the model carries; of a model without,
        the layers of a vision model that TopoNets lays on sheets, or the MLPs of the blocks.
    layout : {"grid", "permuted_grid"}, callable or mapping, optional
        Where units lie for which the model carries no sheet; a grid by default.
    fwhm_mm, n_draws, exchangeable, null, seed
        As in `t_map`; n_draws=0 draws no nulls.
    pooling : str
        How an item's tokens, or an image's places, become one response, as in `record` and `record_images`.
    batch_size : int
        Items per forward pass.

    Returns
    -------
    Maps
        ``{site: UnitMap}`` of Welch's t with p, q over all units of all sites, and null maps.

    Raises
    ------
    ValueError
        If no set that ships has the conditions, a site or a condition does not exist, or as `record` and `t_map` say.

    Examples
    --------
    >>> maps = contrast(model, tokenizer, "sentences", "nonwords")  # doctest: +SKIP
    >>> maps.plot()  # doctest: +SKIP
    """
    kind = kind_for(reader)
    if stimuli is None:
        names = [one for side in (condition, baseline) for one in ([side] if isinstance(side, str) else side)]
        stimuli = stimuli_with(names, kind, MapChoices())
    shown = stimuli if isinstance(stimuli, ImageStimuli) else stimuli_from(stimuli)
    if (kind == "vision") != isinstance(shown, ImageStimuli):
        raise ValueError(
            f"the stimuli are {'images' if isinstance(shown, ImageStimuli) else 'texts'} and the reader "
            f"({type(reader).__name__}) is that of a {kind} model; give both of one kind"
        )
    if sites is None and not carried_sheets(model):
        sites = vision_layers(model) if kind == "vision" else suggested_sites(model)
    placed = own_layout(model, LAYOUTS[layout]) if isinstance(layout, str) else layout
    hear = KINDS[kind].record
    responses = hear(model, reader, shown, sites, placed, pooling=pooling, batch_size=batch_size)
    options = {"fwhm_mm": fwhm_mm, "n_draws": n_draws, "exchangeable": exchangeable, "null": null, "seed": seed}
    return control_fdr(t_map(responses, condition, baseline, **options))
