import dataclasses

import numpy as np
import pytest

from topographic.evaluation.subject import PUBLISHED_SETS, SETS
from topographic.maps.localizer import localize
from topographic.recording import record
from topographic.recording.checksum import weights_checksum
from topographic.stimuli import load_localizer


def test_what_is_recorded_is_recorded_once(tiny_bench):
    found = tiny_bench.recorded("localizer")
    assert tiny_bench.recorded("profiles") is found, "one set in two roles"
    expected = record(
        tiny_bench.model, tiny_bench.tokenizer, load_localizer("language"), tiny_bench.sites, tiny_bench.layout
    )
    assert list(found) == list(expected) == list(tiny_bench.sheets)
    for site, one in expected.items():
        np.testing.assert_allclose(found[site].values, one.values, atol=1e-6)
        assert found[site].sheet == one.sheet == tiny_bench.sheets[site]


def test_recording_options_arrive(tiny_bench):
    last = dataclasses.replace(tiny_bench, recording={"pooling": "last"}, _recorded={})
    assert next(iter(last.recorded("words").values())).provenance["pooling"] == "last"


def test_the_network_is_kept(tiny_bench):
    found = tiny_bench.network(rule="top", level=0.05)
    expected = localize(tiny_bench.recorded("localizer"), "sentences", "nonwords", rule="top", level=0.05)
    empty = dataclasses.replace(tiny_bench, _recorded={})
    again = empty.network(rule="top", level=0.05)
    assert not empty._recorded, "nothing was recorded for a network that is there"
    for site, one in expected.items():
        np.testing.assert_array_equal(found[site].mask, one.mask)
        np.testing.assert_array_equal(again[site].mask, one.mask)
    other = dataclasses.replace(tiny_bench, recording={"pooling": "last"}, _recorded={})
    other.network(rule="top", level=0.05)
    assert other._recorded, "pooling decides the responses, so it is part of the key"


def test_identity_and_material_follow_what_they_name(tiny_bench, tmp_path):
    assert tiny_bench.identity["weights"] == weights_checksum(tiny_bench.model)
    material = tiny_bench.material()
    assert set(material) == {*SETS, "pairs", "text"}
    assert material["words"] == load_localizer("nouns_verbs").checksum
    file = tmp_path / "passages.txt"
    file.write_text("One passage.\n\n  Another one. \n", encoding="utf-8")
    with_text = dataclasses.replace(tiny_bench, text=str(file))
    changed = {role for role, checksum in with_text.material().items() if checksum != material[role]}
    assert changed == {"text"}


def test_fewer_pairs_and_given_suites_are_other_material(tiny_bench, suite_file):
    fewer = dataclasses.replace(tiny_bench, n_pairs=1)
    paradigms = tiny_bench.minimal_pairs().labels["paradigm"]
    assert len(fewer.minimal_pairs()) == 2 * len(set(paradigms))
    assert len(fewer.minimal_pairs(3)) > len(fewer.minimal_pairs())
    before = tiny_bench.material()
    assert {role for role, one in fewer.material().items() if one != before[role]} == {"pairs", "text"}
    assert tiny_bench.suites() == []
    assert "syntaxgym" not in before
    given = dataclasses.replace(tiny_bench, syntaxgym=str(suite_file))
    assert [suite.name for suite in given.suites()] == ["number"]
    first = given.material()["syntaxgym"]
    suite_file.write_text(suite_file.read_text().replace("birds", "cats"))
    assert given.material()["syntaxgym"] != first


def test_passages_are_lines_or_good_sentences(tiny_bench, tmp_path):
    pairs = tiny_bench.minimal_pairs(2)
    assert tiny_bench.passages(pairs) == pairs.items[::2]
    file = tmp_path / "passages.txt"
    file.write_text("One passage.\n\n  Another one. \n", encoding="utf-8")
    assert dataclasses.replace(tiny_bench, text=str(file)).passages(pairs) == ("One passage.", "Another one.")
    file.write_text("\n \n", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no line; expected one passage per line"):
        dataclasses.replace(tiny_bench, text=str(file)).passages(pairs)


def test_published_sets_take_the_place_of_ours(tiny_bench, shared):
    published = dataclasses.replace(tiny_bench, stimuli_folder=str(shared / "data" / "stimuli"))
    assert published.has_phrases
    assert not tiny_bench.has_phrases
    for role, name in PUBLISHED_SETS.items():
        assert published.stimuli(role).name == name
    assert set(published.material()) == {*PUBLISHED_SETS, "pairs", "text"}


def test_sentences_are_those_of_the_localizer_or_of_the_text(tiny_bench, tmp_path):
    sentences = tiny_bench.sentences()
    assert sentences == load_localizer("language").select(condition="sentences").items
    file = tmp_path / "passages.txt"
    file.write_text("One passage. It has two! \n\nAnother one? 3.5 is no end", encoding="utf-8")
    assert dataclasses.replace(tiny_bench, text=str(file)).sentences() == (
        "One passage.",
        "It has two!",
        "Another one?",
        "3.5 is no end",
    )


def test_samples_are_items_and_tokens(tiny_bench):
    items, tokens = tiny_bench.samples(0).values()
    assert items is tiny_bench.recorded("localizer")
    passages = tiny_bench.passages(tiny_bench.minimal_pairs())
    n_tokens = sum(len(tiny_bench.tokenizer(passage)["input_ids"]) for passage in passages)
    for site, sheet in tiny_bench.sheets.items():
        assert tokens[site].values.shape == (n_tokens, sheet.n_units)
        assert tokens[site].sheet == sheet
