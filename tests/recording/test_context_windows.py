import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from topographic.recording import CONTEXTS, align_words, context_starts, context_windows

# LITcoder's names
PUBLISHED = {"fullcontext": "sliding", "nocontext": "restart", "halfcontext": "half"}


def stand_in(name):
    """Tokens of the golden values: whole words, or a word over four letters in two pieces."""
    made = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    steps = [pre_tokenizers.WhitespaceSplit()]
    if name == "pieces":
        steps.append(pre_tokenizers.Split(Regex("^.{4}"), "isolated"))
    made.pre_tokenizer = pre_tokenizers.Sequence(steps)
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="?")


@pytest.mark.parametrize("tokens", ["whitespace", "pieces"])
@pytest.mark.parametrize("published", PUBLISHED)
def test_contexts_are_those_of_litcoder(shared, published, tokens):
    golden = np.load(shared / "golden" / "litcoder_context.npz", allow_pickle=False)
    words = golden["words"].tolist()
    tokenizer = stand_in(tokens)
    offsets = tokenizer(" ".join(words), return_offsets_mapping=True)["offset_mapping"]
    found = align_words(tokenizer, words)
    assert found.ends[-1] == len(offsets)
    for lookback in golden["lookbacks"]:
        first = context_starts(found.starts, found.ends, PUBLISHED[published], int(lookback))
        strings = [
            " ".join(words)[offsets[start][0] : offsets[end - 1][1]]
            for start, end in zip(first, found.ends, strict=True)
        ]
        assert strings == golden[f"{published}_{tokens}_L{lookback}"].tolist()


def some_words(seed=0, n=200):
    lengths = np.random.default_rng(seed).integers(1, 5, n)
    ends = np.cumsum(lengths)
    return ends - lengths, ends


@pytest.mark.parametrize("context", CONTEXTS)
def test_every_word_is_served_once_with_its_own_context(context):
    starts, ends = some_words()
    first = context_starts(starts, ends, context, 16)
    assert (np.diff(first) >= 0).all()
    assert (first <= starts).all()
    windows = context_windows(first, ends)
    np.testing.assert_array_equal(np.concatenate([one.words for one in windows]), np.arange(len(starts)))
    for one in windows:
        assert (first[one.words] == one.start).all()
        assert one.end == ends[one.words].max()
    longest = max(one.end - one.start for one in windows)
    assert longest <= (16 + 3 if context == "restart" else 16)


def test_half_keeps_half_and_needs_few_passes():
    starts = np.arange(1000)
    first = context_starts(starts, starts + 1, "half", 100)
    before = starts + 1 - first
    assert before[100:].min() == 51
    assert before.max() == 100
    assert len(context_windows(first, starts + 1)) == 19
    assert len(context_windows(first, starts + 1, is_causal=False)) == 1000


def test_what_makes_no_context():
    starts, ends = some_words()
    with pytest.raises(ValueError, match=r"context='full'; expected one of \['half', 'sliding', 'restart', 'word'\]"):
        context_starts(starts, ends, "full")
    with pytest.raises(ValueError, match=r"n_tokens=3 is too short: word .* has 4 tokens; give 4 or more"):
        context_starts(starts, ends, "half", 3)
    with pytest.raises(ValueError, match="n_tokens=1 is too short"):  # the published half context would not end
        context_starts(np.arange(3), np.arange(1, 4), "half", 1)
    with pytest.raises(ValueError, match="starts and ends are no tokens of words"):
        context_starts(ends, starts)
