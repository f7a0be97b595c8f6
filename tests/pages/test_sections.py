import dataclasses
import html
import re
from pathlib import Path

import numpy as np
import pytest

from topographic.pages import sections
from topographic.pages.run_folder import read_runs
from topographic.pages.sections import QUESTIONS, SECTIONS, Comparison, lead

pytestmark = pytest.mark.usefixtures("no_ink")

CONTRAST = "sentences-nonwords"


def text_of(made):
    return html.unescape(re.sub(r"<[^>]*>", " ", made))


def replaced(run, **changes):
    """A run whose summary is changed."""
    return dataclasses.replace(run, summaries={CONTRAST: dataclasses.replace(run.summaries[CONTRAST], **changes)})


def with_nulls(number, **p_of):
    """The same value with other p under its nulls."""
    changed = {null: dataclasses.replace(number.nulls[null], p=p) for null, p in p_of.items()}
    return dataclasses.replace(number, nulls={**number.nulls, **changed})


@pytest.fixture
def runs(run_folders):
    return read_runs(run_folders)


def page_of(runs, section):
    return SECTIONS[section](Comparison(runs, Path()))


def answers(runs):
    return re.findall(r'<li class="(\w+)"><strong>(.*?)</strong>', page_of(runs, "In short"))


def test_verdicts_say_what_was_planted(runs):
    organised = QUESTIONS["organised"]
    assert [one for one in answers(runs) if organised in one[1]] == [
        ("holds", f"{organised} Yes."),
        ("fails", f"{organised} No."),
    ]
    said = text_of(page_of(runs, "In short"))
    assert "The topographic model is spatially organised beyond its unit null" in said
    assert "The control model's autocorrelation lies inside its unit null" in said


@pytest.mark.parametrize("question", ["organised", "about the contrast", "separates"])
def test_verdicts_flip_with_the_numbers(runs, question):
    summary = runs[0].summaries[CONTRAST]
    null = {"organised": "unit", "about the contrast": "label", "separates": "label"}[question]
    field = "mean_abs_t" if question == "separates" else "morans_i"
    found = {}
    for p in (0.01, 0.6):
        changed = replaced(runs[0], **{field: with_nulls(getattr(summary, field), **{null: p})})
        found[p] = dict(reversed(one) for one in answers([changed]))
    asked = QUESTIONS[question]
    assert found[0.01][f"{asked} Yes."] == "holds"
    assert found[0.6][f"{asked} No."] == "fails"
    others = [{name for name in one if asked not in name} for one in found.values()]
    assert others[0] == others[1], "the other answers stay"


def test_every_verdict_has_a_question(runs):
    """Readout, cautions and maps without nulls have verdicts of their own."""
    provenance = {**runs[0].summaries[CONTRAST].provenance, "fwhm_mm": 2.0, "n_exchangeable": 4}
    asked = [question for _, question in answers([replaced(runs[0], provenance=provenance)])]
    assert any(QUESTIONS["beyond readout"] in one for one in asked)
    assert ("caution", f"{QUESTIONS['caution']} ") in answers([replaced(runs[0], provenance=provenance)])
    bare = dataclasses.replace(runs[0].summaries[CONTRAST].morans_i, nulls={})
    assert answers([replaced(runs[0], morans_i=bare)]) == [("caution", f"{QUESTIONS['organised']} ")]


def test_lead_says_what_was_trained(runs):
    said = text_of(lead(runs))
    assert "topographic: TopoLM trained with the spatial loss (weight 0.25) on 409,600 tokens of movie-reviews." in said
    assert "control: TopoLM trained without the spatial loss on 409,600 tokens" in said
    assert "not trained here" in lead([dataclasses.replace(runs[0], record={})])


def spy(monkeypatch, name, action):
    """What a drawing function returned while the action ran."""
    kept, original = [], getattr(sections, name)
    monkeypatch.setattr(sections, name, lambda *args, **kwargs: kept.append(original(*args, **kwargs)) or kept[-1])
    action()
    return kept


def test_one_colour_scale_for_all_maps(runs, monkeypatch):
    made = []
    kept = spy(monkeypatch, "draw_maps", lambda: made.append(page_of(runs, "Maps")))
    panels = [ax for figure in kept for ax in figure.axes if ax.images]
    assert len(panels) == 16
    (limits,) = {ax.images[0].get_clim() for ax in panels}
    assert limits[0] == -limits[1]
    values = np.concatenate([one.values for run in runs for one in run.summaries[CONTRAST].maps.values()])
    assert limits[1] == pytest.approx(np.percentile(np.abs(values), 99.5))
    assert f"t = ±{limits[1]:.1f}" in text_of(made[0])


