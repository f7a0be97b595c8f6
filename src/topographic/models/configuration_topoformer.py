"""`TopoformerConfig`: the shape of the network, of its sheets, and how far its units reach on them."""

import functools
import math
import warnings
from typing import Literal, get_args, no_type_check

import torch
from jaxtyping import Bool
from torch import Tensor
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from topographic.layers import NORMALIZATIONS, RECEPTIVE_FIELDS, LateralSmoothing, receptive_fields
from topographic.models.auto_map import NeverCopied, auto_map, write_loader
from topographic.sheets import Sheet, grid, head_tiles
from topographic.sheets.layouts import strip_warning

__all__ = ["TopoformerConfig"]

Mechanism = Literal["querying", "reweighting"]


@no_type_check  # the base class takes any key of a config.json, also those that are no fields here
class TopoformerConfig(NeverCopied, PreTrainedConfig):
    """Shape of a Topoformer; the defaults are the published BERT of 16 layers.

    Parameters
    ----------
    vocab_size, n_positions : int
        Tokens in the vocabulary and in the longest input.
    n_embd, n_layer, n_head : int
        Width (the units of every sheet), blocks, and heads per block, which must divide the width; one as published.
        ``hidden_size``, ``num_hidden_layers``, ``num_attention_heads`` and ``max_position_embeddings`` are other names.
    n_inner : int, optional
        Outputs of the first map of the MLP, of which a gated one multiplies one half with the other; four times
        ``n_embd`` by default.
    activation : str
        Activation of the MLP, one of ``transformers.activations.ACT2FN``.
    gated : bool
        Whether the MLP is gated.
    norm : {"pre", "post"}
        Whether branches are normalised before them, with one more norm at the end, or the stream after them.
    positions : {"learned", "sinusoidal"}
        Embeddings of positions; sinusoids have one learned scale.
    bias : bool
        Biases in linear maps and layer norms; the keys, queries, values and outputs of attention included.
    dropout : float
        Dropout after the embeddings and after each branch.
    layer_norm_epsilon, initializer_range : float
        As in BERT.
    querying_fraction : float, optional
        Share of a sheet over which queries are pooled (spatial querying); None for plain queries.
    reweighting_fraction : float, optional
        Share of a sheet from which an output unit is made (spatial reweighting); None for a plain output projection.
    querying : {"spatial", "local"}
        Pool the queries; or make queries, keys and values by locally connected maps of either sign, from a stream
        that lies on the same sheet.
    fields : {"circular", "gaussian", "full"}
        As in `topographic.layers.receptive_fields`. A control without locality has "full" and keeps all else.
    fields_seed : int
        Decides "gaussian" fields.
    normalization : {"frobenius", "row"}
        What pooled queries are divided by: as published, or the number of units.
    column_gains : bool
        Learned factors of the columns of the pooling matrix.
    non_negative : bool
        Whether weights of spatial reweighting are absolute, as published.
    rectified : bool
        ReLU on queries, keys, values, what is attended to, and outputs.
    head_sheets : {"tiles", "own"}
        Several heads are tiles of one sheet, across whose borders fields reach; or each has a sheet of its own, where
        outputs are made of the same place in every head.
    lateral_sigma_mm : float, optional
        Reach of fixed lateral connections between the outputs of every branch (`topographic.layers.LateralSmoothing`);
        None for none.
    lateral_strength : float
        Their strength, up to 1, where every unit is what its neighbourhood is.
    is_causal : bool
        Attend to earlier tokens only; `TopoformerForCausalLM` sets it.
    classifier_width : int, optional
        Of a hidden layer between pooled text and labels; None for none, as in the published classifier.
    sheet_shape : (int, int), optional
        Rows and columns, for widths that are no square; of a head where each has its own sheet.
    spacing_mm : float
        Distance between neighbouring units.
    wrap : bool
        Join opposite edges of every sheet, as published.
    tie_word_embeddings, use_cache : bool
        Output weights are the token embeddings; keep keys and values in generation.
    bos_token_id, eos_token_id, pad_token_id : int, optional
        Special tokens of the tokenizer.

    Raises
    ------
    ValueError
        If a value is out of range, or the width is no square and has no ``sheet_shape``.
    """

    model_type = "topoformer"
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012 - the base class reads a plain list
    attribute_map = {  # noqa: RUF012 - the base class reads a plain dict
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }

    vocab_size: int = 32768
    n_positions: int = 128
    n_embd: int = 784
    n_layer: int = 16
    n_head: int = 1
    n_inner: int | None = 3072
    activation: str = "gelu"
    gated: bool = True
    norm: Literal["pre", "post"] = "pre"
    positions: Literal["learned", "sinusoidal"] = "sinusoidal"
    bias: bool = False
    dropout: float = 0.1
    layer_norm_epsilon: float = 1e-12
    initializer_range: float = 0.02
    querying_fraction: float | None = 0.3
    reweighting_fraction: float | None = 0.3
    querying: Literal["spatial", "local"] = "spatial"
    fields: Literal["circular", "gaussian", "full"] = "circular"
    fields_seed: int = 0
    normalization: Literal["frobenius", "row"] = "frobenius"
    column_gains: bool = False
    non_negative: bool = True
    rectified: bool = False
    head_sheets: Literal["tiles", "own"] = "tiles"
    lateral_sigma_mm: float | None = None
    lateral_strength: float = 1.0
    is_causal: bool = False
    classifier_width: int | None = 1024
    sheet_shape: tuple[int, int] | list[int] | None = None
    spacing_mm: float = 1.0
    wrap: bool = True
    tie_word_embeddings: bool = True
    use_cache: bool = True
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | None = None

    def __post_init__(self, **kwargs: object) -> None:
        """Let the base class take its own keys, then refuse what no model can be built from."""
        super().__post_init__(**kwargs)
        self.auto_map = auto_map(
            AutoConfig="TopoformerConfig",
            AutoModel="TopoformerModel",
            AutoModelForCausalLM="TopoformerForCausalLM",
            AutoModelForMaskedLM="TopoformerForMaskedLM",
            AutoModelForSequenceClassification="TopoformerForSequenceClassification",
        )
        if self.sheet_shape is not None:
            rows, columns = self.sheet_shape  # JSON gives a list
            self.sheet_shape = (rows, columns)
        self.check()
        layout = functools.partial(head_tiles, n_heads=self.n_head) if self.tiled else grid
        said = None if self.sheet_shape else strip_warning(self.units_of_a_sheet, layout, multiple_of=self.n_head)
        if said is not None:
            warnings.warn(f"n_embd={self.n_embd}: {said}", stacklevel=2)

    def save_pretrained(self, save_directory, *args, **kwargs) -> None:
        """Write ``config.json`` and what loads it without `register_topoformer`."""
        write_loader(save_directory, self.auto_map, "register_topoformer")
        super().save_pretrained(save_directory, *args, **kwargs)

    @property
    def tiled(self) -> bool:
        """Whether several heads share a sheet."""
        return self.n_head > 1 and self.head_sheets == "tiles"

    @property
    def units_of_a_sheet(self) -> int:
        """All units, or those of a head where each has its own sheet."""
        return self.n_embd if self.head_sheets == "tiles" else self.n_embd // self.n_head

    def check(self) -> None:
        """Refuse what no model can be built from; models call it again, as fields may have been set since."""
        for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r}; expected a whole number of at least 1")
        for name in ("n_inner", "classifier_width"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}; expected at least 1, or None")
        if self.gated and (self.n_inner or 4 * self.n_embd) % 2:
            raise ValueError(f"n_inner={self.n_inner} with gated=True, which halves it; give an even number")
        if self.n_embd % self.n_head:
            raise ValueError(
                f"n_embd={self.n_embd} is not a multiple of n_head={self.n_head}; choose a number of heads that "
                "divides the width"
            )
        for name in ("querying_fraction", "reweighting_fraction"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(
                    f"{name}={value}; expected a share of the sheet above 0 and at most 1, or None for no such locality"
                )
        if self.lateral_sigma_mm is not None and self.n_head > 1 and self.head_sheets == "own":
            raise ValueError(
                f"lateral_sigma_mm={self.lateral_sigma_mm} with a sheet for every head, and outputs that join them; "
                "set head_sheets='tiles', or leave it out"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout}; expected a probability in [0, 1)")
        if self.activation not in ACT2FN:
            raise ValueError(
                f"activation={self.activation!r}; expected a name in transformers.activations.ACT2FN, such as 'gelu'"
            )
        choices = {"norm": ("pre", "post"), "positions": ("learned", "sinusoidal"), "querying": ("spatial", "local")}
        choices |= {"fields": tuple(RECEPTIVE_FIELDS), "normalization": tuple(NORMALIZATIONS)}
        for name, allowed in {**choices, "head_sheets": ("tiles", "own")}.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r}; expected one of {list(allowed)}")
        if self.column_gains and (self.querying != "spatial" or self.querying_fraction is None):
            raise ValueError("column_gains=True without spatial querying, whose columns they scale; leave them out")
        self._check_shape()
        self.sheet("h.0.attn.query_sheet")
        self.lateral()

    def _check_shape(self) -> None:
        if self.sheet_shape is not None and self.tiled:
            raise ValueError(
                f"sheet_shape={self.sheet_shape} with heads as tiles, from which the shape follows; leave it out, or "
                "set head_sheets='own'"
            )
        width, units = self.n_embd, self.n_embd // self.n_head
        square = math.isqrt(units) ** 2 == units
        if self.sheet_shape is None and not square:
            low, high = (self.n_head * (math.isqrt(units) + more) ** 2 for more in (0, 1))
            raise ValueError(
                f"n_embd={width} with n_head={self.n_head} gives a head {units} units, no square; choose {low} or "
                f"{high}" + ("" if self.tiled else ", or give sheet_shape=(rows, columns)")
            )

    def sheet(self, site: str) -> Sheet:
        """Sheet on which the units of a site lie."""
        tissue = {"spacing_mm": self.spacing_mm, "wrap": self.wrap}
        with torch.device("cpu"):  # transformers builds models under the meta device, which holds no positions
            if self.tiled:
                return head_tiles(self.n_embd, site, n_heads=self.n_head, **tissue)
            shape = None if self.sheet_shape is None else (self.sheet_shape[0], self.sheet_shape[1])
            return grid(self.units_of_a_sheet, site, shape=shape, **tissue)

    def lateral(self) -> LateralSmoothing | None:
        """Fixed lateral connections of one branch; None without any."""
        if self.lateral_sigma_mm is None:
            return None
        with torch.device("cpu"):
            places = self.sheet("lateral")
            return LateralSmoothing(places, sigma_mm=self.lateral_sigma_mm, strength=self.lateral_strength)

    def receptive_fields(self, mechanism: Mechanism) -> Bool[Tensor, "units units"] | None:
        """Fields of the units of a sheet; None where nothing is local."""
        if mechanism not in get_args(Mechanism):
            raise ValueError(f"mechanism={mechanism!r}; expected one of {list(get_args(Mechanism))}")
        fraction = getattr(self, f"{mechanism}_fraction")
        if fraction is None:
            return None
        with torch.device("cpu"):
            return receptive_fields(self.sheet(mechanism), fraction, self.fields, seed=self.fields_seed)

    def map_fields(self, mechanism: Mechanism) -> Bool[Tensor, "width width"] | None:
        """Fields of a map of all units to all; where heads have sheets of their own, of the same place in each."""
        fields = self.receptive_fields(mechanism)
        if fields is None or self.head_sheets == "tiles":
            return fields
        return fields.repeat(self.n_head, self.n_head)
