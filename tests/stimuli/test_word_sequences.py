import pytest

from topographic.stimuli.word_sequences import bare_sentences, sentence_blocks, word_runs

SENTENCES = [
    f"The {animal} saw a {colour}-ish {thing}!"
    for animal in ("cat", "dog")
    for colour in ("red", "blue")
    for thing in ("tree", "house")
]


def test_runs_are_lower_case_and_bare():
    text = ["The", "well-known", "dog", ",", "it's", "said", ",", "barked", ";", "twice", "_", "today", "."]
    assert word_runs(text, 4) == [("the", "wellknown", "dog", "its"), ("said", "barked", "twice", "today")]


def test_a_number_or_a_name_starts_the_run_again():
    tagged = [("a", "AT"), ("b", "NN"), ("Paris", "NP"), ("c", "NN"), ("d", "NN"), ("e", "NN"), ("f", "NN")]
    assert word_runs(tagged, 3) == [("c", "d", "e")]
    assert word_runs(tagged, 3, excluded_tags=()) == [("a", "b", "paris"), ("c", "d", "e")]
    assert word_runs(["a", "b", "1984", "c", "d", "e2", "f", "g", "h"], 2) == [("a", "b"), ("c", "d"), ("f", "g")]
    assert word_runs(["a", "b"], 3) == []


def test_sentences_of_words_alone_are_kept_once():
    given = ["A well-known Dog, barked!", "it has 3 legs", "...", "a well known dog barked", "It's so."]
    assert bare_sentences(given) == [("a", "well", "known", "dog", "barked"), ("its", "so")]
    assert bare_sentences(given, allowed={"its", "so"}) == [("its", "so")]


def test_blocks_hold_whole_different_sentences_of_one_length():
    blocks = sentence_blocks(
        [*SENTENCES, "Too short .", "The cat saw 3 red trees and"], n_words=7, n_sentences=3, n_blocks=40
    )
    cleaned = {tuple(s.lower().replace("-", " ").rstrip("!").split()) for s in SENTENCES}
    seen = set()
    for block in blocks:
        parts = [block[start : start + 7] for start in range(0, 21, 7)]
        assert len(block) == 21
        assert len(set(parts)) == 3
        assert set(parts) <= cleaned
        seen |= set(parts)
    assert len(blocks) == 40
    assert seen == cleaned


def test_blocks_follow_the_seed():
    options = {"n_words": 7, "n_sentences": 2, "n_blocks": 5}
    assert sentence_blocks(SENTENCES, **options) == sentence_blocks(SENTENCES, **options)
    assert sentence_blocks(SENTENCES, **options) != sentence_blocks(SENTENCES, seed=1, **options)


def test_only_allowed_words_occur():
    allowed = {"the", "dog", "saw", "a", "red", "blue", "ish", "tree", "house"}
    blocks = sentence_blocks(SENTENCES, n_words=7, n_sentences=4, n_blocks=3, allowed=allowed)
    assert {word for block in blocks for word in block} == allowed


def test_what_is_refused():
    with pytest.raises(ValueError, match="n_words=0; expected at least 1"):
        word_runs(["a"], 0)
    with pytest.raises(ValueError, match="1 different sentences have 7 words, all of them alphabetic and allowed"):
        sentence_blocks([SENTENCES[0], SENTENCES[0].upper(), "The cat saw 3 red tall trees"], n_words=7, n_sentences=2)
