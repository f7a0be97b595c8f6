"""`TopoLMConfig`: the shape of the decoder and of its sheets."""

import functools
import math
import warnings
from typing import Literal, get_args, no_type_check

import torch
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from topographic.models.auto_map import NeverCopied, auto_map, write_loader
from topographic.sheets import LAYOUTS, Sheet, grid, head_tiles
from topographic.sheets.layouts import strip_warning

__all__ = ["TopoLMConfig"]

LayoutName = Literal["grid", "permuted_grid", "head_tiles"]
SheetPointName = Literal["pre_residual", "post_residual"]


@no_type_check  # the base class takes any key of a config.json, also those that are no fields here
class TopoLMConfig(NeverCopied, PreTrainedConfig):
    """Shape of a `TopoLMForCausalLM`; the defaults are the paper's model.

    Parameters
    ----------
    vocab_size, n_positions : int
        Tokens in the vocabulary and in the longest input.
    n_embd, n_layer, n_head : int
        Width (the units of every sheet), blocks, and heads per block, which must divide the width.
        ``hidden_size``, ``num_hidden_layers``, ``num_attention_heads`` and
        ``max_position_embeddings`` are other names for these and for ``n_positions``.
    n_inner : int, optional
        Width inside the MLP; four times ``n_embd`` by default.
    bias : bool
        Biases in linear maps and layer norms.
    dropout : float
        Dropout after the embeddings, on attention weights and after each branch.
    activation : str
        Activation of the MLP, one of ``transformers.activations.ACT2FN``; "gelu" is the exact one.
    layer_norm_epsilon, initializer_range : float
        As in GPT-2.
    tie_word_embeddings, use_cache : bool
        Output weights are the token embeddings; keep keys and values (never by default in training).
    bos_token_id, eos_token_id, pad_token_id : int, optional
        Special tokens of the tokenizer.
    sheet_point : {"pre_residual", "post_residual", "none"}
        What lies on the sheets: each branch's output before it is added to the stream (the paper's
        model), or the stream after the addition. Without sheets it is a plain GPT-2, the nanoGPT of TopoNets.
    head_tiles : bool
        Replace the attention's output projection by its concatenated heads, each a tile of the sheet.
    extra_projection : bool
        One more square linear map after attention, between a pre-residual sheet and the addition.
    layout : {"permuted_grid", "grid", "head_tiles"}
        Where the units lie at birth. A trained model keeps its positions in its checkpoint.
    layout_seed : int
        Seed of the permutations; every sheet of a model has its own.
    sheet_shape : (int, int), optional
        Rows and columns of the grids; the most nearly square rectangle by default.
    spacing_mm : float
        Distance between neighbouring units, in whole micrometres.
    wrap : bool
        Join opposite edges of every sheet (a torus).

    Raises
    ------
    ValueError
        If a value is out of range, or the width fits neither heads nor sheets.
    """

    model_type = "topolm"
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012 - the base class reads a plain list
    attribute_map = {  # noqa: RUF012 - the base class reads a plain dict
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }

    vocab_size: int = 50304
    n_positions: int = 1024
    n_embd: int = 784
    n_layer: int = 12
    n_head: int = 16
    n_inner: int | None = None
    bias: bool = False
    dropout: float = 0.0
    activation: str = "gelu"
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    tie_word_embeddings: bool = True
    use_cache: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None
    sheet_point: SheetPointName | Literal["none"] = "pre_residual"
    head_tiles: bool = False
    extra_projection: bool = False
    layout: LayoutName = "permuted_grid"
    layout_seed: int = 0
    sheet_shape: tuple[int, int] | list[int] | None = None
    spacing_mm: float = 1.0
    wrap: bool = False

    def __post_init__(self, **kwargs: object) -> None:
        """Let the base class take its own keys, then refuse what no model can be built from."""
        super().__post_init__(**kwargs)
        self.auto_map = auto_map(
            AutoConfig="TopoLMConfig",
            AutoModel="TopoLMModel",
            AutoModelForCausalLM="TopoLMForCausalLM",
            AutoModelForSequenceClassification="TopoLMForSequenceClassification",
        )
        if self.sheet_shape is not None:
            rows, columns = self.sheet_shape  # JSON gives a list
            self.sheet_shape = (rows, columns)
        self.check()
        if self.sheet_point != "none" and self.sheet_shape is None:
            tiled = self.layout == "head_tiles"
            layout = functools.partial(head_tiles, n_heads=self.n_head) if tiled else grid
            if (said := strip_warning(self.n_embd, layout, multiple_of=self.n_head)) is not None:
                warnings.warn(f"n_embd={self.n_embd}: {said}", stacklevel=2)

    def save_pretrained(self, save_directory, *args, **kwargs) -> None:
        """Write ``config.json`` and what loads it without `register`."""
        write_loader(save_directory, self.auto_map, "register")
        super().save_pretrained(save_directory, *args, **kwargs)

    def check(self) -> None:
        """Refuse what no model can be built from; models call it again, as fields may have been set since."""
        for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r}; expected a whole number of at least 1")
        if self.n_inner is not None and self.n_inner < 1:
            raise ValueError(f"n_inner={self.n_inner}; expected at least 1, or None for 4 x n_embd")
        if self.n_embd % self.n_head:
            raise ValueError(
                f"n_embd={self.n_embd} is not a multiple of n_head={self.n_head}; choose a number of heads that "
                "divides the width"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout}; expected a probability in [0, 1)")
        if self.activation not in ACT2FN:
            raise ValueError(
                f"activation={self.activation!r}; expected a name in transformers.activations.ACT2FN, such as 'gelu'"
            )
        choices = {"sheet_point": (*get_args(SheetPointName), "none"), "layout": get_args(LayoutName)}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r}; expected one of {list(allowed)}")
        if self.layout == "head_tiles" and self.sheet_shape is not None:
            raise ValueError(
                f"sheet_shape={self.sheet_shape} with layout='head_tiles', whose shape follows from the heads; "
                "leave sheet_shape out"
            )
        micrometres = self.spacing_mm * 1000
        if not (math.isfinite(micrometres) and round(micrometres) >= 1) or abs(micrometres - round(micrometres)) > 1e-6:
            raise ValueError(
                f"spacing_mm={self.spacing_mm}; expected a whole number of micrometres, such as 1.0 or 0.25"
            )
        for branch in ("attn", "mlp") if self.sheet_point != "none" else ():
            self.sheet(f"transformer.h.0.{branch}_sheet")

    def sheet(self, site: str) -> Sheet:
        """Sheet on which a new model places the units of one site; a trained one's `sheets()` may differ."""
        tissue = {"spacing_mm": self.spacing_mm, "wrap": self.wrap}
        with torch.device("cpu"):  # transformers builds models under the meta device, which holds no positions
            if self.layout == "head_tiles" or (self.head_tiles and site.endswith("attn_sheet")):
                return LAYOUTS["head_tiles"](self.n_embd, site, n_heads=self.n_head, **tissue)
            if self.layout == "permuted_grid":
                tissue["seed"] = self.layout_seed
            return LAYOUTS[self.layout](self.n_embd, site, shape=self.sheet_shape, **tissue)
