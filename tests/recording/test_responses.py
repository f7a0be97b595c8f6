import numpy as np
import pytest

from topographic.recording import Responses
from topographic.sheets import grid
from topographic.stimuli import StimulusSet


@pytest.fixture
def stimuli():
    return StimulusSet("toy", ["dog", "run", "idea"], ["noun", "verb", "noun"])


@pytest.fixture
def responses(stimuli):
    values = np.random.default_rng(0).normal(size=(3, 6))
    return Responses("h.0", values, grid(6, "h.0"), stimuli, np.array([1, 2, 3]), {"model": "toy", "bos": True})


def test_kept_in_float32(responses):
    assert responses.values.dtype == np.float32
    assert responses.n_tokens.dtype == np.int64


def test_take_keeps_rows_aligned(responses):
    taken = responses.take(np.array([2, 0]))
    assert np.array_equal(taken.values, responses.values[[2, 0]])
    assert taken.stimuli.items == ("idea", "dog")
    assert taken.n_tokens.tolist() == [3, 1]
    assert (taken.sheet, taken.site, taken.provenance) == (responses.sheet, "h.0", responses.provenance)


@pytest.mark.parametrize("with_tokens", [True, False])
def test_round_trip(responses, tmp_path, with_tokens):
    if not with_tokens:
        responses = Responses("h.0", responses.values, responses.sheet, responses.stimuli)
    path = tmp_path / "responses.safetensors"
    responses.save(path)
    loaded = Responses.load(path)
    assert np.array_equal(loaded.values, responses.values)
    assert loaded.sheet == responses.sheet
    assert loaded.stimuli == responses.stimuli
    assert loaded.provenance == dict(responses.provenance)
    assert loaded.site == "h.0"
    if with_tokens:
        assert np.array_equal(loaded.n_tokens, responses.n_tokens)
    else:
        assert loaded.n_tokens is None


def test_loads_no_other_noun(tmp_path):
    grid(6).save(tmp_path / "sheet.safetensors")
    with pytest.raises(ValueError, match="holds a Sheet; expected Responses"):
        Responses.load(tmp_path / "sheet.safetensors")


def test_refuses_misfits(stimuli):
    with pytest.raises(ValueError, match=r"'h.0' have shape \(6, 3\); stimuli and sheet say \(3, 6\)"):
        Responses("h.0", np.zeros((6, 3)), grid(6), stimuli)
    values = np.zeros((3, 6))
    values[1, 4] = np.inf
    with pytest.raises(ValueError, match="hold NaN or infinity in 1 of 6 units"):
        Responses("h.0", values, grid(6), stimuli)
    with pytest.raises(ValueError, match=r"n_tokens at 'h.0' has shape \(2,\); expected \(3,\)"):
        Responses("h.0", np.zeros((3, 6)), grid(6), stimuli, np.array([1, 2]))
