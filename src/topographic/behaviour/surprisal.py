"""How probable a causal language model finds every token of a text."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm

from topographic.losses.wrappers import unwrapped
from topographic.maps import NotMeasurable
from topographic.recording import longest_context
from topographic.recording.reading import batches, evaluating, expect_tokenizer
from topographic.sheets.expectations import expect_kind, expect_whole

__all__ = ["PROTOCOLS", "expect_causal", "no_cache", "perplexity", "token_log_probabilities"]

TokenIds = list[int]
_TRIED_TOKENS = 8  # of the text that is read twice to see whether a model is causal


@torch.no_grad()
def token_log_probabilities(
    model: nn.Module,
    tokenizer: Any,
    texts: Sequence[str],
    *,
    protocol: str = "bos",
    batch_size: int = 48,
    progress: bool = True,
) -> list[Float[np.ndarray, " _tokens"]]:
    """Natural log-probability of every token of every text given the tokens before it.

    ``log p(w_t | w_<t) = z_t[w_t] - logsumexp(z_t)``, with ``z_t`` the logits after ``w_<t``.

    All tokens of a text are scored in one causal forward. Texts of like length are batched and padded on the right,
    where neither causal attention nor the attention mask lets a token see a pad; pads are not scored. The values
    of a text are therefore those it has alone, and come back in the order of the texts.

    Parameters
    ----------
    model : nn.Module
        Causal language model, called as ``model(input_ids=, attention_mask=)`` and answering with ``logits``
        of shape (batch, tokens, vocabulary). It is put into evaluation mode meanwhile.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer. Special tokens are not added by it, its padding side does not matter.
    texts : sequence of str
        What to score.
    protocol : {"bos", "harness", "no_bos", "published"}
        "bos": the beginning-of-text token (end-of-text where the tokenizer has none) is put in front and not
        scored, so the first word counts. This is the log-likelihood of lm-evaluation-harness for an empty context.
        "harness": the same with a space before the text, as the harness's own multiple-choice tasks have it,
        its BLiMP among them.
        "no_bos": nothing is put in front; the first token has no context and is not scored.
        "published": as the script released with TopoLM, see Notes. **Biased**; for comparison only.
    batch_size : int
        Texts per forward.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    list of ndarray, each of shape (tokens,)
        float32. One value per token ("bos", "harness"), per token but the first ("no_bos"), or per position but
        the first of the padded text ("published").

    Raises
    ------
    ValueError
        If there are no texts, one becomes no token, or too few to score, or more than the model can read, or
        tokens that it does not know; if the protocol is unknown or needs a token the tokenizer lacks.
    TypeError
        If the texts are a single string or something else, or the model is not loaded.
    NotMeasurable
        If the model looks at tokens that follow, as one of masked words does, or gives no logits for each token: no
        token then has a probability given those before it alone.

    Notes
    -----
    Whether a model is causal is tried, on the start of a text whose first token then stands before others. The
    released script pads the texts of a batch (48, in the order of the file) with end-of-text to the longest of
    them, lets the pads count as text, and skips the first token. The surprisal of a text then depends on its
    neighbours, and where the sentences of a pair get different numbers of pads the shorter one is charged for more
    of them: 18.9 % of BLiMP's pairs. Here ``batch_size`` sets these groups, too. The script also runs the model
    once per prefix; the causal forward gives the same numbers.
    """
    sequences = _sequences(model, tokenizer, texts, protocol, batch_size)
    scores: dict[int, Float[np.ndarray, " _tokens"]] = {}
    expect_causal(model, sequences)
    with evaluating(model), tqdm(total=len(sequences), desc="surprisal", disable=not progress) as bar:
        for chosen in batches([len(sequence) for sequence in sequences], batch_size, shortest=0.9):
            batch = _batch_log_probabilities(model, [sequences[index] for index in chosen])
            scores.update(zip(chosen, batch, strict=True))
            bar.update(len(chosen))
    return [scores[index] for index in range(len(sequences))]


@torch.no_grad()
def expect_causal(model: nn.Module, sequences: Sequence[TokenIds]) -> None:
    """Refuse a model whose logits at a token change with the tokens that follow."""
    starts = [list(sequence[:_TRIED_TOKENS]) for sequence in sequences]
    start = next((tokens for tokens in starts if len(set(tokens)) > 1), None)
    if start is None:
        return  # nothing follows anything else
    parameter = next(model.parameters(), None)
    ids = torch.tensor([start, start, start[:1] * len(start)], device=None if parameter is None else parameter.device)
    with evaluating(model):
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), **no_cache(model)).logits
    name = type(unwrapped(model)).__name__
    if logits.shape[:-1] != ids.shape:
        raise NotMeasurable(
            f"{name} gives logits of shape {tuple(logits.shape)} for {tuple(ids.shape)} tokens; expected those of "
            "every token: how probable words are can be measured of a causal language model only"
        )
    first, again, other = logits[:, 0].float()
    # both texts stand in one batch: rounding differs little between them, if at all
    allowed = (1e-5 if logits.dtype.itemsize > 2 else 2e-3) * logits.float().abs().max()
    if (first - again).abs().max() > allowed:
        return  # equal texts differ: a lesion that draws at random is in place, and nothing can be told
    if (first - other).abs().max() > allowed:
        raise NotMeasurable(
            f"{name} looks at the tokens that follow, as models of masked words do, so that no token has a probability "
            "given those before it alone; expected a causal language model"
        )


def perplexity(log_probabilities: Sequence[Float[np.ndarray, " _tokens"]]) -> float:
    """Exponential of the mean surprisal over all scored tokens of all texts.

    ``exp(-sum_t log p(w_t | w_<t) / T)``

    Parameters
    ----------
    log_probabilities : sequence of ndarray, each of shape (tokens,)
        As `token_log_probabilities` returns them.

    Returns
    -------
    float
        1 for a model that is always certain and right, the size of the vocabulary for one that knows nothing.

    Raises
    ------
    ValueError
        If there is no token.
    """
    n_tokens = sum(len(text) for text in log_probabilities)
    if not n_tokens:
        raise ValueError("perplexity of no tokens; expected the log-probabilities of at least one token")
    return float(np.exp(-sum(text.sum(dtype=np.float64) for text in log_probabilities) / n_tokens))


def _sequences(model: Any, tokenizer: Any, texts: Any, protocol: str, batch_size: int) -> list[TokenIds]:
    """Token sequences of which all but the last token are read and all but the first are scored."""
    bare = unwrapped(model)
    expect_tokenizer(tokenizer)
    if isinstance(texts, str):
        raise TypeError(f"texts is the single string {texts[:40]!r}; expected a sequence: wrap it in a list")
    expect_kind("texts", texts, Sequence, "a list of strings, such as the items of a StimulusSet")
    if not len(texts):
        raise ValueError("no texts to score; give at least one")
    expect_kind("texts[0]", texts[0], str, "the words of one text")
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol {protocol!r} is unknown; choose one of {sorted(PROTOCOLS)}")
    expect_whole("batch_size", batch_size, 1)
    sequences = PROTOCOLS[protocol](texts, tokenizer, batch_size)
    n_positions, n_vocabulary = longest_context(model), _n_vocabulary(bare)
    for index, sequence in enumerate(sequences):
        if len(sequence) < 2:
            raise ValueError(
                f"text {index} ({texts[index]!r}) is one token, which has nothing before it under protocol "
                f"{protocol!r}; use protocol='bos' or a longer text"
            )
        if n_positions is not None and len(sequence) - 1 > n_positions:
            raise ValueError(
                f"text {index} needs {len(sequence) - 1} positions under protocol {protocol!r}, the model has "
                f"{n_positions}; shorten the text ({texts[index][:40]!r}...)"
            )
        if n_vocabulary and max(sequence) >= n_vocabulary:
            raise ValueError(
                f"text {index} has token {max(sequence)}, the model knows tokens 0 to {n_vocabulary - 1}; "
                "use the tokenizer it was trained with"
            )
    return sequences


def _batch_log_probabilities(model: nn.Module, sequences: list[TokenIds]) -> list[Float[np.ndarray, " _tokens"]]:
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    tokens = [torch.tensor(sequence, device=device) for sequence in sequences]
    ids = pad_sequence([sequence[:-1] for sequence in tokens], batch_first=True)
    shown = pad_sequence([torch.ones_like(sequence[:-1]) for sequence in tokens], batch_first=True)
    logits = model(input_ids=ids, attention_mask=shown, **no_cache(model)).logits
    # one text at a time: the log-probabilities of one text are the most that is held beside the logits
    scores = [
        -cross_entropy(row[: len(sequence) - 1].float(), sequence[1:], reduction="none")
        for row, sequence in zip(logits, tokens, strict=True)
    ]
    return np.split(torch.cat(scores).cpu().numpy(), np.cumsum([len(row) for row in scores])[:-1])


def no_cache(model: nn.Module) -> dict[str, bool]:
    """What tells a model that keeps keys and values not to."""
    return {"use_cache": False} if hasattr(getattr(unwrapped(model), "config", None), "use_cache") else {}


def _n_vocabulary(bare: nn.Module) -> int | None:
    """How many different tokens the model can read, where its configuration says so."""
    config: Any = getattr(bare, "config", None)
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    return getattr(config, "vocab_size", None)


def _token_ids(texts: Sequence[str], tokenizer: Any) -> list[TokenIds]:
    token_ids = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    for index, ids in enumerate(token_ids):
        if not ids:
            raise ValueError(f"text {index} ({texts[index]!r}) becomes no token; remove it or check the tokenizer")
    return token_ids


def _after_bos(texts: Sequence[str], tokenizer: Any, batch_size: int) -> list[TokenIds]:
    bos = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if bos is None:
        raise ValueError(
            "the tokenizer has neither a beginning- nor an end-of-text token to put in front; use protocol='no_bos'"
        )
    # a text that brings the token itself does not get a second one
    return [ids if ids[0] == bos else [bos, *ids] for ids in _token_ids(texts, tokenizer)]


def _after_bos_and_space(texts: Sequence[str], tokenizer: Any, batch_size: int) -> list[TokenIds]:
    return _after_bos([f" {text}" for text in texts], tokenizer, batch_size)


def _as_they_are(texts: Sequence[str], tokenizer: Any, batch_size: int) -> list[TokenIds]:
    return _token_ids(texts, tokenizer)


def _padded_as_text(texts: Sequence[str], tokenizer: Any, batch_size: int) -> list[TokenIds]:
    eos = tokenizer.eos_token_id
    if eos is None:
        raise ValueError("the tokenizer has no end-of-text token for protocol 'published'; use protocol='no_bos'")
    token_ids = _token_ids(texts, tokenizer)
    padded = []
    for start in range(0, len(token_ids), batch_size):
        batch = token_ids[start : start + batch_size]
        longest = max(len(ids) for ids in batch)
        padded += [ids + [eos] * (longest - len(ids)) for ids in batch]
    return padded


PROTOCOLS: dict[str, Callable[[Sequence[str], Any, int], list[TokenIds]]] = {
    "bos": _after_bos,
    "harness": _after_bos_and_space,
    "no_bos": _as_they_are,
    "published": _padded_as_text,
}
