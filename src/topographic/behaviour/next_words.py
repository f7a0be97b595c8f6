"""Which words a causal language model expects next: one group of them against another."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm

from topographic.behaviour.surprisal import expect_causal, no_cache
from topographic.recording.reading import batches, evaluating, expect_tokenizer
from topographic.recording.replacements import word_prefix_of, word_token_ids

__all__ = ["next_word_preference"]


@torch.no_grad()
def next_word_preference(
    model: nn.Module,
    tokenizer: Any,
    contexts: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
    *,
    batch_size: int = 48,
    progress: bool = False,
) -> Float[np.ndarray, " contexts"]:
    """How much likelier one group of words begins after a context than another, in nats.

    ``log sum_{t in A} p(t | context) - log sum_{t in B} p(t | context)``, with A and B the different first tokens of
    the words of each group. A word of one token counts with its whole probability; of a longer one it is the
    probability that it, or a word that begins alike, is next.

    Parameters
    ----------
    model : nn.Module
        Causal language model, called as ``model(input_ids=, attention_mask=)``; in evaluation mode meanwhile.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer. The beginning-of-text token, or that of the end of text, is put before every context.
    contexts : sequence of str
        Such as "The old man saw the", without a space at their end.
    first, second : sequence of str
        Words, read as within a text.
    batch_size : int
        Contexts per forward.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    ndarray, shape (contexts,)
        Above 0 where the first group is preferred.

    Raises
    ------
    ValueError
        If contexts or a group are empty, or a word of each group begin with one token.
    TypeError
        If contexts or a group are a single string.
    NotMeasurable
        As `token_log_probabilities`: if the model is not causal.

    Examples
    --------
    >>> next_word_preference(nn.Identity(), print, "The", ["dog"], ["runs"])
    Traceback (most recent call last):
    TypeError: contexts is the single string 'The'; expected several: wrap it in a list
    """
    expect_tokenizer(tokenizer)
    for name, entries in {"contexts": contexts, "first": first, "second": second}.items():
        if isinstance(entries, str):
            raise TypeError(f"{name} is the single string {entries[:40]!r}; expected several: wrap it in a list")
        if not len(entries):
            raise ValueError(f"{name} is empty; give at least one")
    prefix = word_prefix_of(tokenizer, [*first, *second])
    groups = [{word_token_ids(tokenizer, word, prefix)[0]: word for word in words} for words in (first, second)]
    if shared := groups[0].keys() & groups[1].keys():
        words = [group[min(shared)] for group in groups]
        raise ValueError(
            f"{words[0]!r} of the first group and {words[1]!r} of the second begin with the same token "
            f"({tokenizer.decode([min(shared)])!r}); leave one of them out"
        )
    bos = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    read = tokenizer([context.rstrip() for context in contexts], add_special_tokens=False)["input_ids"]
    texts = [torch.tensor(ids if bos is None or ids[:1] == [bos] else [bos, *ids]) for ids in read]
    if not all(map(len, texts)):
        raise ValueError("a context becomes no token, and the tokenizer has none that begins a text; give it a word")
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    chosen = [torch.tensor(sorted(group), device=device) for group in groups]
    expect_causal(model, [text.tolist() for text in texts])
    found = np.empty(len(texts))
    with evaluating(model), tqdm(total=len(texts), desc="next words", disable=not progress) as bar:
        for indices in batches([len(text) for text in texts], batch_size):
            some = [texts[index] for index in indices]
            ids = pad_sequence(some, batch_first=True).to(device)
            shown = pad_sequence([torch.ones_like(text) for text in some], batch_first=True).to(device)
            logits = model(input_ids=ids, attention_mask=shown, **no_cache(model)).logits
            last = logits[torch.arange(len(some), device=device), shown.sum(1) - 1].float()
            first_group, second_group = (last[:, tokens].logsumexp(1) for tokens in chosen)
            found[indices] = (first_group - second_group).cpu().numpy()
            bar.update(len(indices))
    return found
