import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from topographic.training.text import data
from topographic.training.text.corpus import open_corpus
from topographic.training.text.data import PackedTokens, prepare_tokens


def stream(tokens):
    """All tokens of a split, from its shards."""
    return np.concatenate(tokens._shards)


def expected(config, tokenizer):
    """The same by hand: document after document, each followed by end of text."""
    packed = {False: [], True: []}
    for document in open_corpus(**config.where()).documents():
        ids = tokenizer(document, add_special_tokens=False)["input_ids"]
        packed[config.is_validation(document)] += [*ids, tokenizer.eos_token_id]
    return packed[False], packed[True]


def files_of(config):
    folder = config.cache() / "tokens"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_tokens_are_those_of_the_documents_in_order(data_config, tokenizer):
    prepared = prepare_tokens(data_config, tokenizer)
    train, validation = expected(data_config, tokenizer)
    assert stream(prepared.train).tolist() == train
    assert stream(prepared.validation).tolist() == validation
    manifest = prepared.manifest
    assert manifest["tokens"] == {"train": len(train), "validation": len(validation)}
    assert manifest["documents"]["train"] == train.count(tokenizer.eos_token_id)
    assert sum(manifest["documents"].values()) == 400
    assert manifest["dtype"] == "uint16"
    digest = hashlib.sha256()
    for document in open_corpus(**data_config.where()).documents():
        digest.update(len(document).to_bytes(8, "big") + document.encode())
    assert manifest["text_sha256"] == digest.hexdigest()
    assert json.dumps(manifest)


def test_windows_follow_one_another_across_shards(data_config, tokenizer, monkeypatch):
    monkeypatch.setattr(data, "SHARD_CHARACTERS", 700)
    prepared = prepare_tokens(data_config, tokenizer)
    assert len(prepared.manifest["files"]["train"]) > 20
    train, _ = expected(data_config, tokenizer)
    assert len(prepared.train) == len(train) // 16
    read = torch.cat([prepared.train[index]["input_ids"] for index in range(len(prepared.train))])
    assert read.tolist() == train[: len(read)]
    assert read.dtype == torch.int64
    one = prepared.train[3]
    assert torch.equal(one["labels"], one["input_ids"])
    assert one["labels"].data_ptr() != one["input_ids"].data_ptr()
    for beyond in (len(prepared.train), -1):
        with pytest.raises(IndexError):
            prepared.train[beyond]


def test_a_window_may_span_many_small_shards(tmp_path):
    paths = []
    for number in range(5):
        paths.append(tmp_path / f"{number}.npy")
        np.save(paths[-1], np.arange(number * 3, number * 3 + 3, dtype=np.uint16))
    tokens = PackedTokens(paths, 7)
    assert len(tokens) == 2
    assert tokens[0]["input_ids"].tolist() == list(range(7))
    assert tokens[1]["input_ids"].tolist() == list(range(7, 14))


def test_preparation_is_cached_and_follows_text_tokenizer_and_settings(data_config, tokenizer, monkeypatch):
    prepare_tokens(data_config, tokenizer)
    before = files_of(data_config)

    def refuse(*_):
        raise AssertionError("tokenised again")

    with monkeypatch.context() as patch:
        patch.setattr(data, "_tokenise", refuse)
        longer = dataclasses.replace(data_config, sequence_length=32)  # windows are cut when tokens are read
        assert prepare_tokens(longer, tokenizer).train.sequence_length == 32
        for other in (
            dataclasses.replace(data_config, seed=1),
            dataclasses.replace(data_config, validation_fraction=0.2),
            dataclasses.replace(data_config, max_tokens=1000),
        ):
            with pytest.raises(AssertionError, match=r"tokenised again"):
                prepare_tokens(other, tokenizer)
        with open(data_config.text, "a") as opened:
            opened.write('{"text": "one more"}\n')
        with pytest.raises(AssertionError, match=r"tokenised again"):
            prepare_tokens(data_config, tokenizer)
    assert files_of(data_config).items() >= before.items()


