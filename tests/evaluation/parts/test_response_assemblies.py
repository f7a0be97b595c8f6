import dataclasses

import numpy as np
import pytest

from topographic.evaluation import Choices, NotMeasurable
from topographic.evaluation.parts.response_assemblies import response_assemblies
from topographic.evaluation.word_readings import part_states


@pytest.fixture
def told(readers, word_data, save_assembly):
    """That subject with three recordings of one text: what a layer says, noise, and noise that lasts for a passage."""
    rng = np.random.default_rng(0)
    vocabulary = [f"{a}{b}" for a in ("ba", "do", "ki", "lum", "ra") for b in ("t", "nel", "rimo", "sa", "vun")]
    texts = [" ".join(rng.choice(vocabulary, rng.integers(3, 9))) for _ in range(96)]
    passages = np.repeat(np.arange(24), 4)
    items = {
        "experiment": ["243sentences"] * 96,
        "story": [f"topic {one // 2}" for one in passages],
        "passage_label": [f"topic {one // 2}" for one in passages],
        "passage_index": passages,
        "stimulus_num": np.arange(96),
        "stimulus": texts,
    }
    site = list(readers.sheets)[-1]
    documents = [str(one) for one in passages]
    states = part_states(readers.model, readers.tokenizer, texts, documents, [site], batch_size=64)[site]
    scaled = (states - states.mean(axis=0)) / states.std(axis=0)
    responses = {
        "assy_said": scaled @ rng.normal(size=(states.shape[1], 12)) / np.sqrt(states.shape[1]),
        "noise": rng.normal(size=(96, 12)),
        "lasting": np.repeat(rng.normal(size=(24, 12)), 4, axis=0),
    }
    order = rng.permutation(96)  # a file need not be in the order of the text
    for name, values in responses.items():
        mixed = {key: np.array(column)[order] for key, column in items.items()}
        noisy = (values + 0.3 * rng.normal(size=values.shape))[order]
        kind = "classic" if name == "noise" else "netcdf4"
        save_assembly(word_data / f"{name}.nc", noisy, mixed, {"subject": ["a", "b", "c", "d"] * 3}, kind=kind)
    (word_data / "recorded.nc").unlink()
    return dataclasses.replace(readers)


def test_a_layer_that_was_planted_is_found_and_noise_is_not(told):
    found = response_assemblies(told, Choices(n_draws=39, word_folds=4, seed=3))
    table = found.to_frame().set_index(["data", "features"])
    assert set(table.index.levels[0]) == {"said", "noise", "lasting"}
    said = table.loc["said"]
    layers = [name for name in said.index if "," not in name and name.startswith("layer ")]
    controls = said.drop(index=layers)
    assert [name.split(",")[0] for name in controls.index] == [
        "length and position",
        "neighbours in time (OASM)",
        "embedding layer",
        "untrained",
        "random tokens",
    ]
    best = said.loc[layers[-1]]
    assert best["r"] > 0.8
    assert best["low"] > controls["r"].max() + 0.1
    assert best["p"] == 1 / 16
    assert best["p (R2)"] == 1 / 40
    for name in ("noise", "lasting"):
        noise = table.loc[name].loc[layers]
        assert (noise["p"] > 1 / 16).any()
        assert (noise["p (R2)"] > 0.05).all()
        assert (noise["r"].abs() < 0.25).all()
    assert table.loc[("lasting", "neighbours in time (OASM)"), "r"] == 0.0
    persons = found["subjects"].to_frame()
    assert persons[persons["data"] == "said"].groupby("features")["subject"].agg(list).tolist() == [list("abcd")] * 7
    assert {"GPT2-XL", "OASM"} == set(found["published"].to_frame()["model"])


def test_recordings_are_material_and_a_folder_without_any_is_said(told, word_data):
    first = told.material()["assemblies"]
    assert "recordings: said, lasting, noise" in told.in_words()
    (word_data / "noise.nc").unlink()
    assert dataclasses.replace(told).material()["assemblies"] != first
    for file in word_data.glob("*.nc"):
        file.unlink()
    none = dataclasses.replace(told)
    assert "assemblies" not in none.material()
    with pytest.raises(NotMeasurable, match=r"no assembly of Brain-Score \(.nc\) lies below "):
        response_assemblies(none, Choices())
