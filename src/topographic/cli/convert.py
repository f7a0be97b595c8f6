"""`topo convert`: a checkpoint of the authors of TopoLM or TopoNets in our format."""

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["ConvertCommand", "convert"]


@dataclass(frozen=True)
class ConvertCommand:
    """Read a checkpoint of TopoLM with its positions, or of nanoGPT as TopoNets releases it; write a model folder."""

    checkpoint: str
    """The .pt file, of either kind. Nothing in it is executed."""
    out: str
    """Folder to write: config.json, model.safetensors, and conversion.json, which says where they come from."""
    positions: str | None = None
    """TopoLM: folder with one .pkl of unit positions per sheet. Nothing in them is executed."""
    sheet_point: Literal["pre_residual", "post_residual"] | None = None
    """TopoLM: where the sheets lie, for checkpoints that do not say; pre_residual is the paper's model."""
    n_head: int | None = None
    """nanoGPT: attention heads, for checkpoints that do not say; 12 in the published models."""
    tokenizer: str | None = None
    """Name or folder of a tokenizer to store beside the model; theirs is that of gpt2."""


def convert(command: ConvertCommand) -> Path:
    """Read, check and write."""
    from topographic.models.convert import convert_checkpoint
    from topographic.recording import first_mlp_layers
    from topographic.runs.loading import load_tokenizer

    folder = Path(command.out)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        conversion = convert_checkpoint(
            command.checkpoint, command.positions, sheet_point=command.sheet_point, n_head=command.n_head
        )
    for warning in caught:
        print(f"topo convert: warning: {warning.message}", file=sys.stderr)
    config = conversion.model.config
    tokenizer = None if command.tokenizer is None else load_tokenizer(command.tokenizer, config.vocab_size)
    if tokenizer is not None:
        config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    conversion.save(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    if config.sheet_point == "none":
        sheets = (
            f"{config.n_layer} sheets of {4 * config.n_embd} units, the weights of {first_mlp_layers(conversion.model)}"
        )
    else:
        sheets = f"{len(conversion.model.sheets())} {config.sheet_point} sheets of {config.n_embd} units"
    print(f"{folder}: {sheets}" + ("; without a tokenizer, add one with tokenizer=gpt2" if tokenizer is None else ""))
    return folder
