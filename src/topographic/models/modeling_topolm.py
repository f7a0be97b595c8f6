"""`TopoLMForCausalLM`: a GPT-2-style decoder whose branches lie on cortical sheets, and a classifier on top of it."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from einops import rearrange
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GenerationMixin,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache, DynamicCache
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    SequenceClassifierOutputWithPast,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from topographic.models.auto_map import NeverCopied
from topographic.models.configuration_topolm import TopoLMConfig
from topographic.sheets import Sheet

__all__ = ["SheetPoint", "TopoLMForCausalLM", "TopoLMForSequenceClassification", "TopoLMModel", "register_topolm"]


class SheetPoint(nn.Module):
    """A place in the network whose units lie on a sheet: the identity, and the positions of the units.

    Positions are whole micrometres: ``.half()``, ``.bfloat16()`` and checkpoints in low precision
    leave integers alone, where they would round floating-point positions.

    Parameters
    ----------
    site : str
        Name of the site inside `TopoLMForCausalLM`.
    n_units : int
        Number of units.
    """

    positions_um: Tensor
    extent_um: Tensor

    def __init__(self, site: str, n_units: int) -> None:
        super().__init__()
        self.site = site
        # filled by `_init_weights` or from a checkpoint; here the model may still be on the meta device
        self.register_buffer("positions_um", torch.zeros(n_units, 2, dtype=torch.int32))
        self.register_buffer("extent_um", torch.zeros(2, dtype=torch.int32))

    def forward(self, activations: Tensor) -> Tensor:
        """Return the activations, shape (batch, tokens, units), as they are, for hooks to hear or edit."""
        return activations

    def sheet(self, name: str, *, wrap: bool) -> Sheet:
        """Sheet of all units with the positions held here."""
        if self.positions_um.is_meta:
            raise ValueError(f"the positions of {name!r} are on the meta device; load or initialize the model first")
        extent = tuple((self.extent_um.cpu().double() / 1000).tolist())
        return Sheet(name=name, positions_mm=self.positions_um.cpu().double() / 1000, extent_mm=extent, wrap=wrap)


class BranchOutput(nn.Linear):
    """Linear map whose output is added to the stream; it is born with smaller weights."""


class TopoLMAttention(nn.Module):
    """Causal self-attention with several heads."""

    def __init__(self, config: TopoLMConfig, layer_idx: int) -> None:
        super().__init__()
        self.config, self.layer_idx, self.is_causal = config, layer_idx, True
        width, bias = config.n_embd, config.bias
        self.c_attn = nn.Linear(width, 3 * width, bias=bias)
        self.c_proj = nn.Identity() if config.head_tiles else BranchOutput(width, width, bias=bias)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(
        self, hidden_states: Tensor, attention_mask: Any = None, past_key_values: Cache | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Branch output, shape (batch, tokens, width), and attention weights where they are computed."""
        query, key, value = rearrange(
            self.c_attn(hidden_states), "b t (three h d) -> three b h t d", three=3, h=self.config.n_head
        ).unbind(0)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation or "eager", eager_attention_forward
        )
        dropout = self.config.dropout if self.training else 0.0
        heads, weights = attend(
            self, query, key, value, attention_mask, dropout=dropout, scaling=query.shape[-1] ** -0.5, **kwargs
        )
        return self.resid_dropout(self.c_proj(rearrange(heads, "b t h d -> b t (h d)"))), weights


