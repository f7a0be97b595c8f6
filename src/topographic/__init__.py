"""Networks whose units lie on a cortical sheet: train them, see the maps, test them honestly.

The functions and classes one calls, each loaded when it is first touched; the rooms (`topographic.maps` and so on) hold
more, and docs/architecture.md says which room holds what. In a notebook::

    import topographic as tg

    model, tokenizer = tg.load("runs/demo/topographic")             # or a hub name, a folder, a .gguf
    maps = tg.contrast(model, tokenizer, "sentences", "nonwords")   # {site: UnitMap}, with nulls, corrected over sites
    maps.plot()
    tg.morans_i(maps).to_frame()
    with tg.ablate(model, tg.clusters(maps)[0]):
        ...

Examples
--------
>>> import topographic as tg
>>> tg.grid(784)
Sheet('sheet', 784 units, sheet, extent_mm=(27.0, 27.0))
>>> "morans_i" in dir(tg)
True
"""

import importlib
from typing import Any

__version__ = "0.1.0"

# every door is one line: its name, the room, and its name there if that is another
_DOORS = {
    "ImageStimuli": "stimuli",
    "Maps": "maps",
    "Objective": "objectives",
    "Responses": "recording",
    "Selection": "maps",
    "Sheet": "sheets",
    "SpatialCorrelation": "objectives",
    "StimulusSet": "stimuli",
    "UnitMap": "maps",
    "WeightSmoothness": "objectives",
    "ablate": "interventions",
    "cluster_mass_test": "maps",
    "clusters": "maps",
    "contrast": "evaluation",
    "control_fdr": "maps",
    "draw_map": "plots",
    "draw_maps": "plots",
    "drive": "interventions",
    "edit": "recording",
    "effect_size_map": "maps",
    "evaluate": "evaluation",
    "fit_assignment": "layouts",
    "fit_layout": "layouts",
    "fit_rotation": "layouts",
    "grid": "sheets",
    "lesion_effects": "interventions",
    "load": "runs",
    "load_localizer": "stimuli",
    "localize": "maps",
    "minimal_pairs": "behaviour",
    "morans_i": "maps",
    "perplexity": "behaviour",
    "readout": "recording",
    "rebased": "layouts",
    "record": "recording",
    "record_images": "recording",
    "select": "maps",
    "select_top": "maps",
    "sites": "recording.list_sites",
    "t_map": "maps",
    "tap": "recording",
    "train": "training",
}
_ROOMS = ("stimuli",)  # that are called themselves: topographic.stimuli("my.csv")

__all__ = ["__version__", *_DOORS, *_ROOMS]


def __getattr__(name: str) -> Any:
    """Open a door: import its room when it is first touched."""
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _DOORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; dir({__name__}) lists those it has")
    room, _, known_as = _DOORS[name].partition(".")
    found = globals()[name] = getattr(importlib.import_module(f"{__name__}.{room}"), known_as or name)
    return found


def __dir__() -> list[str]:
    """The doors and what was imported already."""
    return sorted({*globals(), *__all__})