def test_null_figures_share_their_axis(runs, monkeypatch):
    first, second = kept = spy(monkeypatch, "draw_null_distribution", lambda: page_of(runs, "Statistics"))
    assert first.get_xlim() == second.get_xlim()
    dots = np.concatenate([np.asarray(ax.collections[0].get_offsets())[:, 0] for ax in kept])
    assert first.get_xlim()[0] < dots.min() < dots.max() < first.get_xlim()[1]
    assert [label.get_text() for label in first.get_yticklabels()][-2:] == ["layer 3 mlp", "mean"]


@pytest.mark.parametrize(
    ("name", "section"),
    [("draw_training_curves", "Training"), ("draw_distance_curves", "Correlation against distance")],
)
def test_both_runs_are_drawn_in_the_same_axes(runs, monkeypatch, name, section):
    (ax,) = spy(monkeypatch, name, lambda: page_of(runs, section))
    labels = " ".join(text.get_text() for text in ax.get_legend().get_texts())
    assert "topographic" in labels
    assert "control" in labels


def test_what_separates_best_comes_first(runs):
    strength = runs[0].summaries[CONTRAST].mean_abs_t
    weak = dataclasses.replace(strength, value=strength.value / 10)
    changed = dataclasses.replace(runs[0].summaries[CONTRAST], contrast="a-b", mean_abs_t=weak)
    both = dataclasses.replace(runs[0], summaries={"a-b": changed, **runs[0].summaries})
    assert list(Comparison([both], Path()).contrasts) == [CONTRAST, "a-b"]


def test_references_are_explained_in_plain_words(runs):
    said = text_of(page_of(runs, "Statistics"))
    for words in ("Kernel floor.", "Unit null.", "Label null.", "A high I alone is no evidence of anything."):
        assert words in said
    assert said.index("no evidence of anything") < said.index("transformer.h.0.attn")


@pytest.mark.parametrize("section", list(SECTIONS))
def test_a_run_without_maps_or_metrics_is_told_what_makes_them(runs, section):
    bare = dataclasses.replace(runs[0], summaries={}, stimuli={}, metrics=[])
    said = text_of(page_of([bare], section))
    if section in ("In short", "Maps", "Correlation against distance", "Statistics", "Stimuli and caveats"):
        assert "topographic has no maps yet" in said
        assert f"topo map {bare.folder}" in said
    if section == "Evaluation":
        assert f"topographic has no evaluation yet: topo evaluate {bare.folder}" in re.sub(r"\s+", " ", said)
    if section == "Training":
        assert "topographic has logged nothing yet" in said
        assert f"topo train {bare.folder}/config.yaml" in said


def test_a_contrast_that_one_run_lacks_is_named(runs):
    other = dataclasses.replace(runs[0].summaries[CONTRAST], contrast="noun-verb")
    both = dataclasses.replace(runs[0], summaries={**runs[0].summaries, "noun-verb": other})
    for section in ("In short", "Maps", "Correlation against distance", "Statistics", "Stimuli and caveats"):
        made = page_of([both, runs[1]], section)
        assert text_of(made).count("control has no maps of noun-verb yet") == 1
        assert made.count("<h3>sentences against nonwords</h3>") == 2  # both contrasts have these conditions here
    assert page_of([both, runs[1]], "Maps").count("<img") == 3


def test_maps_whose_files_are_gone_are_counted(runs):
    kept = dict(list(runs[0].summaries[CONTRAST].maps.items())[:5])
    said = text_of(page_of([replaced(runs[0], maps=kept)], "Maps"))
    assert "3 of 8 maps are not drawn" in said
    assert page_of([replaced(runs[0], maps={})], "Maps").count("<img") == 0


def test_runs_without_the_spatial_loss_are_named(runs):
    made = page_of(runs, "Training")
    assert "Trained without it: control." in made
    assert made.count("<img") == 2
    made = page_of(runs[1:], "Training")
    assert "No run was trained with the spatial loss." in made
    assert made.count("<img") == 1


def test_three_runs_stand_side_by_side(runs):
    third = dataclasses.replace(runs[1], name="third")
    for section in SECTIONS:
        assert ("third" in page_of([*runs, third], section)) == (section != "Stimuli and caveats")
    assert page_of([*runs, third], "Maps").count("<img") == 3


def test_every_picture_has_words(runs):
    for section in SECTIONS:
        for picture in re.findall(r"<img [^>]*>", page_of(runs, section)):
            assert re.search(r'alt="[^"]{20,}"', picture)
