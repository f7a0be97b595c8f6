"""Queries, keys, values and outputs of attention, whatever a family of models calls them."""

from torch import nn

from topographic.recording import carried_sheets, find_sites
from topographic.recording.sites import modules_by_site

__all__ = ["ATTENTION_NAMES", "attention_sites"]

# last parts of the names of queries, keys, values and outputs
ATTENTION_NAMES: tuple[tuple[str, str, str, str], ...] = (
    ("q_proj", "k_proj", "v_proj", "o_proj"),  # Llama and its kin
    ("q_proj", "k_proj", "v_proj", "out_proj"),  # GPT-Neo, GPT-J, OPT
    ("query", "key", "value", "output.dense"),  # BERT, RoBERTa
    ("q_lin", "k_lin", "v_lin", "out_lin"),  # DistilBERT
    ("query", "key", "value", "dense"),
    ("q", "k", "v", "o"),  # T5
)


def attention_sites(model: nn.Module) -> list[str]:
    """The sheets that a model carries; of another, the maps that make queries, keys, values and outputs."""
    if carried := carried_sheets(model):
        return find_sites(model, list(carried))
    modules = modules_by_site(model)
    for names in ATTENTION_NAMES:
        queries = [site for site in modules if site.split(".")[-1] == names[0]]
        found = [_beside(site, names, modules) for site in queries]
        if found and all(found):
            return [site for four in found for site in four]
    raise ValueError(
        f"{type(model).__name__} has no queries, keys, values and outputs of their own under a name that is known "
        "(query, q_proj, q_lin ...); name modules with sites="
    )


def _beside(query: str, names: tuple[str, str, str, str], modules: dict[str, nn.Module]) -> list[str]:
    """The four maps of one attention; none if one is not there. Outputs may lie one module up, as in BERT."""
    parent, dot, _ = query.rpartition(".")
    above = parent.rpartition(".")[0] + dot if "." in parent else ""
    inside = [f"{parent}{dot}{name}" for name in names]
    if inside[3] not in modules:
        inside[3] = f"{above}{names[3]}"
    return inside if all(site in modules for site in inside) else []
