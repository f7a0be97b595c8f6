"""Topoformer in Hugging Face form: a Transformer whose attention is local on cortical sheets, and three heads."""

import copy
import math
from typing import Any, get_args

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    GenerationMixin,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.cache_utils import Cache, DynamicCache
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import (
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    MaskedLMOutput,
    SequenceClassifierOutput,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from topographic.layers import LateralSmoothing, SharedFields, SpatialQuerying, locally_connected, written_out
from topographic.models.auto_map import NeverCopied
from topographic.models.configuration_topoformer import Mechanism, TopoformerConfig
from topographic.models.modeling_topolm import count_tokens, eager_attention_forward
from topographic.sheets import Sheet

__all__ = [
    "TopoformerForCausalLM",
    "TopoformerForMaskedLM",
    "TopoformerForSequenceClassification",
    "TopoformerModel",
    "register_topoformer",
]

_IGNORED = -100  # the label of a token that no loss is wanted for


class SheetSite(nn.Identity):
    """A place whose units lie on a sheet, for hooks to hear or edit; where they lie decides how far they reach."""


class SheetsOfHeads(nn.ModuleList):
    """A site for every head, where each has a sheet of its own."""

    def forward(self, activations: Tensor) -> Tensor:
        """Return the activations of all heads, shape (batch, tokens, units), as their sites leave them."""
        heads = activations.chunk(len(self), dim=-1)
        return torch.cat([site(head) for site, head in zip(self, heads, strict=True)], dim=-1)


class TopoformerAttention(nn.Module):
    """Attention whose queries, or whose maps, are local on a sheet."""

    def __init__(self, config: TopoformerConfig, layer_idx: int, fields: "Fields | None" = None) -> None:
        super().__init__()
        self.config, self.layer_idx, self.is_causal = config, layer_idx, config.is_causal
        fields = fields_of(config) if fields is None else fields
        near, local = fields["querying"], config.querying == "local"
        self.query, self.key, self.value = (_linear(config, near if local else None) for _ in range(3))
        self.output = _linear(config, fields["reweighting"], non_negative=config.non_negative)
        self.query_sheet, self.key_sheet, self.value_sheet, self.output_sheet = (_site(config) for _ in range(4))
        self.act = nn.ReLU() if config.rectified else nn.Identity()
        pooling = {"normalization": config.normalization, "column_gains": config.column_gains}
        self.querying = nn.Identity() if near is None or local else SpatialQuerying(near, **pooling)
        self.lateral = config.lateral() or nn.Identity()
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, hidden_states: Tensor, attention_mask: Any = None, past_key_values: Cache | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Branch output, shape (batch, tokens, width), and attention weights where they are computed."""
        query = self.querying(self.query_sheet(self.act(self.query(hidden_states))))
        key = self.key_sheet(self.act(self.key(hidden_states)))
        value = self.value_sheet(self.act(self.value(hidden_states)))
        query, key, value = (
            rearrange(one, "b t (h d) -> b h t d", h=self.config.n_head) for one in (query, key, value)
        )
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation or "eager", eager_attention_forward
        )
        if self.config._attn_implementation == "sdpa" and written_out(query, key):
            attend = attend_written_out
        heads, weights = attend(
            self, query, key, value, attention_mask, dropout=0.0, scaling=query.shape[-1] ** -0.5, **kwargs
        )
        attended = self.act(rearrange(heads, "b t h d -> b t (h d)"))
        return self.dropout(self.output_sheet(self.lateral(self.act(self.output(attended))))), weights


def attend_written_out(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """`eager_attention_forward` for the masks of "sdpa": none where all earlier tokens are meant, otherwise of bool."""
    if attention_mask is None and module.is_causal and query.shape[-2] > 1:
        attention_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    if attention_mask is not None:
        least = torch.finfo(query.dtype).min  # and not -inf: a pad that attends to nothing stays a number
        attention_mask = torch.zeros_like(attention_mask, dtype=query.dtype).masked_fill(~attention_mask, least)
    return eager_attention_forward(module, query, key, value, attention_mask, **kwargs)[0], None


Fields = dict[Mechanism, SharedFields | None]


def fields_of(config: TopoformerConfig) -> Fields:
    """Receptive fields that all layers of a model share; both mechanisms as well where they have the same."""
    found: Fields = {}
    for mechanism in get_args(Mechanism):
        inside = _inside(config, mechanism)
        found[mechanism] = None if inside is None else SharedFields(inside)
        if inside is not None:
            shared: Any = found[mechanism]
            shared.mechanism = mechanism  # whose fields `_init_weights` puts back: no checkpoint holds them
    first, second = found["querying"], found["reweighting"]
    if first is not None and second is not None and torch.equal(first.inside, second.inside):
        found["reweighting"] = first
    return found


def _inside(config: TopoformerConfig, mechanism: Mechanism) -> Tensor | None:
    """Of all units where a map is local, of the units of a sheet where queries are pooled."""
    pools = mechanism == "querying" and config.querying == "spatial"
    return config.receptive_fields(mechanism) if pools else config.map_fields(mechanism)


def _linear(config: TopoformerConfig, fields: SharedFields | None, *, non_negative: bool = False) -> nn.Linear:
    """A map of the width to itself, local where there are fields."""
    linear = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
    return linear if fields is None else locally_connected(linear, fields, non_negative=non_negative)


def _site(config: TopoformerConfig) -> nn.Module:
    if config.n_head == 1 or config.tiled:
        return SheetSite()
    return SheetsOfHeads(SheetSite() for _ in range(config.n_head))


class TopoformerMLP(nn.Module):
    """Two linear maps with an activation between them, which may be gated."""

    def __init__(self, config: TopoformerConfig) -> None:
        super().__init__()
        inner, self.gated = config.n_inner or 4 * config.n_embd, config.gated
        self.dense_in = nn.Linear(config.n_embd, inner, bias=config.bias)
        self.act = ACT2FN[config.activation]
        self.dense_out = nn.Linear(inner // 2 if config.gated else inner, config.n_embd, bias=config.bias)
        self.lateral = config.lateral() or nn.Identity()
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Branch output, shape (batch, tokens, width)."""
        inner = self.dense_in(hidden_states)
        if self.gated:
            value, gate = inner.chunk(2, dim=-1)
            return self.dropout(self.lateral(self.dense_out(value * self.act(gate))))
        return self.dropout(self.lateral(self.dense_out(self.act(inner))))


class TopoformerBlock(GradientCheckpointingLayer):
    """Attention and MLP, each added to the stream."""

    def __init__(self, config: TopoformerConfig, layer_idx: int, fields: Fields | None = None) -> None:
        super().__init__()
        self.is_pre = config.norm == "pre"
        norm = {"eps": config.layer_norm_epsilon, "bias": config.bias}
        self.ln_1 = nn.LayerNorm(config.n_embd, **norm)
        self.attn = TopoformerAttention(config, layer_idx, fields)
        self.ln_2 = nn.LayerNorm(config.n_embd, **norm)
        self.mlp = TopoformerMLP(config)

    def forward(
        self, hidden_states: Tensor, attention_mask: Any = None, past_key_values: Cache | None = None, **kwargs: Any
    ) -> Tensor:
        """Stream after the block, shape (batch, tokens, width)."""
        entering = self.ln_1(hidden_states) if self.is_pre else hidden_states
        attended, _ = self.attn(entering, attention_mask=attention_mask, past_key_values=past_key_values, **kwargs)
        hidden_states = hidden_states + attended
        if self.is_pre:
            return hidden_states + self.mlp(self.ln_2(hidden_states))
        hidden_states = self.ln_1(hidden_states)
        return self.ln_2(hidden_states + self.mlp(hidden_states))


class ScaledSinusoids(nn.Module):
    """Sines and cosines of positions, times one learned number."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, position_ids: Tensor) -> Tensor:
        """Embeddings, shape (batch, tokens, width)."""
        steps = torch.arange(0, self.width, 2, device=position_ids.device, dtype=torch.float32)
        angles = position_ids[..., None] * torch.exp(-math.log(10_000.0) / self.width * steps)
        waves = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)[..., : self.width]
        return self.scale * waves.to(self.scale.dtype)


class TopoformerPreTrainedModel(NeverCopied, PreTrainedModel):
    """What Topoformer with and without a head share: initial weights, loading, sheets."""

    config: TopoformerConfig
    config_class = TopoformerConfig
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _no_split_modules = ["TopoformerBlock"]  # noqa: RUF012 - the base class reads plain lists and dicts
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": TopoformerBlock, "attentions": TopoformerAttention}  # noqa: RUF012

    def __init__(self, config: TopoformerConfig, *inputs: Any, **kwargs: Any) -> None:
        config.check()
        super().__init__(config, *inputs, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Normal(0, 0.02); non-negative local weights ten times torch's own, without signs, as published."""
        super()._init_weights(module)
        if isinstance(module, ParametrizationList):
            parametrization: Any = module[0]
            if parametrization.non_negative:
                init.uniform_(module.original, 0.0, 10 / math.sqrt(self.config.n_embd))
            else:
                init.normal_(module.original, std=self.config.initializer_range)
        elif isinstance(module, SharedFields):
            shared: Any = module
            inside: Any = _inside(self.config, shared.mechanism)
            init.copy_(module.inside, inside)
        elif isinstance(module, LateralSmoothing):
            again: Any = self.config.lateral()
            init.copy_(module.kernel, again.kernel)  # no checkpoint holds it
        elif isinstance(module, SpatialQuerying) and module.column_gains is not None:
            init.ones_(module.column_gains)
        elif isinstance(module, ScaledSinusoids):
            init.constant_(module.scale, 1 / math.sqrt(self.config.n_embd))

    def sheets(self) -> dict[str, Sheet]:
        """Sheet of every site: queries, keys, values and outputs of each block."""
        return {name: self.config.sheet(name) for name, one in self.named_modules() if isinstance(one, SheetSite)}


class TopoformerModel(TopoformerPreTrainedModel):
    """Topoformer without a head.

    Parameters
    ----------
    config : TopoformerConfig
        Shape of the network.
    """

    def __init__(self, config: TopoformerConfig) -> None:
        super().__init__(config)
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        learned = config.positions == "learned"
        self.wpe = nn.Embedding(config.n_positions, config.n_embd) if learned else ScaledSinusoids(config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        fields = fields_of(config)
        self.h = nn.ModuleList(TopoformerBlock(config, layer_idx, fields) for layer_idx in range(config.n_layer))
        norm = {"eps": config.layer_norm_epsilon, "bias": config.bias}
        self.ln_f = nn.LayerNorm(config.n_embd, **norm) if config.norm == "pre" else nn.Identity()
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
        """Hidden states of the last block.

        Parameters
        ----------
        input_ids : Tensor of int, shape (batch, tokens)
            Tokens; or give ``inputs_embeds``, shape (batch, tokens, width).
        attention_mask : Tensor, shape (batch, past + tokens), optional
            1 for tokens, 0 for pads, to which no token attends.
        position_ids : Tensor of int, shape (batch, tokens), optional
            By default tokens are counted from the first one that is no pad.
        past_key_values : Cache, optional
            Keys and values of earlier tokens, of a causal model.
        use_cache : bool, optional
            Return keys and values. By default as configured, but not in training, and of causal models only.
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
        caches = self.config.use_cache and not self.training if use_cache is None else use_cache
        if caches and self.config.is_causal and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        n_seen: Any = 0 if past_key_values is None else past_key_values.get_seq_length()
        n_tokens, n_positions = hidden_states.shape[1], self.config.n_positions
        # a static cache counts in a tensor, and reading that would make the host wait
        if isinstance(n_seen, int) and n_seen + n_tokens > n_positions:
            raise ValueError(
                f"input of {n_seen + n_tokens} tokens; this model was built for n_positions={n_positions}: shorten the "
                "input"
            )
        mask = create_causal_mask if self.config.is_causal else create_bidirectional_mask
        allowed = mask(
            config=self.config,
            inputs_embeds=hidden_states,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
        )
        if position_ids is None:
            position_ids = count_tokens(hidden_states, attention_mask, n_seen)
        hidden_states = self.drop(hidden_states + self.wpe(position_ids))
        for block in self.h:
            hidden_states = block(hidden_states, attention_mask=allowed, past_key_values=past_key_values, **kwargs)
        return BaseModelOutputWithPast(last_hidden_state=self.ln_f(hidden_states), past_key_values=past_key_values)


def _attending(config: TopoformerConfig, *, causally: bool) -> TopoformerConfig:
    """The configuration of a model that attends in one way, whatever the given one says, which is left as it is."""
    if config.is_causal == causally:
        return config
    changed = copy.deepcopy(config)
    changed.is_causal = causally
    return changed


class TopoformerForMaskedLM(TopoformerPreTrainedModel):
    """Topoformer that finds masked tokens (Topoformer-BERT).

    Attention in every block is ``softmax((Q B^) K' / sqrt(N)) V`` (spatial querying), followed by the locally connected
    map ``|W o B| x + b`` (spatial reweighting). Queries, keys, values and outputs of every block are sites, on sheets
    of their own: ``transformer.h.{i}.attn.query_sheet`` and so on; where heads have sheets of their own
    ``query_sheet.{head}``.

    Parameters
    ----------
    config : TopoformerConfig
        Shape of the network; ``is_causal`` is not heeded.

    References
    ----------
    Topoformer: brain-like topographic organization in Transformer language models through spatial querying and
    reweighting, Re-Align workshop at ICLR 2024; arXiv 2510.18745.

    Notes
    -----
    Pads are masked, and not pooled by the classifier, where the published code does neither.
    """

    _tied_weights_keys = {"lm_head.weight": "transformer.wte.weight"}  # noqa: RUF012

    def __init__(self, config: TopoformerConfig) -> None:
        config = _attending(config, causally=False)
        super().__init__(config)
        self.transformer = TopoformerModel(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Any = None,
        *,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        """Logits of every token, and the loss at those that have a label.

        Parameters
        ----------
        input_ids, attention_mask, position_ids, inputs_embeds
            As in `TopoformerModel`.
        labels : Tensor of int, shape (batch, tokens), optional
            The token at places that were masked, -100 elsewhere. Without any place the loss is 0.
        **kwargs
            As in `TopoformerModel`.

        Returns
        -------
        MaskedLMOutput
            ``logits``, shape (batch, tokens, vocabulary), ``loss``, and what was asked for.
        """
        outputs = self.transformer(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        logits = self.lm_head(outputs.last_hidden_state)
        loss = None
        if labels is not None:
            summed = nn.functional.cross_entropy(
                logits.float().flatten(0, 1), labels.flatten(), ignore_index=_IGNORED, reduction="sum"
            )
            loss = summed / labels.ne(_IGNORED).sum().clamp(min=1)
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


class TopoformerForCausalLM(TopoformerPreTrainedModel, GenerationMixin):
    """Topoformer that predicts the next token; all else as in `TopoformerForMaskedLM`.

    Parameters
    ----------
    config : TopoformerConfig
        Shape of the network; attention is causal whatever ``is_causal`` says.
    """

    _tied_weights_keys = {"lm_head.weight": "transformer.wte.weight"}  # noqa: RUF012

    def __init__(self, config: TopoformerConfig) -> None:
        config = _attending(config, causally=True)
        super().__init__(config)
        self.transformer = TopoformerModel(config)
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

        Parameters
        ----------
        input_ids, attention_mask, position_ids, past_key_values, inputs_embeds, use_cache
            As in `TopoformerModel`.
        labels : Tensor of int, shape (batch, tokens), optional
            The tokens themselves, not shifted; -100 where no loss is wanted (pads).
        logits_to_keep : int or Tensor
            Compute logits of the last so many tokens, or of these token indices; 0 for all.
        **kwargs
            As in `TopoformerModel`.

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


class TopoformerForSequenceClassification(TopoformerPreTrainedModel):
    """Topoformer that labels texts: ``W tanh(mean of the tokens that are no pads)``.

    With ``classifier_width`` a linear map to that width comes before the tanh.

    Parameters
    ----------
    config : TopoformerConfig
        Shape of the network; ``num_labels`` outputs, of which a single one is a regression.
    """

    def __init__(self, config: TopoformerConfig) -> None:
        super().__init__(config)
        self.num_labels: Any = config.num_labels
        self.transformer = TopoformerModel(config)
        wide = config.classifier_width
        self.dense = nn.Identity() if wide is None else nn.Linear(config.n_embd, wide)
        self.score = nn.Linear(wide or config.n_embd, self.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Any = None,
        *,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        """Logits of the labels, and the loss if labels are given.

        Parameters
        ----------
        input_ids, attention_mask, position_ids, inputs_embeds
            As in `TopoformerModel`; without a mask every token counts.
        labels : Tensor, shape (batch,), optional
            Whole numbers for a cross-entropy, or scores for a squared error where ``num_labels`` is 1.
        **kwargs
            As in `TopoformerModel`.

        Returns
        -------
        SequenceClassifierOutput
            ``logits``, shape (batch, labels), ``loss``, and what was asked for.
        """
        outputs = self.transformer(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            use_cache=False,
            **kwargs,
        )
        logits = self.score(torch.tanh(self.dense(_mean_token(outputs.last_hidden_state, attention_mask))))
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, pooled_logits=logits, config=self.config)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )


def _mean_token(hidden_states: Tensor, attention_mask: Any) -> Tensor:
    """Mean over the tokens of every text that are no pads."""
    if isinstance(attention_mask, Tensor) and attention_mask.ndim == 2:
        counted = attention_mask.ne(0).unsqueeze(-1).to(hidden_states.dtype)
        return (hidden_states * counted).sum(1) / counted.sum(1).clamp(min=1)
    return hidden_states.mean(1)


def register_topoformer() -> None:
    """Teach transformers' Auto classes the model type "topoformer"; calling it again changes nothing."""
    AutoConfig.register("topoformer", TopoformerConfig, exist_ok=True)
    AutoModel.register(TopoformerConfig, TopoformerModel, exist_ok=True)
    AutoModelForCausalLM.register(TopoformerConfig, TopoformerForCausalLM, exist_ok=True)
    AutoModelForMaskedLM.register(TopoformerConfig, TopoformerForMaskedLM, exist_ok=True)
    AutoModelForSequenceClassification.register(TopoformerConfig, TopoformerForSequenceClassification, exist_ok=True)