# NOTE some versions of transformers look for this very name in the source before they allow "eager"
def eager_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Attention written out, for ``attn_implementation="eager"``, which also gives the weights.

    ``softmax(Q K' * scaling + mask) V``, the softmax in float32 or better.
    """
    scores = query @ key.transpose(-1, -2) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(value.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class TopoLMMLP(nn.Module):
    """Two linear maps with an activation between them."""

    def __init__(self, config: TopoLMConfig) -> None:
        super().__init__()
        inner = config.n_inner or 4 * config.n_embd
        self.c_fc = nn.Linear(config.n_embd, inner, bias=config.bias)
        self.act = ACT2FN[config.activation]
        self.c_proj = BranchOutput(inner, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Branch output, shape (batch, tokens, width)."""
        return self.dropout(self.c_proj(self.act(self.c_fc(hidden_states))))


class TopoLMBlock(GradientCheckpointingLayer):
    """Attention and MLP, each normalised before, added to the stream after, and laid on a sheet."""

    def __init__(self, config: TopoLMConfig, layer_idx: int) -> None:
        super().__init__()
        self.sheet_point = config.sheet_point
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon, bias=config.bias)
        self.attn = TopoLMAttention(config, layer_idx)
        self.attn_sheet = _sheet_point(config, f"transformer.h.{layer_idx}.attn_sheet")
        extra = config.extra_projection
        self.attn_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias) if extra else nn.Identity()
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon, bias=config.bias)
        self.mlp = TopoLMMLP(config)
        self.mlp_sheet = _sheet_point(config, f"transformer.h.{layer_idx}.mlp_sheet")

    def forward(
        self, hidden_states: Tensor, attention_mask: Any = None, past_key_values: Cache | None = None, **kwargs: Any
    ) -> Tensor:
        """Stream after the block, shape (batch, tokens, width)."""
        attended, _ = self.attn(
            self.ln_1(hidden_states), attention_mask=attention_mask, past_key_values=past_key_values, **kwargs
        )
        if self.sheet_point != "post_residual":
            hidden_states = hidden_states + self.attn_proj(self.attn_sheet(attended))
            return hidden_states + self.mlp_sheet(self.mlp(self.ln_2(hidden_states)))
        hidden_states = self.attn_sheet(hidden_states + self.attn_proj(attended))
        return self.mlp_sheet(hidden_states + self.mlp(self.ln_2(hidden_states)))


def _sheet_point(config: TopoLMConfig, site: str) -> nn.Module:
    return nn.Identity() if config.sheet_point == "none" else SheetPoint(site, config.n_embd)


