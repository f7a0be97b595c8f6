"""Layers as fractions of a model's depth, so that models of different depths compare."""

from collections.abc import Sequence

from torch import nn

from topographic.recording.sites import find_sites

__all__ = ["sites_at_depths"]


def sites_at_depths(model: nn.Module, depths: Sequence[float | int]) -> dict[str, float]:
    """Sites that lie at fractions of a model's depth.

    Parameters
    ----------
    model : nn.Module
        Any model with an embedding layer and numbered blocks.
    depths : sequence of float
        From 0, the embedding layer, to 1, the output of the last block. Of n blocks depth f is that of block
        ``round(f n)``, counted from 1.

    Returns
    -------
    dict of str to float
        Depth by site, in the order of the depths; those that name one site twice are given once.

    Raises
    ------
    ValueError
        If a depth lies outside 0 to 1, or the model has no such parts.

    Examples
    --------
    >>> from transformers import GPT2Config, GPT2Model
    >>> model = GPT2Model(GPT2Config(n_layer=4, n_embd=8, n_head=2, vocab_size=9, n_positions=8))
    >>> list(sites_at_depths(model, [0, 0.5, 1]))
    ['wte', 'h.1', 'h.3']
    """
    if not len(depths) or not all(0 <= depth <= 1 for depth in depths):
        raise ValueError(f"depths={list(depths)}; expected fractions from 0 (embedding) to 1 (last block)")
    blocks = find_sites(model, "resid")
    found: dict[str, float] = {}
    for depth in depths:
        number = int(depth * len(blocks) + 0.5)
        site = blocks[number - 1] if number else find_sites(model, "embed")[0]
        found.setdefault(site, float(depth))
    return found
