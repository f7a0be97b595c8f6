"""Against a stand-in of the package's interface, which is not installed here."""

import sys
from types import ModuleType

import numpy as np
import pytest

from topographic.behaviour import token_log_probabilities
from topographic.evaluation import brain_score
from topographic.evaluation.brain_score import brain_score_subject
from topographic.recording import record
from topographic.stimuli import StimulusSet

PARTS = ["The dogs barked", "at the cat", "loudly."]


class Assembly:
    """What Brain-Score's containers check: one coordinate per entry of its dimension."""

    def __init__(self, values, coords, dims):
        self.values, self.coords, self.dims = np.asarray(values), coords, tuple(dims)
        for name, (dimension, entries) in coords.items():
            assert len(entries) == self.values.shape[self.dims.index(dimension)], name


@pytest.fixture
def installed(monkeypatch):
    """The two modules that are imported of it."""

    class ArtificialSubject:
        def digest_text(self, text):
            raise NotImplementedError

    package, subject, core = (ModuleType(name) for name in ("brainscore_language", "subject", "assemblies"))
    subject.ArtificialSubject, core.NeuroidAssembly, core.BehavioralAssembly = ArtificialSubject, Assembly, Assembly
    monkeypatch.setitem(sys.modules, "brainscore_language", package)
    monkeypatch.setitem(sys.modules, "brainscore_language.artificial_subject", subject)
    monkeypatch.setitem(sys.modules, "brainio", ModuleType("brainio"))
    monkeypatch.setitem(sys.modules, "brainio.assemblies", core)
    return ArtificialSubject


@pytest.fixture
def scored(tiny_subject, installed):
    sites = list(tiny_subject.sheets)[:2]
    made = brain_score_subject(
        tiny_subject.model, tiny_subject.tokenizer, {"language_system": sites}, identifier="tiny-1"
    )
    return made, sites


def test_it_is_a_subject_with_recordings_of_the_last_token_of_each_part(scored, installed, tiny_subject):
    made, sites = scored
    assert isinstance(made, installed)
    assert made.identifier() == "tiny-1"
    made.start_neural_recording(recording_target="language_system", recording_type="fMRI")
    found = made.digest_text(PARTS)
    assert found["behavior"] is None
    neural = found["neural"]
    assert neural.dims == ("presentation", "neuroid")
    assert neural.coords["stimulus"][1] == PARTS
    assert neural.coords["context"][1][1] == "The dogs barked at the cat"
    contexts = StimulusSet("contexts", tuple(" ".join(PARTS[: n + 1]) for n in range(3)), ("text",) * 3)
    one = record(
        tiny_subject.model, tiny_subject.tokenizer, contexts, sites, pooling="last", add_bos=False, progress=False
    )
    expected = np.concatenate([one[site].values for site in sites], axis=1)
    np.testing.assert_allclose(neural.values, expected, atol=1e-5)
    assert len(set(neural.coords["neuroid_id"][1])) == expected.shape[1]


def test_reading_times_are_surprisal_in_bits(scored, tiny_subject):
    made, _ = scored
    made.start_behavioral_task("reading_times")
    found = made.digest_text(PARTS)["behavior"].values
    model, tokenizer, text = tiny_subject.model, tiny_subject.tokenizer, " ".join(PARTS)
    special = len(tokenizer(text)["input_ids"]) - len(tokenizer(text, add_special_tokens=False)["input_ids"])
    whole = token_log_probabilities(model, tokenizer, [text], protocol="bos" if special else "no_bos", progress=False)
    assert found.sum() == pytest.approx(-whole[0].sum() / np.log(2), rel=1e-4)


def test_a_text_longer_than_the_context_is_read_by_its_last_tokens(scored, monkeypatch):
    made, _ = scored
    made.start_behavioral_task("reading_times")
    made.start_neural_recording("language_system", "fMRI")
    long = [f"The cat number {number} sat" for number in range(6)]
    whole = made.digest_text(long)
    monkeypatch.setattr(brain_score, "longest_context", lambda *_: 20)
    cut = made.digest_text(long)
    np.testing.assert_allclose(cut["neural"].values[0], whole["neural"].values[0], atol=1e-5)
    assert np.isfinite(cut["neural"].values).all()
    assert np.isfinite(cut["behavior"].values[1:]).all()
    assert not np.allclose(cut["neural"].values[-1], whole["neural"].values[-1], atol=1e-5)


def test_the_next_word_is_a_word(scored):
    made, _ = scored
    made.perform_behavioral_task("next_word")
    assert made.digest_text("The dogs")["behavior"].values.shape == (1,)


def test_what_it_cannot_do_it_says(scored, tiny_subject, monkeypatch):
    made, _ = scored
    with pytest.raises(ValueError, match="task='sing'; this subject does next_word, reading_times"):
        made.start_behavioral_task("sing")
    with pytest.raises(ValueError, match="region 'V1' has no sites; it was made with language_system"):
        made.start_neural_recording("V1", "fMRI")
    monkeypatch.setitem(sys.modules, "brainscore_language.artificial_subject", None)
    with pytest.raises(ImportError, match=r"needs brainscore_language .* run `pip install"):
        brain_score_subject(tiny_subject.model, tiny_subject.tokenizer, {}, identifier="a")