class TopoLMPreTrainedModel(NeverCopied, PreTrainedModel):
    """What the decoder with and without its output layer share: initial weights, loading, sheets."""

    config: TopoLMConfig
    config_class = TopoLMConfig
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _no_split_modules = ["TopoLMBlock"]  # noqa: RUF012 - the base class reads plain lists and dicts
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {"hidden_states": TopoLMBlock, "attentions": TopoLMAttention}  # noqa: RUF012

    def __init__(self, config: TopoLMConfig, *inputs: Any, **kwargs: Any) -> None:
        config.check()
        super().__init__(config, *inputs, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Normal(0, 0.02), branch outputs smaller by sqrt(2 x blocks) as in GPT-2; units where the layout says."""
        super()._init_weights(module)
        if isinstance(module, SheetPoint):
            positions, extent = _micrometres(self.config.sheet(module.site))
            init.copy_(module.positions_um, positions)
            init.copy_(module.extent_um, extent)
        elif isinstance(module, BranchOutput):
            # not at their parents, as GPT-2 has it: transformers skips modules of ours without weights of their own
            init.normal_(module.weight, std=self.config.initializer_range / math.sqrt(2 * self.config.n_layer))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load a model with its positions; as `transformers.PreTrainedModel.from_pretrained`."""
        try:
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        except SafetensorError as error:
            raise ValueError(
                f"the weights in {pretrained_model_name_or_path} are truncated or not safetensors ({error}); "
                "copy or save the model again"
            ) from error

    def sheets(self) -> dict[str, Sheet]:
        """Sheet of every site, from the positions this model holds."""
        return {site: point.sheet(site, wrap=self.config.wrap) for site, point in self._sheet_points().items()}

    def set_sheets(self, sheets: Mapping[str, Sheet]) -> None:
        """Place the units of some sites anew; the positions are kept to the micrometre."""
        points = self._sheet_points()
        for site, sheet in sheets.items():
            if site not in points:
                raise ValueError(f"no site {site!r} in this model; expected some of {list(points)}")
            n_units = len(points[site].positions_um)
            if sheet.n_units != n_units:
                raise ValueError(f"site {site!r} has {n_units} units and the sheet {sheet.n_units}; give one per unit")
            if sheet.positions_mm.shape[1] != 2 or sheet.edges is not None or sheet.is_readout:
                raise ValueError(f"site {site!r}: {sheet!r} is a mesh or a readout; expected units on a plane")
            if sheet.wrap != self.config.wrap:
                raise ValueError(
                    f"site {site!r}: the sheet has wrap={sheet.wrap} and the model wrap={self.config.wrap}; build the "
                    f"model with wrap={sheet.wrap}"
                )
        placed = {site: _micrometres(sheet) for site, sheet in sheets.items()}
        for site, (positions, extent) in placed.items():
            points[site].positions_um.copy_(positions)
            points[site].extent_um.copy_(extent)

    def _sheet_points(self) -> dict[str, SheetPoint]:
        return {name: module for name, module in self.named_modules() if isinstance(module, SheetPoint)}


def _micrometres(sheet: Sheet) -> tuple[Tensor, Tensor]:
    both = [sheet.positions_mm * 1000, torch.tensor(sheet.extent_mm, dtype=torch.float64, device="cpu") * 1000]
    if max(float(lengths.abs().max()) for lengths in both) > torch.iinfo(torch.int32).max:
        raise ValueError(f"sheet {sheet.name!r} reaches beyond 2 m; positions_mm are millimetres, check their unit")
    return both[0].round().to(torch.int32), both[1].round().to(torch.int32)


class TopoLMModel(TopoLMPreTrainedModel):
    """The decoder without its output layer.

    Parameters
    ----------
    config : TopoLMConfig
        Shape of the decoder.
    """

    def __init__(self, config: TopoLMConfig) -> None:
        super().__init__(config)
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(TopoLMBlock(config, layer_idx) for layer_idx in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon, bias=config.bias)
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Token embeddings."""
        return self.wte

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embeddings."""
        self.wte = value

    @capture_outputs
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Any = None,
        *,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Hidden states of the last block, normalised.

        Parameters
        ----------
        input_ids : Tensor of int, shape (batch, tokens)
            Tokens; or give ``inputs_embeds``, shape (batch, tokens, width).
        attention_mask : Tensor, shape (batch, past + tokens), optional
            1 for tokens, 0 for pads on either side.
        position_ids : Tensor of int, shape (batch, tokens), optional
            By default tokens are counted from the first one that is no pad.
        past_key_values : Cache, optional
            Keys and values of earlier tokens.
        use_cache : bool, optional
            Return keys and values. By default as configured, but not in training.
        **kwargs
            For the attention implementation, and ``output_hidden_states``, ``output_attentions``.

        Returns
        -------
        BaseModelOutputWithPast
            ``last_hidden_state``, shape (batch, tokens, width), and what was asked for.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("expected either input_ids or inputs_embeds; received both or neither: pass one of them")
        hidden_states = self.wte(input_ids) if inputs_embeds is None else inputs_embeds
        use_cache = self.config.use_cache and not self.training if use_cache is None else use_cache
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        n_seen = 0 if past_key_values is None else past_key_values.get_seq_length()
        if position_ids is None or past_key_values is not None:  # packed documents may be longer together
            self._check_length(n_seen, hidden_states.shape[1])
        # NOTE positions go to the mask only if the caller gave them: transformers looks in them for packed
        # documents, which costs a host synchronisation, and under torch.compile the fast causal kernel
        causal_mask = create_causal_mask(
            config=self.config,
            inputs_embeds=hidden_states,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            position_ids=position_ids,
        )
        if position_ids is None:
            position_ids = count_tokens(hidden_states, attention_mask, n_seen)
        hidden_states = self.drop(hidden_states + self.wpe(position_ids))
        for block in self.h:
            hidden_states = block(hidden_states, attention_mask=causal_mask, past_key_values=past_key_values, **kwargs)
        return BaseModelOutputWithPast(last_hidden_state=self.ln_f(hidden_states), past_key_values=past_key_values)

    def _check_length(self, n_seen: Any, n_tokens: int) -> None:
        n_positions = self.config.n_positions
        # a static cache counts in a tensor, and reading that would make the host wait
        if isinstance(n_seen, int) and n_seen + n_tokens > n_positions:
            raise ValueError(
                f"input of {n_seen + n_tokens} tokens; this model was built for n_positions={n_positions}: shorten the "
                "input or generate fewer tokens"
            )


def count_tokens(hidden_states: Tensor, attention_mask: Any, n_seen: Any) -> Tensor:
    """Position of every token: counted from the first that is no pad, so pads on either side change nothing."""
    n_tokens = hidden_states.shape[1]
    if isinstance(attention_mask, Tensor) and attention_mask.ndim == 2:
        return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -n_tokens:]
    return torch.arange(n_tokens, device=hidden_states.device).unsqueeze(0) + n_seen


