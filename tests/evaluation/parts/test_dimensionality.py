import numpy as np
import pytest
from sklearn.decomposition import PCA

from topographic.evaluation import Choices
from topographic.evaluation.parts.dimensionality import dimensionality
from topographic.recording import record_tokens
from topographic.stimuli import StimulusSet

CHOICES = Choices(n_draws=39)
SAMPLES = ("items, mean over their tokens", "tokens of the text")
LAYERS = ["layer 0 mlp.c_fc", "layer 1 mlp.c_fc"]


def by_sheet(table, **wanted):
    return {row["sheet"]: row for row in table.rows if all(row[key] == value for key, value in wanted.items())}


def test_dimensionality_of_items_and_of_tokens(net_subject):
    found = dimensionality(net_subject, CHOICES)
    means, layers, published = found.tables
    items, tokens = (by_sheet(layers, samples=samples) for samples in SAMPLES)
    passages = net_subject.passages(net_subject.minimal_pairs())
    shown = StimulusSet("passages", passages, ("text",) * len(passages))
    heard = record_tokens(net_subject.model, net_subject.tokenizer, shown, net_subject.sites)
    for recorded, rows in ((net_subject.recorded("localizer"), items), (heard, tokens)):
        for one, row in zip(recorded.values(), rows.values(), strict=True):
            eigenvalues = PCA().fit(one.values.astype(float)).explained_variance_
            assert row["dimensionality"] == pytest.approx(eigenvalues.sum() ** 2 / np.square(eigenvalues).sum())
            assert 1 <= row["dimensionality"] < row["independent units"] < row["bound"]
    assert items[LAYERS[0]]["n samples"] == 240
    assert tokens[LAYERS[0]]["n samples"] == sum(
        len(net_subject.tokenizer(passage)["input_ids"]) for passage in passages
    )
    assert [row["samples"] for row in means.rows] == list(SAMPLES)
    assert means.rows[0]["dimensionality"] == pytest.approx(np.mean([row["dimensionality"] for row in items.values()]))
    of_tau = {(row["model"], row["tau"]): row["dimensionality"] for row in published.rows}
    assert (of_tau["NanoGPT", 0], of_tau["NanoGPT", 50], of_tau["GPT-Neo-125M", 5]) == (41.6, 11.0, 17.3)


def test_a_vision_model_is_measured_the_same_way(image_subject):
    intact = image_subject.recorded("localizer")["fc1"]
    dimensions = dimensionality(image_subject, CHOICES)
    assert "trained on other images;" in dimensions.tables[2].note
    shown, test = dimensions.tables[1].rows
    for row, one in ((shown, intact), (test, image_subject.recorded("test")["fc1"])):
        eigenvalues = PCA().fit(one.values.astype(float)).explained_variance_
        assert row["dimensionality"] == pytest.approx(eigenvalues.sum() ** 2 / np.square(eigenvalues).sum(), rel=1e-6)
    assert {row["model"] for row in dimensions.tables[2].rows} == {"ResNet-18", "ResNet-50", "ViT-B/32", "TDANN"}
