"""A small text and its tokenizer."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from topographic.objectives.config import SpatialConfig
from topographic.training.config import DataConfig, RunConfig, TrainingConfig
from topographic.training.text.tokenizer import train_tokenizer

SENTENCE = "the a little old black cat dog bird child man woman saw found liked chased house tree river and then ran"
WORDS = SENTENCE.split()


def write_corpus(path: Path, n_documents: int = 400, seed: int = 0) -> Path:
    """Documents of a few sentences of made-up English, all different."""
    draw = np.random.default_rng(seed)
    with open(path, "w", encoding="utf-8") as opened:
        for number in range(n_documents):
            words = draw.choice(WORDS, size=int(draw.integers(10, 40)))
            opened.write(json.dumps({"text": f"Story {number}. " + " ".join(words) + "."}) + "\n")
    return path


@pytest.fixture
def corpus_path(tmp_path):
    return write_corpus(tmp_path / "corpus.jsonl")


@pytest.fixture
def data_config(tmp_path, corpus_path):
    return DataConfig(
        text=str(corpus_path),
        vocab_size=300,
        sequence_length=16,
        validation_fraction=0.1,
        cache_folder=str(tmp_path / "cache"),
    )


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer(["the cat saw the dog and then ran to the river"] * 3 + [" ".join(WORDS)], 300)


def make_gpt2(tokenizer, *, dropout: float = 0.0, seed: int = 0, n_embd: int = 16):
    """A GPT-2 of two blocks, 16 units wide: a sheet of 4 x 4."""
    torch.manual_seed(seed)
    end = tokenizer.eos_token_id
    shape = {"n_positions": 32, "n_embd": n_embd, "n_layer": 2, "n_head": 2, "vocab_size": len(tokenizer)}
    drops = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
    return GPT2LMHeadModel(GPT2Config(**shape, **drops, bos_token_id=end, eos_token_id=end, pad_token_id=end))


@pytest.fixture
def small_gpt2():
    """Function that makes the model."""
    return make_gpt2


@pytest.fixture
def run_config(data_config):
    """A run of a few steps with three sheets' worth of everything."""
    return RunConfig(
        data_config,
        SpatialConfig(sites=["transformer.h.*.attn", "transformer.h.*.mlp"], radius=2, n_neighborhoods=3, weight=0.5),
        training=TrainingConfig(
            max_steps=6,
            batch_size=4,
            gradient_accumulation_steps=2,
            learning_rate=1e-2,
            min_learning_rate=1e-3,
            warmup_steps=2,
            logging_steps=2,
            eval_steps=3,
            eval_batches=2,
            save_steps=4,
            cpu=True,
            report_to="none",
        ),
    )
