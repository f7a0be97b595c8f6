"""`topo map`: the maps of a trained run, or of any model laid out on sheets."""

from topographic.evaluation.mapping import MapCommand, map_model

__all__ = ["MapCommand", "map_model"]
