import dataclasses

import numpy as np
import pytest
import torch

from topographic.evaluation import Choices
from topographic.evaluation.parts.windows import windows
from topographic.maps import integration_maps, morans_i, yoking_map
from topographic.recording import embedding_matched_word, random_word, record_swaps, single_token_words, swap_words
from topographic.stimuli import load_localizer
from topographic.stimuli.word_sequences import sentence_blocks, word_runs

CHOICES = Choices(window_words=12, window_sequences=3, n_draws=19)
LAYERS = ["layer 0 mlp.c_fc", "layer 1 mlp.c_fc"]


def by_parameter(table):
    found = {}
    for row in table.rows:
        found.setdefault(row["parameter"], []).append(row)
    return found


def test_maps_are_those_of_the_swaps_it_names(net_subject):
    found = windows(net_subject, CHOICES)
    means, layers = found.tables
    sentences = load_localizer("language").select(condition="sentences").items
    runs = word_runs(" ".join(sentences).split(), 12)[:3]
    words = sorted({word for run in runs for word in run})
    known = single_token_words(net_subject.tokenizer, words)
    swapped = swap_words(runs, random_word(known if len(known) >= 20 else words))
    heard = record_swaps(net_subject.model, net_subject.tokenizer, swapped, net_subject.sites, lags=range(7))
    rows = by_parameter(layers)
    assert list(rows) == ["a", "b", "c", "yoking"]
    for name in ("a", "b", "c"):
        assert [row["sheet"] for row in rows[name]] == LAYERS
        for row, one in zip(rows[name], heard.values(), strict=True):
            unit_map = integration_maps(one, n_draws=19)[name]
            assert row["median"] == pytest.approx(np.nanmedian(unit_map.values), rel=1e-4)
            assert row["units with a value"] == pytest.approx(np.mean(~np.isnan(unit_map.values)))
            index = morans_i(unit_map)
            assert (row["I"], row["unit null"]) == pytest.approx((index.value, index.unit_null.mean), abs=1e-4)
            assert 1 / 20 <= row["p (unit)"] <= 1
    assert "Windows: 3 sequences of 12 words" in found.text
    by_name = {row["parameter"]: row for row in means.rows}
    assert by_name["c"]["I"] == pytest.approx(np.mean([row["I"] for row in rows["c"]]))
    assert by_name["c"]["mean of medians"] == pytest.approx(np.mean([row["median"] for row in rows["c"]]))
    assert found.notes == []
    assert set(found.maps) == {f"{name}/{site}" for name in rows for site in net_subject.sites}
    np.testing.assert_allclose(
        found.maps[f"c/{net_subject.sites[1]}"].values,
        integration_maps(heard[net_subject.sites[1]])["c"].values,
        atol=1e-3,
    )
    assert [picture.name for picture in found.pictures] == ["windows", "maps_a", "maps_b", "maps_c", "maps_yoking"]


def test_yoking_is_that_of_blocks_of_the_commonest_sentences(net_subject):
    found = windows(net_subject, CHOICES)
    sentences = load_localizer("language").select(condition="sentences").items
    assert "Yoking: 3 blocks of 2 sentences of 10 words of one token or more" in found.text
    blocks = sentence_blocks(sentences, n_words=10, n_sentences=2, n_blocks=3)
    words = sorted({word for sentence in sentences for word in sentence.split()})
    known = single_token_words(net_subject.tokenizer, words)
    vocabulary = known if len(known) >= 20 else words
    swapped = swap_words(blocks, embedding_matched_word(net_subject.model, net_subject.tokenizer, vocabulary))
    heard = record_swaps(net_subject.model, net_subject.tokenizer, swapped, net_subject.sites, lags=range(9))
    rows = by_parameter(found.tables[1])["yoking"]
    for row, one in zip(rows, heard.values(), strict=True):
        values = yoking_map(one, sentence_words=10).values
        assert row["median"] == pytest.approx(np.median(values), abs=1e-5)
        assert row["90 %"] == pytest.approx(np.quantile(values, 0.9), abs=1e-5)


def test_units_that_forget_at_once_have_no_window(net_subject):
    """Without attention and places a unit knows the word it sees, and nothing else."""
    with torch.no_grad():
        net_subject.model.transformer.wpe.weight.zero_()  # a word of more tokens moves the words after it
        for block in net_subject.model.transformer.h:
            block.attn.c_proj.weight.zero_()
    found = windows(net_subject, CHOICES)
    rows = by_parameter(found.tables[1])
    for row in rows["a"] + rows["b"] + rows["c"]:
        assert (row["units with a value"], row["median"], row["I"]) == (0, None, None)
    (mean, *_) = found.tables[0].rows
    assert (mean["layers"], mean["mean of medians"], mean["I"]) == (0, None, None)
    drawn = found.pictures[0].figure.axes[0].lines[1].get_ydata()
    np.testing.assert_allclose(drawn, [1] + [0] * 6, atol=1e-6)


def test_a_text_of_its_own_is_read_in_order(net_subject, show, tmp_path):
    file = tmp_path / "text.txt"
    sentences = load_localizer("language").select(condition="sentences").items
    file.write_text(". ".join(sentences[:30]) + ".\n" + "! ".join(sentences[30:]), encoding="utf-8")
    own = windows(net_subject, CHOICES)
    same = windows(show(net_subject, text=str(file)), CHOICES)
    assert [row["median"] for row in same.tables[1].rows] == [row["median"] for row in own.tables[1].rows]
    file.write_text("Too short a text.", encoding="utf-8")
    none = windows(show(net_subject, text=str(file)), CHOICES)
    assert [note.split(";")[0] for note in none.notes] == [
        "Integration windows: not measured. the text holds no run of 12 words",
        "Structure yoking: not measured. no 5 sentences have one number of words from 5 to 12",
    ]
    assert none.tables[0].rows == none.tables[1].rows == none.pictures == []


def test_what_does_not_fit_the_context_is_told(net_subject):
    found = windows(net_subject, dataclasses.replace(CHOICES, window_words=60))
    assert [note.split(":")[0] for note in found.notes] == ["Integration windows", "Structure yoking"]
    assert all("the model reads at most 64: try " in note for note in found.notes)
    remedies = [note.rpartition("try window_words=")[2].removesuffix(" or fewer") for note in found.notes]
    assert windows(net_subject, dataclasses.replace(CHOICES, window_words=min(map(int, remedies)))).notes == []
    net_subject.model.config.max_position_embeddings = 16
    notes = windows(net_subject, CHOICES).notes
    assert notes
    assert all(note.endswith("the model reads at most 16: try a model that reads more") for note in notes)


def test_what_breaks_inside_is_no_note(net_subject, monkeypatch):
    def broken(*_, **__):
        raise ValueError("a bug")

    monkeypatch.setattr("topographic.evaluation.parts.windows.record_swaps", broken)
    with pytest.raises(ValueError, match="a bug"):
        windows(net_subject, CHOICES)


def test_one_sequence_is_told_in_the_singular(net_subject):
    found = windows(net_subject, dataclasses.replace(CHOICES, window_sequences=1))
    assert "Windows: 1 sequence of 12 words" in found.text
    assert "Yoking: 1 block of 2 sentences" in found.text
