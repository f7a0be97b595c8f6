"""A tokenizer trained on the shipped pairs, a small random GPT-2, and a bigram model with a planted preference."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from topographic.stimuli.minimal_pairs import load_minimal_pairs

END = "<|endoftext|>"


@pytest.fixture(scope="session")
def own_pairs():
    return load_minimal_pairs("own")


@pytest.fixture(scope="session")
def tokenizer(own_pairs):
    """Byte-level BPE as in GPT-2; its one special token ends a text, and begins it."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder, bpe.post_processor = decoders.ByteLevel(), processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        own_pairs.items, trainers.BpeTrainer(vocab_size=400, special_tokens=[END], initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=END)


@pytest.fixture(scope="session")
def gpt2(tokenizer):
    """Random weights large enough that every token of the context matters."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(
            vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3
        )
        return GPT2LMHeadModel(config).eval()


class Bigrams(nn.Module):
    """p(next | previous) from counts in given sentences; no config, no attention, nothing of Hugging Face."""

    def __init__(self, tokenizer, sentences):
        super().__init__()
        counts = torch.ones(len(tokenizer), len(tokenizer))
        for sentence in sentences:
            ids = [tokenizer.eos_token_id, *tokenizer(sentence, add_special_tokens=False)["input_ids"]]
            for previous, following in itertools.pairwise(ids):
                counts[previous, following] += 5000
        self.table = nn.Parameter((counts / counts.sum(1, keepdim=True)).log())

    def forward(self, input_ids, attention_mask):
        assert input_ids.shape == attention_mask.shape
        return SimpleNamespace(logits=self.table[input_ids])


@pytest.fixture(scope="session")
def bigrams(tokenizer):
    return lambda sentences: Bigrams(tokenizer, sentences)
