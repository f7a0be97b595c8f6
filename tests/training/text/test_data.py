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
from topographic.training.text.tokenizer import tokenizer_checksum


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
    assert prepared.manifest["held_out"] == "nothing"


def test_too_little_text_is_said(data_config, tokenizer, corpus_path):
    for fraction in (0.0, 0.1):
        long = dataclasses.replace(data_config, sequence_length=100_000, validation_fraction=fraction)
        with pytest.raises(ValueError, match=r"train tokens, less than one window of 100000; give more text, shorten"):
            prepare_tokens(long, tokenizer)
    corpus_path.write_text("")
    with pytest.raises(ValueError, match=r"is empty"):
        prepare_tokens(data_config, tokenizer)


def whole_text(config, tokenizer):
    train, validation = expected(config, tokenizer)
    return train + validation


def read_all(windows):
    return torch.cat([windows[index]["input_ids"] for index in range(len(windows))]).tolist()


@pytest.mark.parametrize("shard", [300, 10**9])
@pytest.mark.parametrize(
    ("text", "fraction"),
    [
        ("a line of the only document\n" * 200, 0.1),
        ("a line of the only document\n" * 200, 0.5),
        # so small a share that a single window is held out
        ("a line of the only document\n" * 200, 1e-9),
        ("\n\n".join(f"chapter {number} " + "the cat saw a dog " * 90 for number in range(3)), 0.2),
        # a title alone falls on the validation side
        ("\n\n".join(["the cat saw a dog " * 90, "chapter 13", "the end " * 90]), 0.1),
    ],
)
def test_too_few_documents_are_held_out_by_the_last_part(data_config, tokenizer, monkeypatch, text, fraction, shard):
    monkeypatch.setattr(data, "SHARD_CHARACTERS", shard)
    path = data_config.cache().with_name("book.txt")
    path.write_text(text)
    config = dataclasses.replace(data_config, text=str(path), validation_fraction=fraction)
    with pytest.warns(UserWarning, match=r"book.txt are too few to hold some of them out; the last \d+ tokens of \d+"):
        prepared = prepare_tokens(config, tokenizer)
    every = whole_text(config, tokenizer)
    n_held_out = max(16, round(fraction * len(every)))
    border = len(every) - n_held_out
    assert read_all(prepared.train) == every[: border // 16 * 16]
    assert read_all(prepared.validation) == every[border : border + n_held_out // 16 * 16]
    manifest = prepared.manifest
    assert manifest["tokens"] == {"train": border, "validation": n_held_out}
    assert manifest["held_out"] == f"the last {n_held_out} tokens"
    with pytest.raises(IndexError):
        prepared.train[len(prepared.train)]


def test_the_split_of_many_documents_is_what_it_was(data_config, tokenizer):
    """Checksums of what the version before wrote for this text; its caches are left alone and not taken for ours."""
    corpus = open_corpus(**data_config.where())
    settings = [data_config.validation_fraction, data_config.seed, data_config.max_tokens, data.SHARD_CHARACTERS]
    key = hashlib.sha256(json.dumps([corpus.identity, tokenizer_checksum(tokenizer), settings]).encode()).hexdigest()
    old = data_config.cache() / "tokens" / key[:16] / "tokens.json"
    old.parent.mkdir(parents=True)
    old.write_text("{}")
    prepared = prepare_tokens(data_config, tokenizer)
    assert prepared.manifest["held_out"] == "documents"
    found = [hashlib.sha256(stream(one).tobytes()).hexdigest()[:16] for one in (prepared.train, prepared.validation)]
    assert found == ["47fd4cec4e00b647", "3f5fa48f75157705"]
    assert old.read_text() == "{}"


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
