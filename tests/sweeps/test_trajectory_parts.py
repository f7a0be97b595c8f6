import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from topographic.behaviour import perplexity, token_log_probabilities
from topographic.evaluation import Choices, NotMeasurable, Shown
from topographic.maps import morans_i, t_map
from topographic.sweeps import trajectory_parts as module
from topographic.sweeps.series import Checkpoint, Series, series_of
from topographic.sweeps.trajectory_parts import (
    PARTS,
    Asked,
    TimePart,
    Watched,
    has_sheets,
    measure_part,
    shown_material,
    subject_at,
)

ASKED = Asked(Watched(choices=Choices(n_draws=19)))


@pytest.fixture(scope="module")
def subject(stand_ins):
    (series,) = series_of([str(stand_ins)], ["step0", "step2"], tokens_per_step=1)
    return subject_at(*series.checkpoints[1].load(), series, Watched(Shown(pairs_per_paradigm=1)))


def test_numbers_are_those_of_the_rooms_below(subject):
    texts = subject.passages(subject.minimal_pairs())
    found = measure_part("text", subject, ASKED)
    scores = token_log_probabilities(subject.model, subject.tokenizer, texts, progress=False)
    assert found["perplexity"] == pytest.approx(perplexity(scores), rel=1e-5)
    assert found["words"] == sum(len(text.split()) for text in texts)
    topography = measure_part("topography", subject, ASKED)
    responses = subject.recorded("localizer")
    own = [morans_i(t_map(one, "sentences", "nonwords")).value for one in responses.values()]
    assert topography["I"] == pytest.approx(np.mean(own), abs=1e-6)
    t = measure_part("localizer", subject, ASKED)["t"]
    site = next(iter(t))
    assert list(responses) == measure_part("localizer", subject, ASKED)["sites"]
    assert t[site] == pytest.approx(t_map(responses[site], "sentences", "nonwords").values, abs=1e-4)


def test_models_without_sheets_have_no_topography(tiny_tokenizer):
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=384, n_embd=16, n_layer=2, n_head=2, n_positions=64))
    series = Series("gpt2", (Checkpoint("a", 0), Checkpoint("b", 1)))
    found = subject_at(model, tiny_tokenizer, series, Watched(Shown(pairs_per_paradigm=1)))
    assert not has_sheets(found)
    assert not PARTS["topography"].wanted(Watched(), has_sheets(found))
    assert len(measure_part("localizer", found, ASKED)["t"]) == 2


def test_parts_without_material_are_left_out_and_what_cannot_be_measured_says_why(subject, tmp_path, monkeypatch):
    given = ("syntaxgym", "functional", "reading", "alignment")
    assert not any(PARTS[name].wanted(Watched(), True) for name in given)
    whole = Watched(Shown(data="folder", syntaxgym="folder"), functional=str(tmp_path))
    assert all(PARTS[name].wanted(whole, True) for name in given)
    assert measure_part("reading", subject, ASKED) == {"not measured": "data not given (data=FOLDER)"}

    def fails(*_):
        raise NotMeasurable("no such thing")

    monkeypatch.setattr(module, "PARTS", {"text": TimePart(fails)})
    assert measure_part("text", subject, ASKED) == {"not measured": "no such thing"}


def test_no_units_are_refused():
    with pytest.raises(ValueError, match="n_units=0; expected at least 1 unit"):
        Watched(n_units=0)
    with pytest.raises(ValueError, match="items_per_task=0; expected at least 1 item"):
        Watched(items_per_task=0)
    with pytest.raises(FileNotFoundError, match="functional=absent: no such folder; expected task definitions"):
        Watched(functional="absent")


def test_what_tasks_are_made_of_decides_what_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "harness_version", lambda: "0.4.9")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/piqa.jsonl").write_text("{}")
    first = shown_material(Watched(functional=str(tmp_path)))["functional"]
    assert shown_material(Watched(functional=str(tmp_path)))["functional"] == first
    (tmp_path / "data/piqa.jsonl").write_text("{ }")
    other = shown_material(Watched(functional=str(tmp_path)))["functional"]
    fewer = shown_material(Watched(functional=str(tmp_path), items_per_task=3))["functional"]
    monkeypatch.setattr(module, "harness_version", lambda: "0.5.0")
    assert len({first, other, fewer, shown_material(Watched(functional=str(tmp_path)))["functional"]}) == 4
    assert "functional" not in shown_material(Watched())
