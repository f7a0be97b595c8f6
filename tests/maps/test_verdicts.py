import numpy as np
import pytest

from topographic.maps import summarize, verdicts
from topographic.sheets import permuted_grid

CORRECTED = "sheets that pass on their own (q <= .05, Benjamini-Hochberg over sheets)"


def answers(summary, name="the model"):
    found = verdicts(summary, name)
    assert all(one.sentence.endswith(".") and "\n" not in one.sentence for one in found)
    return {one.question: one.holds for one in found}, {one.question: one.sentence for one in found}


@pytest.fixture
def summarized(respond):
    """Summary of two sheets made by ``population(generator, sheet) -> values``."""

    def make(population, *, fwhm_mm=0.0, n_draws=99, seed=0, **stimuli):
        rng, made = np.random.default_rng(seed), {}
        for site in ("one", "two"):
            sheet = permuted_grid(100, site)
            made[site] = respond(population(rng, sheet), sheet=sheet, site=site, **stimuli)
        return summarize(made, "a", "b", fwhm_mm=fwhm_mm, n_draws=n_draws)

    return make


def test_white_noise_is_nothing(summarized):
    summary = summarized(lambda rng, sheet: rng.standard_normal((40, 100)), seed=1)
    holds, sentences = answers(summary, "the control")
    assert holds == {"organised": False, "separates": False, "about the contrast": False}
    assert sentences["organised"].startswith("The control's autocorrelation lies inside its unit null: mean I is ")
    assert f"99 draws); {CORRECTED}: none of 2. This says" in sentences["organised"]
    assert "-" not in sentences["organised"].replace(CORRECTED, ""), "a true minus sign"
    assert "p = ." in sentences["organised"]
    assert sentences["separates"].startswith("The units do not reliably tell a from b: mean |t| is 0.")


def test_smoothness_is_no_contrast(summarized, smooth_noise):
    holds, sentences = answers(summarized(lambda rng, sheet: smooth_noise(rng, 40, sheet)), "TopoLM")
    assert holds == {"organised": True, "separates": False, "about the contrast": False}
    assert sentences["organised"].startswith("TopoLM has maps smoother than those of its units shuffled: mean I is 0.")
    assert f"{CORRECTED}: all 2. This says that neighbours are alike, not what" in sentences["organised"]
    assert sentences["about the contrast"].startswith("The smoothness is no evidence for a against b: mean I is 0.")
    assert sentences["about the contrast"].endswith(
        f"so chance splits of the same items give maps as smooth; {CORRECTED}: none of 2."
    )


def planted(rng, sheet):
    values = rng.standard_normal((40, 100))
    patch = (sheet.positions_mm < 5).all(1).numpy()
    values[np.ix_(np.arange(40) % 2 == 0, patch)] += 1.5
    return values


def test_a_planted_patch_is_a_contrast(summarized):
    holds, sentences = answers(summarized(planted))
    assert holds == {"organised": True, "separates": True, "about the contrast": True}
    assert sentences["separates"].startswith("The units tell a from b: mean |t| is 1.")
    assert sentences["about the contrast"].startswith("The smoothness belongs to a against b: mean I is 0.")


def test_the_sheets_that_pass_after_correction_are_named(summarized):
    def on_one(rng, sheet):
        return planted(rng, sheet) if sheet.name == "two" else rng.standard_normal((40, 100))

    _, sentences = answers(summarized(on_one))
    for question in ("separates", "about the contrast"):
        assert sentences[question].endswith(f"; {CORRECTED}: two.")
    assert f"; {CORRECTED}: two. This says" in sentences["organised"]


def test_a_readout_is_held_against_its_floor(summarized):
    holds, sentences = answers(summarized(lambda rng, sheet: rng.standard_normal((20, 100)), fwhm_mm=2.0, n_draws=39))
    assert holds["organised"] is holds["beyond readout"] is False
    assert sentences["beyond readout"].startswith("The readout alone (FWHM 2 mm) makes white noise as smooth as I 0.")
    assert sentences["beyond readout"].endswith("is not above that floor.")
    holds, sentences = answers(summarized(planted, fwhm_mm=2.0, n_draws=39))
    assert holds["beyond readout"] is True
    assert sentences["beyond readout"].endswith("is above that floor.")


def test_a_map_rougher_than_chance_lies_below(summarized):
    def striped(rng, sheet):
        values = rng.standard_normal((40, 100))
        values[::2] += np.where(sheet.positions_mm[:, 0].numpy() % 2, 1.0, -1.0)
        return values

    # of eight queen neighbours on stripes one unit wide six are unlike
    holds, sentences = answers(summarized(striped))
    assert holds["organised"] is False
    assert "lies below its unit null" in sentences["organised"]


def test_no_draws_no_verdict(summarized):
    (only,) = verdicts(summarized(planted, n_draws=0))
    assert (only.question, only.holds) == ("organised", None)
    assert only.sentence.startswith("No nulls were drawn: mean I is 0.")


@pytest.mark.parametrize(("n_draws", "holds"), [(10, None), (18, None), (19, True)])
def test_too_few_draws_decide_nothing(summarized, n_draws, holds):
    answered, sentences = answers(summarized(planted, fwhm_mm=1.0, n_draws=n_draws))
    assert set(answered) == {"organised", "beyond readout", "separates", "about the contrast"}
    assert set(answered.values()) == {holds}
    told = [one.startswith(f"There are too few draws to say ({n_draws}; at least 19): ") for one in sentences.values()]
    assert all(told) if holds is None else not any(told)
    assert f"{n_draws} draws)" in sentences["organised"]
    assert (CORRECTED in sentences["organised"]) is (holds is True)


def test_cautions(summarized):
    longer = np.tile([8, 5, 9, 6], 10)
    _, sentences = answers(summarized(planted, n_draws=9, n_tokens=longer))
    assert sentences["caution"] == (
        "The conditions differ in length (8.5 and 5.5 tokens) and labels were exchanged regardless of it: "
        "length may explain what separates them."
    )
    # nine runs in ten hold one side of the contrast only
    runs, conditions = [str(k // 4) for k in range(40)], ["a", "a", "b", "b"] + (["a"] * 4 + ["b"] * 4) * 4 + ["a"] * 4
    _, sentences = answers(summarized(planted, n_draws=9, runs=runs, conditions=conditions))
    assert sentences["caution"] == (
        "Only 4 of 40 labels could be exchanged within run: the label null moves little and has little power."
    )


def test_few_labellings_are_said(summarized):
    groups = {"labels": {"word": [str(k // 5) for k in range(40)]}, "sampled_by": "word", "runs": ["1"] * 40}
    summary = summarized(
        lambda rng, sheet: rng.standard_normal((40, 100)), conditions=["a"] * 20 + ["b"] * 20, **groups
    )
    _, sentences = answers(summary)
    assert "whole entries of word (8), which leaves 70 labellings: no p against shuffled" in sentences["caution"]
    assert sentences["caution"].endswith("can be below .029.")
    three = [str(min(k // 10, 3)) for k in range(40)]
    summary = summarized(
        lambda rng, sheet: rng.standard_normal((40, 100)),
        conditions=["a"] * 20 + ["b"] * 20,
        **{**groups, "labels": {"word": three}},
    )
    holds, sentences = answers(summary)
    assert holds["separates"] is None
    assert sentences["separates"].startswith("There are too few labellings to say (no p below .333): mean |t| is ")
