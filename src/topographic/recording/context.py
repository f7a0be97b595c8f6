"""How much a model reads at once."""

from typing import Any

from torch import nn

from topographic.losses.wrappers import unwrapped

__all__ = ["longest_context"]

_NAMES = ("max_position_embeddings", "n_positions")
_NO_LIMIT = 10**9  # tokenizers without a limit say 1e30


def longest_context(model: Any, tokenizer: Any = None) -> int | None:
    """How many tokens a model reads at most, by its configuration.

    Parameters
    ----------
    model : nn.Module or PretrainedConfig
        Any model, wrapped or not, or its configuration. Of one that reads more than text it is the text that counts.
    tokenizer : PreTrainedTokenizerBase, optional
        Its tokenizer, which may say less (``model_max_length``).

    Returns
    -------
    int or None
        Tokens; None where nobody sets a limit. XLNet says -1 for that, others 0 or None, tokenizers 1e30.

    Examples
    --------
    >>> from transformers import GPT2Config, XLNetConfig
    >>> longest_context(GPT2Config(n_positions=77)), longest_context(XLNetConfig())
    (77, None)
    """
    bare = unwrapped(model) if isinstance(model, nn.Module) else model
    config: Any = getattr(bare, "config", bare)
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    said = [*(getattr(config, name, None) for name in _NAMES), getattr(tokenizer, "model_max_length", None)]
    return min((int(limit) for limit in said if isinstance(limit, int | float) and 0 < limit < _NO_LIMIT), default=None)
