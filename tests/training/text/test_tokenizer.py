import pytest
from transformers import AutoTokenizer

from topographic.training.config import DataConfig
from topographic.training.text.corpus import open_corpus
from topographic.training.text.tokenizer import END_OF_TEXT, load_tokenizer, tokenizer_checksum, train_tokenizer


def test_any_text_comes_back(tokenizer):
    for text in ["the cat", " leading and  double ", "Ümlaut 漢字 🙂\n\ttab", END_OF_TEXT[:-1]]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert max(ids) < len(tokenizer) <= 300
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == tokenizer.pad_token_id
    assert tokenizer.convert_ids_to_tokens(tokenizer.eos_token_id) == END_OF_TEXT


def test_frequent_words_become_tokens(tokenizer):
    assert len(tokenizer(" the", add_special_tokens=False)["input_ids"]) == 1
    assert len(tokenizer(" qzx", add_special_tokens=False)["input_ids"]) == 4  # bytes, the space among them


def test_training_is_deterministic_and_depends_on_the_text():
    texts = ["a rose is a rose is a rose", "the cat sat on the mat", "the end of the story"] * 5
    first, again = train_tokenizer(iter(texts), 290), train_tokenizer(iter(texts), 290)
    assert tokenizer_checksum(first) == tokenizer_checksum(again)
    assert first.get_vocab() == again.get_vocab()
    assert tokenizer_checksum(train_tokenizer(["other words entirely, nothing alike"] * 9, 290)) != tokenizer_checksum(
        first
    )
    assert len(first) <= 290


def test_a_vocabulary_without_room_for_bytes_is_refused():
    with pytest.raises(ValueError, match=r"vocab_size=200; expected at least 257"):
        train_tokenizer(["text"], 200)


def test_checksum_forgets_padding_and_truncation(tokenizer):
    before = tokenizer_checksum(tokenizer)
    tokenizer(["a", "a longer one"], padding=True, truncation=True, max_length=2)
    assert tokenizer_checksum(tokenizer) == before


def test_train_is_cached_and_uses_training_documents_only(data_config, monkeypatch):
    seen = []

    def spy(texts, vocab_size):
        seen.append(list(texts))
        return train_tokenizer(seen[-1], vocab_size)

    monkeypatch.setattr("topographic.training.text.tokenizer.train_tokenizer", spy)
    first = load_tokenizer(data_config)
    again = load_tokenizer(data_config)
    assert len(seen) == 1
    assert tokenizer_checksum(first) == tokenizer_checksum(again)
    documents = list(open_corpus(**data_config.where()).documents())
    assert seen[0] == [document for document in documents if not data_config.is_validation(document)]
    assert 0 < len(seen[0]) < len(documents)
    limited = DataConfig(**{**vars(data_config), "tokenizer_characters": 500})
    load_tokenizer(limited)
    assert 500 <= sum(map(len, seen[1])) < 800


@pytest.mark.parametrize(("seed", "fraction"), [(1, 0.1), (1, 0.6), (3, 0.6)])
def test_of_one_long_document_only_the_part_before_the_held_out_one_is_used(data_config, monkeypatch, seed, fraction):
    """Whichever side of the split the document falls to."""
    seen = []

    def spy(texts, vocab_size):
        seen.append("".join(texts))
        return train_tokenizer([seen[-1]], vocab_size)

    monkeypatch.setattr("topographic.training.text.tokenizer.train_tokenizer", spy)
    text = "".join(f"line {number}\n" for number in range(300)).strip()
    path = data_config.cache().with_name("book.txt")
    path.write_text(text)
    config = DataConfig(**{**vars(data_config), "text": str(path), "seed": seed, "validation_fraction": fraction})
    load_tokenizer(config)
    load_tokenizer(DataConfig(**{**vars(config), "tokenizer_characters": 100}))
    assert seen == [text[: int(len(text) * (1 - fraction))], text[:100]]


def test_any_tokenizer_from_a_folder(tmp_path, tokenizer):
    tokenizer.save_pretrained(tmp_path / "own")
    loaded = load_tokenizer(DataConfig(tokenizer=str(tmp_path / "own")))
    assert tokenizer_checksum(loaded) == tokenizer_checksum(AutoTokenizer.from_pretrained(tmp_path / "own"))
    assert tokenizer_checksum(loaded) == tokenizer_checksum(tokenizer)


def test_a_missing_tokenizer_is_said_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"no tokenizer at .*; set data.tokenizer to 'train'") as caught:
        load_tokenizer(DataConfig(tokenizer=str(tmp_path / "nowhere")))
    assert "\n" not in str(caught.value)


def test_a_tokenizer_without_an_end_is_refused(tmp_path, tokenizer):
    other = train_tokenizer(["text"], 260)
    other.eos_token = None
    other.save_pretrained(tmp_path / "endless")
    with pytest.raises(ValueError, match=r"has no end-of-text token"):
        load_tokenizer(DataConfig(tokenizer=str(tmp_path / "endless")))
