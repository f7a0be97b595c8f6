import dataclasses

import numpy as np
import pytest

from topographic.evaluation import Choices, evaluate
from topographic.evaluation.parts.topography import (
    SUITE_CONTRASTS,
    components,
    kind_of_site,
    linguistic_suites,
    statistic_of_topography,
)
from topographic.models import fresh_model, preset
from topographic.recording import Responses
from topographic.sheets import grid
from topographic.stimuli import load_localizer

CHOICES = Choices(fwhm_mm=(0.0,), n_draws=19)
SITES = {"h.0.attn.query_sheet": True, "h.0.attn.value_sheet": False}


@pytest.fixture
def planted(tiny_subject, plant):
    """Queries that vary together in a wave over the sheet, with a patch for animate nouns; values that are noise."""
    draw, stimuli = np.random.default_rng(0), load_localizer("suites")
    animate = np.array(stimuli.conditions) == "animate"
    responses = {}
    for site, is_smooth in SITES.items():
        sheet = grid(100, site, wrap=True)
        places = sheet.positions_mm.numpy()
        values = draw.standard_normal((len(stimuli), 100))
        if is_smooth:
            values += 2 * np.outer(draw.standard_normal(len(stimuli)), np.sin(2 * np.pi * places[:, 0] / 10))
            values += 4 * np.outer(animate, (places < 4).all(1))
        responses[site] = Responses(site, values, sheet, stimuli)
    layout = {site: one.sheet for site, one in responses.items()}
    return plant(dataclasses.replace(tiny_subject, layout=layout, sites=list(layout)), suites=responses)


def test_a_planted_wave_has_a_topographic_statistic_and_noise_has_none(planted):
    means = {row["of"]: row for row in statistic_of_topography(planted, CHOICES).tables[0].rows}
    assert means["queries"]["t_g"] > 0.3
    assert means["queries"]["p (unit)"] == 0.05
    assert abs(means["values"]["t_g"]) < 0.1
    assert means["values"]["p (unit)"] > 0.05


def test_every_kind_of_module_has_a_line_from_layer_to_layer(tiny_subject, plant):
    draw, stimuli = np.random.default_rng(0), load_localizer("suites")
    sites = [f"h.{layer}.attn.{kind}_sheet" for layer in range(3) for kind in ("query", "value")]
    responses = {}
    for number, site in enumerate(sites):  # each as smooth as no other
        sheet = grid(36, site, wrap=True)
        wave = np.sin(2 * np.pi * sheet.positions_mm.numpy()[:, 0] / 6)
        values = draw.standard_normal((len(stimuli), 36)) + number * np.outer(draw.standard_normal(len(stimuli)), wave)
        responses[site] = Responses(site, values, sheet, stimuli)
    layout = {site: one.sheet for site, one in responses.items()}
    subject = plant(dataclasses.replace(tiny_subject, layout=layout, sites=list(layout)), suites=responses)
    findings = statistic_of_topography(subject, CHOICES)
    rows = {row["sheet"]: row for row in findings.tables[1].rows}
    (axes,) = findings.pictures[0].figure.axes
    lines = {line.get_label(): line.get_ydata() for line in axes.get_lines() if not line.get_label().startswith("_")}
    assert list(lines) == ["attn.query", "attn.value", "units permuted"]
    for kind in ("attn.query", "attn.value"):
        np.testing.assert_array_equal(lines[kind], [rows[f"layer {layer} {kind}"]["t_g"] for layer in range(3)])
    nulls = [
        np.mean([rows[f"layer {layer} attn.{one}"]["unit null"] for one in ("query", "value")]) for layer in range(3)
    ]
    np.testing.assert_allclose(lines["units permuted"], nulls)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["layer 0", "layer 1", "layer 2"]


def test_a_planted_preference_is_found_in_its_suite_alone(planted):
    rows = {row["contrast"]: row for row in linguistic_suites(planted, CHOICES).tables[0].rows}
    assert list(rows) == list(SUITE_CONTRASTS)
    assert [name for name, row in rows.items() if row["clusters (first)"]] == ["animacy"]
    assert rows["animacy"]["p (mean |t|)"] == 0.05
    assert rows["visuomotor"]["p (mean |t|)"] > 0.05


def test_the_planted_wave_is_the_first_component(planted):
    found = components(planted, CHOICES)
    (first, *_) = [row for row in found.tables[1].rows if row["component"] == 1]
    assert first["p (unit)"] == 0.05
    assert first["share of variance"] > 0.3
    wave = np.sin(2 * np.pi * grid(100, wrap=True).positions_mm[:, 0].numpy() / 10)
    assert abs(np.corrcoef(found.maps["component_1/h.0.attn.query_sheet"].values, wave)[0, 1]) > 0.9
    assert len(found.pictures) == 3


@pytest.mark.parametrize(
    ("site", "kind"),
    [
        ("transformer.h.0.attn.query_sheet", "queries"),
        ("model.layers.0.self_attn.k_proj", "keys"),
        ("bert.encoder.layer.0.attention.self.value", "values"),
        ("bert.encoder.layer.0.attention.output.dense", "outputs"),
        ("model.layers.0.self_attn.o_proj", "outputs"),
        ("h.0.mlp.fc", "other"),
    ],
)
def test_sites_are_told_apart_by_name(site, kind):
    assert kind_of_site(site) == kind


@pytest.mark.parametrize("objective", ["masked_tokens", "labels"])
def test_a_model_of_masked_words_and_a_classifier_are_measured(tiny_subject, objective):
    tokenizer = tiny_subject.tokenizer
    config = preset("topoformer_tiny", vocab_size=len(tokenizer), n_positions=64)
    model = fresh_model(config, seed=0, objective=objective)
    results = evaluate(model, tokenizer, suite="topoformer", quick=True, fwhm_mm=(0.0,), progress=False)
    assert {row["of"] for row in results["topography"].tables[0].rows} == {"queries", "keys", "values", "outputs"}
    assert len(results["suites"].tables[0].rows) == 8
    assert not [
        note for part in ("topography", "suites", "components") for note in results[part].notes if "Not" in note
    ]
