"""`topo convert`: a checkpoint of TopoLM's authors in our format."""

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from topographic.cli.map import load_tokenizer

__all__ = ["ConvertCommand", "convert"]


@dataclass(frozen=True)
class ConvertCommand:
    """Read a checkpoint and its positions as TopoLM's authors store them, and write a model folder."""

    checkpoint: str
    """The .pt file. Nothing in it is executed."""
    positions: str
    """Folder with one .pkl of unit positions per sheet. Nothing in them is executed."""
    out: str
    """Folder to write: config.json, model.safetensors, and conversion.json, which says where they come from."""
    sheet_point: Literal["pre_residual", "post_residual"] | None = None
    """Where the sheets lie, for checkpoints that do not say; pre_residual is the paper's model."""
    tokenizer: str | None = None
    """Name or folder of a tokenizer to store beside the model; theirs is that of gpt2."""


def convert(command: ConvertCommand) -> Path:
    """Read, check and write.

    Parameters
    ----------
    command : ConvertCommand
        What to convert.

    Returns
    -------
    Path
        The model folder.

    Raises
    ------
    ValueError
        If there is no such tokenizer, or it knows more tokens than the model.
    """
    from topographic.models.convert import convert_checkpoint

    folder = Path(command.out)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        conversion = convert_checkpoint(command.checkpoint, command.positions, sheet_point=command.sheet_point)
    for warning in caught:
        print(f"topo convert: warning: {warning.message}", file=sys.stderr)
    config = conversion.model.config
    tokenizer = None if command.tokenizer is None else load_tokenizer(command.tokenizer, config.vocab_size)
    if tokenizer is not None:
        config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    conversion.save(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    sheets = f"{len(conversion.model.sheets())} {config.sheet_point} sheets of {config.n_embd} units"
    print(f"{folder}: {sheets}" + ("; without a tokenizer, add one with tokenizer=gpt2" if tokenizer is None else ""))
    return folder
