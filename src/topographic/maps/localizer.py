"""The localizer: which units respond to a condition more than to its baseline."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import false_discovery_control

from topographic.maps.collection import Maps
from topographic.maps.contrasts import Conditions, effect_size_map, t_map
from topographic.maps.independence import item_digests
from topographic.maps.length import length_adjusted_map, match_length
from topographic.maps.selection import Selection
from topographic.maps.thresholds import control_fdr, select, select_top
from topographic.maps.two_sample import STATISTICS
from topographic.maps.unit_map import UnitMap
from topographic.recording.responses import Responses
from topographic.sheets import Sheet
from topographic.stimuli.stimulus_set import StimulusSet
from topographic.storage import code_version, digest, load_json, locked, save_json, write_folder_atomically

__all__ = [
    "LENGTHS",
    "LOCALIZER_RULES",
    "load_or_localize",
    "localize",
    "localizer_maps",
    "one_stimulus_set",
]

DrawnMaps = Float[np.ndarray, "draws units"]
DrawnMasks = Bool[np.ndarray, "draws units"]


def localize(
    responses: Mapping[str, Responses],
    condition: Conditions,
    baseline: Conditions,
    *,
    rule: str = "q",
    level: float | None = None,
    length: str = "none",
    fwhm_mm: float = 0.0,
    seed: int = 0,
) -> dict[str, Selection]:
    """The units of all sites that respond more to the condition than to the baseline.

    Parameters
    ----------
    responses : mapping of site to Responses
        What `record` returns: several sites, one stimulus set.
    condition, baseline : str or sequence of str
        Names of the conditions, such as "sentences" and "nonwords".
    rule : {"q", "top", "effect_size"}
        "q": Benjamini-Hochberg adjusted p over all units of all sites below ``level`` and t > 0, the rule of TopoLM.
        "top": the share ``level`` of all units with the largest t, if positive. "effect_size": Cohen's d above
        ``level``.
    level : float, optional
        .05, .01 and .8 by default.
    length : {"none", "matched", "regressed"}
        What is done about a different number of tokens: nothing, `match_length`, or `length_adjusted_map`.
    fwhm_mm : float
        Gaussian readout before the contrast; 0 for none. With a readout the selections hold readout sites, which
        interventions refuse.
    seed : int
        Seed of the items that "matched" keeps.

    Returns
    -------
    dict of site to Selection
        One per site, perhaps empty. Provenance holds the contrast, the rule and, as "items", digests of the items by
        which the units were chosen, so that `response_profile` can tell independent data.

    Raises
    ------
    ValueError
        If there are no sites or they saw different stimuli, a condition does not exist or has too few items, the
        rule or the treatment of length is unknown, or the level makes no sense.

    References
    ----------
    Fedorenko et al. 2010, J Neurophysiol 104; TopoLM (arXiv:2410.11516), section 4.2; for the top 1 % of all units
    AlKhamissi et al. 2025, The LLM language network.

    Notes
    -----
    With hundreds of items q < .05 calls half of a trained model selective: significance grows with the number of
    items, selectivity does not. "top" and "effect_size" do not depend on it.
    """
    if rule not in LOCALIZER_RULES:
        raise ValueError(f"rule={rule!r}; expected one of {sorted(LOCALIZER_RULES)}")
    chosen = LOCALIZER_RULES[rule]
    level = chosen.level if level is None else level
    options = {"statistic": chosen.statistic, "length": length, "fwhm_mm": fwhm_mm, "seed": seed}
    selections = chosen.choose(localizer_maps(responses, condition, baseline, **options), level)
    made = {"localizer_rule": rule, "level": level}
    return {site: replace(one, provenance={**one.provenance, **made}) for site, one in selections.items()}


def localizer_maps(
    responses: Mapping[str, Responses],
    condition: Conditions,
    baseline: Conditions,
    *,
    statistic: str = "welch_t",
    length: str = "none",
    fwhm_mm: float = 0.0,
    seed: int = 0,
) -> Maps:
    """The maps a localizer selects from.

    Parameters
    ----------
    responses, condition, baseline, length, fwhm_mm, seed
        As in `localize`.
    statistic : {"welch_t", "cohens_d"}
        t, or effect size.

    Returns
    -------
    Maps
        One per site, those of t with p and q over all units of all sites. Without null maps.

    Raises
    ------
    ValueError
        As `localize`.
    """
    if length not in LENGTHS:
        raise ValueError(f"length={length!r}; expected one of {sorted(LENGTHS)}")
    if statistic not in STATISTICS:
        raise ValueError(f"statistic={statistic!r}; expected one of {sorted(STATISTICS)}")
    one_stimulus_set(responses)
    made = LENGTHS[length](responses, condition, baseline, statistic=statistic, fwhm_mm=fwhm_mm, seed=seed)
    maps = {site: _remembering(one, responses[site], length) for site, one in made.items()}
    return control_fdr(maps) if statistic == "welch_t" else Maps(maps)


def load_or_localize(
    respond: Callable[[], Mapping[str, Responses]],
    condition: Conditions,
    baseline: Conditions,
    *,
    cache_folder: str | Path,
    model_checksum: str,
    sheets: Mapping[str, Sheet],
    stimuli: StimulusSet,
    **rule: Any,
) -> dict[str, Selection]:
    """A network from the cache, or localized now and kept there.

    Parameters
    ----------
    respond : callable
        Records the responses; called only if the cache does not hold the network.
    condition, baseline : str or sequence of str
        As in `localize`.
    cache_folder : str or Path
        Folder for networks, each in a folder of its own, whose name is the checksum of all that decides it: what is
        given here, and the code that localizes. Who finds it locked waits: another process makes the same network.
    model_checksum : str
        `topographic.recording.checksum.weights_checksum` of the model, and whatever else decides its responses:
        the tokenizer's checksum, the pooling.
    sheets : mapping of str to Sheet
        The sheet of every site.
    stimuli : StimulusSet
        What `respond` shows.
    **rule
        Further arguments of `localize`.

    Returns
    -------
    dict of site to Selection
        As `localize` returns it.

    Raises
    ------
    ValueError
        As `localize`; also if the recorded sheets or stimuli are not those given.
    """
    names = [[names] if isinstance(names, str) else list(names) for names in (condition, baseline)]
    key = {"code": code_version(__name__), "model": model_checksum, "stimuli": stimuli.checksum}
    key |= {"sites": list(sheets), "sheets": [sheet.checksum for sheet in sheets.values()]}
    key |= {"conditions": names, "rule": rule}
    folder = Path(cache_folder) / digest(key)[:16]
    if not _is_kept(folder, key):
        with locked(folder, wait=True):
            if not _is_kept(folder, key):
                responses = respond()
                _check_recorded(responses, sheets, stimuli)
                found = localize(responses, condition, baseline, **rule)
                with write_folder_atomically(folder) as staging:
                    for index, site in enumerate(sheets):
                        found[site].save(staging / f"{index}.safetensors")
                    save_json(staging / "network.json", key)
    return {site: Selection.load(folder / f"{index}.safetensors") for index, site in enumerate(sheets)}


def _is_kept(folder: Path, key: Mapping[str, Any]) -> bool:
    return (folder / "network.json").is_file() and load_json(folder / "network.json") == key


def one_stimulus_set(responses: Mapping[str, Responses]) -> StimulusSet:
    """The stimuli that all sites saw."""
    if not responses:
        raise ValueError("no sites to localize in; expected {site: Responses}: give at least one")
    sets = {one.stimuli.checksum: one.stimuli for one in responses.values()}
    if len(sets) > 1:
        raise ValueError(f"the sites saw {len(sets)} different stimulus sets; expected one: record them together")
    return next(iter(sets.values()))


def _check_recorded(responses: Mapping[str, Responses], sheets: Mapping[str, Sheet], stimuli: StimulusSet) -> None:
    shown = one_stimulus_set(responses)
    if shown.checksum != stimuli.checksum:
        raise ValueError(f"the responses are to {shown!r}, not to {stimuli!r}; give the stimuli that were recorded")
    differing = [
        site
        for site in {**sheets, **responses}
        if site not in sheets or site not in responses or responses[site].sheet.checksum != sheets[site].checksum
    ]
    if differing:
        raise ValueError(
            f"the sheet given for {differing[0]!r} is not the one it was recorded with ({len(differing)} sites "
            "differ); give the sheets of this model, {site: responses[site].sheet}"
        )


def _remembering(unit_map: UnitMap, responses: Responses, length: str) -> UnitMap:
    """The map, with what length was given and which items it was made from."""
    stimuli = responses.stimuli
    compared = [*unit_map.provenance["condition"], *unit_map.provenance["baseline"]]
    items = [item for item, name in zip(stimuli.items, stimuli.conditions, strict=True) if name in compared]
    return replace(unit_map, provenance={**unit_map.provenance, "length": length, "items": item_digests(items)})


def _as_they_are(
    responses: Mapping[str, Responses],
    condition: Conditions,
    baseline: Conditions,
    *,
    statistic: str,
    fwhm_mm: float,
    seed: int,
) -> dict[str, UnitMap]:
    make = {"welch_t": t_map, "cohens_d": effect_size_map}[statistic]
    return dict(make(responses, condition, baseline, fwhm_mm=fwhm_mm))


def _matched(
    responses: Mapping[str, Responses],
    condition: Conditions,
    baseline: Conditions,
    *,
    statistic: str,
    fwhm_mm: float,
    seed: int,
) -> dict[str, UnitMap]:
    kept = match_length(responses, condition, baseline, seed=seed)
    return _as_they_are(kept, condition, baseline, statistic=statistic, fwhm_mm=fwhm_mm, seed=seed)


def _regressed(
    responses: Mapping[str, Responses],
    condition: Conditions,
    baseline: Conditions,
    *,
    statistic: str,
    fwhm_mm: float,
    seed: int,
) -> dict[str, UnitMap]:
    options = {"statistic": statistic, "fwhm_mm": fwhm_mm}
    return {site: length_adjusted_map(one, condition, baseline, **options) for site, one in responses.items()}


def _passing_fdr(maps: Mapping[str, UnitMap], level: float) -> dict[str, Selection]:
    return {site: select(one, q=level) for site, one in maps.items()}


def _strong(maps: Mapping[str, UnitMap], level: float) -> dict[str, Selection]:
    if not (np.isfinite(level) and level > 0):
        raise ValueError(f"level={level}; expected an effect size above 0, such as 0.8")
    rule = f"Cohen's d > {level:g}"
    return {site: Selection(site, one.values > level, one.sheet, rule, one.provenance) for site, one in maps.items()}


def _drawn_passing_fdr(values: DrawnMaps, p: DrawnMaps, level: float) -> DrawnMasks:
    masks, tested = np.zeros(p.shape, bool), ~np.isnan(p[0])
    masks[:, tested] = false_discovery_control(p[:, tested].astype(np.float64), axis=1) < level
    return masks & (values > 0)


def _drawn_top(values: DrawnMaps, p: DrawnMaps, level: float) -> DrawnMasks:
    n_chosen, masks = max(1, round(level * int((~np.isnan(values[0])).sum()))), np.zeros(values.shape, bool)
    largest = np.argsort(np.where(values > 0, -values, np.inf), axis=1, kind="stable")[:, :n_chosen]
    np.put_along_axis(masks, largest, True, axis=1)
    return masks & (values > 0)


def _drawn_strong(values: DrawnMaps, p: DrawnMaps, level: float) -> DrawnMasks:
    return values > level


class _Rule(NamedTuple):
    """Which map a rule reads, its usual level, and how it chooses: from maps, or from all draws of a null at once.

    Draws hold the units of all sites side by side, NaN where a map has no value.
    """

    statistic: str
    level: float
    choose: Callable[[Mapping[str, UnitMap], float], dict[str, Selection]]
    choose_drawn: Callable[[DrawnMaps, DrawnMaps, float], DrawnMasks]


LOCALIZER_RULES = {
    "q": _Rule("welch_t", 0.05, _passing_fdr, _drawn_passing_fdr),
    "top": _Rule("welch_t", 0.01, select_top, _drawn_top),
    "effect_size": _Rule("cohens_d", 0.8, _strong, _drawn_strong),
}
LENGTHS = {"none": _as_they_are, "matched": _matched, "regressed": _regressed}