class TopoLMForCausalLM(TopoLMPreTrainedModel, GenerationMixin):
    """TopoLM with its output layer: a decoder of language whose units lie on sheets.

    Blocks are ``x + f(norm(x))`` for attention, then for the MLP. Each branch output ``f`` (or each
    sum, `TopoLMConfig.sheet_point`) is a site: ``transformer.h.{i}.attn_sheet`` and
    ``transformer.h.{i}.mlp_sheet``. The sheets do nothing by themselves; an objective listens there.

    Parameters
    ----------
    config : TopoLMConfig
        Shape of the decoder and of its sheets.

    References
    ----------
    Rathi et al., TopoLM: brain-like spatio-functional organization in a topographic language model,
    ICLR 2025, sections 3 and 4.

    Notes
    -----
    Units are placed by a random bijection per sheet, as the paper says; the released model's
    positions are not one (several units share a place). `set_sheets` takes those as well.
    """

    _tied_weights_keys = {"lm_head.weight": "transformer.wte.weight"}  # noqa: RUF012

    def __init__(self, config: TopoLMConfig) -> None:
        super().__init__(config)
        self.transformer = TopoLMModel(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Any = None,
        *,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits of the next token, and the loss if labels are given.

        ``loss = - sum_t log p(label_{t+1} | tokens up to t) / number of labels``

        Parameters
        ----------
        input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache
            As in `TopoLMModel`.
        labels : Tensor of int, shape (batch, tokens), optional
            The tokens themselves, not shifted; -100 where no loss is wanted (pads).
        logits_to_keep : int or Tensor
            Compute logits of the last so many tokens, or of these token indices; 0 for all.
        **kwargs
            As in `TopoLMModel`; ``num_items_in_batch`` divides the summed loss in place of the
            number of labels, for gradient accumulation.

        Returns
        -------
        CausalLMOutputWithPast
            ``logits``, shape (batch, tokens, vocabulary), ``loss``, and what was asked for.
        """
        outputs = self.transformer(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


class TopoLMForSequenceClassification(TopoLMPreTrainedModel):
    """TopoLM with one linear map that reads a whole text from its last token.

    ``logits = W h_last``, where ``h_last`` is the normalised last hidden state at the last token that is no pad. The
    decoder, its sheets and their names are those of `TopoLMForCausalLM`, whose checkpoints load here with a new ``W``.

    Parameters
    ----------
    config : TopoLMConfig
        Shape of the decoder; ``num_labels`` outputs, of which a single one is a regression.

    Notes
    -----
    The last token is found by the attention mask. transformers' own classifiers look for the last token that is not
    ``pad_token_id``, and so pass over an end-of-text token that also serves as pad. Attention is causal here as
    everywhere; the published fine-tuning gave the mask of pads in its place and so attended both ways.
    """

    def __init__(self, config: TopoLMConfig) -> None:
        super().__init__(config)
        self.num_labels: Any = config.num_labels
        self.transformer = TopoLMModel(config)
        self.score = nn.Linear(config.n_embd, self.num_labels, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Any = None,
        *,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutputWithPast:
        """Logits of the labels, and the loss if labels are given.

        Parameters
        ----------
        input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache
            As in `TopoLMModel`; without a mask every token counts.
        labels : Tensor, shape (batch,), optional
            Whole numbers for a cross-entropy, or scores for a squared error where ``num_labels`` is 1.
        **kwargs
            As in `TopoLMModel`.

        Returns
        -------
        SequenceClassifierOutputWithPast
            ``logits``, shape (batch, labels), ``loss``, and what was asked for.
        """
        outputs = self.transformer(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        hidden_states = outputs.last_hidden_state
        last = _last_tokens(hidden_states, attention_mask)
        logits = self.score(hidden_states[torch.arange(len(last), device=last.device), last])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, pooled_logits=logits, config=self.config)
        return SequenceClassifierOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def _last_tokens(hidden_states: Tensor, attention_mask: Any) -> Tensor:
    """Index of the last token of every text that is no pad, wherever the pads are."""
    n_tokens = hidden_states.shape[1]
    places = torch.arange(n_tokens, device=hidden_states.device)
    if isinstance(attention_mask, Tensor) and attention_mask.ndim == 2:
        return (attention_mask[:, -n_tokens:].ne(0) * places).amax(-1)
    return places[-1].expand(len(hidden_states))


def register_topolm() -> None:
    """Teach transformers' Auto classes the model type "topolm"; calling it again changes nothing."""
    AutoConfig.register("topolm", TopoLMConfig, exist_ok=True)
    AutoModel.register(TopoLMConfig, TopoLMModel, exist_ok=True)
    AutoModelForCausalLM.register(TopoLMConfig, TopoLMForCausalLM, exist_ok=True)
    AutoModelForSequenceClassification.register(TopoLMConfig, TopoLMForSequenceClassification, exist_ok=True)