def test_interrupted_preparation_goes_on_and_ends_with_the_same_files(data_config, tokenizer, monkeypatch, tmp_path):
    monkeypatch.setattr(data, "SHARD_CHARACTERS", 2000)
    whole = dataclasses.replace(data_config, cache_folder=str(tmp_path / "whole"))
    prepare_tokens(whole, tokenizer)
    real, calls = data._tokenise, []

    def failing(documents, *rest):
        calls.append(documents[0])
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(documents, *rest)

    monkeypatch.setattr(data, "_tokenise", failing)
    with pytest.raises(KeyboardInterrupt):
        prepare_tokens(data_config, tokenizer)
    partial = files_of(data_config)
    assert not any(name.endswith("tokens.json") for name in partial)
    folder = next(path for path in (data_config.cache() / "tokens").iterdir() if path.is_dir())
    (folder / ".train-00003.npy.x.partial").write_bytes(b"left by a kill")
    resumed = prepare_tokens(data_config, tokenizer)
    assert len(calls) == len(set(calls)) + 1  # only the interrupted stretch was tokenised twice
    assert len(resumed.manifest["files"]["train"]) > 4
    assert files_of(data_config) == files_of(whole)


def test_max_tokens_ends_after_the_document_that_reaches_it(data_config, tokenizer, monkeypatch):
    documents = list(open_corpus(**data_config.where()).documents())
    lengths = [len(tokenizer(document, add_special_tokens=False)["input_ids"]) + 1 for document in documents]
    limit = sum(lengths[:150]) + 1
    for shard in (700, 10**9):
        monkeypatch.setattr(data, "SHARD_CHARACTERS", shard)
        manifest = prepare_tokens(dataclasses.replace(data_config, max_tokens=limit), tokenizer).manifest
        assert sum(manifest["documents"].values()) == 151
        assert sum(manifest["tokens"].values()) == sum(lengths[:151])
        digest = hashlib.sha256()
        for document in documents[:151]:
            digest.update(len(document).to_bytes(8, "big") + document.encode())
        assert manifest["text_sha256"] == digest.hexdigest()


def test_large_vocabularies_take_four_bytes(data_config):
    words = {f"w{number}": number for number in range(70_000)}
    splits_words = Tokenizer(models.WordLevel(words, unk_token="w0"))
    splits_words.pre_tokenizer = pre_tokenizers.Whitespace()
    large = PreTrainedTokenizerFast(tokenizer_object=splits_words, eos_token="w69999")
    prepared = prepare_tokens(data_config, large)
    assert prepared.manifest["dtype"] == "uint32"
    train, _ = expected(data_config, large)
    assert stream(prepared.train).tolist() == train
    assert max(train) == 69_999


def test_no_validation(data_config, tokenizer):
    prepared = prepare_tokens(dataclasses.replace(data_config, validation_fraction=0.0), tokenizer)
    assert prepared.validation is None
    assert prepared.manifest["documents"]["validation"] == 0


def test_too_little_text_is_said(data_config, tokenizer, corpus_path):
    with pytest.raises(ValueError, match=r"less than one window of 100000; give more text, shorten"):
        prepare_tokens(dataclasses.replace(data_config, sequence_length=100_000), tokenizer)
    with pytest.raises(ValueError, match=r"0 validation tokens in 0 documents, less than one window of 16") as caught:
        prepare_tokens(dataclasses.replace(data_config, validation_fraction=1e-9), tokenizer)
    assert "one document" not in str(caught.value)
    text = corpus_path.with_suffix(".txt")
    text.write_text("a line\n" * 200)
    with pytest.raises(
        ValueError, match=r"all of it is one document: separate documents by blank lines in .txt files$"
    ):
        prepare_tokens(dataclasses.replace(data_config, text=str(text)), tokenizer)
    corpus_path.write_text("")
    with pytest.raises(ValueError, match=r"is empty"):
        prepare_tokens(data_config, tokenizer)


def test_damaged_shards_are_said(data_config, tokenizer, tmp_path):
    prepare_tokens(data_config, tokenizer)
    shard = next(data_config.cache().rglob("train-*.npy"))
    content = shard.read_bytes()
    for damage in (content[:-10], content[:20], b""):
        shard.write_bytes(damage)
        with pytest.raises(ValueError, match=r"is missing, truncated or no array.*delete its folder") as caught:
            prepare_tokens(data_config, tokenizer)
        assert "\n" not in str(caught.value)
    shard.unlink()
    with pytest.raises(ValueError, match=r"is missing, truncated"):
        prepare_tokens(data_config, tokenizer)
    np.save(shard, np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"holds float64 \(3, 3\); expected packed tokens"):
        prepare_tokens(data_config, tokenizer)
