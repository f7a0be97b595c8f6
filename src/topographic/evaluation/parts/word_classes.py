"""Nouns, verbs and concreteness by depth, before and after the readout, beside the published numbers."""

from dataclasses import replace

import numpy as np

from topographic.evaluation.choices import Choices
from topographic.evaluation.parts.contrast_maps import Contrast, contrasts_explained, measure_contrasts
from topographic.evaluation.results import Findings
from topographic.evaluation.subject import LanguageSubject
from topographic.recording import Responses
from topographic.stimuli import StimulusSet

__all__ = ["word_classes", "word_contrasts"]


def word_classes(subject: LanguageSubject, choices: Choices) -> Findings:
    """Maps of noun against verb and of abstract against concrete."""
    measured = measure_contrasts(word_contrasts(subject), choices, beside="topolm_language")
    return measured.findings(
        "Nouns, verbs and concreteness",
        contrasts_explained(choices),
        "Published: means over 24 sheets, phrases of Elli et al. and words of Moseley and Pulvermueller. What the "
        "paper calls unsmoothed was read out at 1 mm, on a layout whose floor is .11 there and .61 at 2 mm; it stands "
        "beside FWHM 0. Phrases of nouns and of verbs also differ in their frame (the, to), which alone tells them "
        "apart.",
        headline=("TopoLM (published)", "control (published)", "mean |t|", "mean |t| null", "p (mean |t|)"),
    )


def word_contrasts(subject: LanguageSubject) -> dict[str, Contrast]:
    """The contrasts of the paper: phrases where they are at hand, and words by class and concreteness."""
    words = subject.recorded("words")
    found = {}
    if subject.has_phrases:
        found["noun - verb (phrases)"] = Contrast(subject.recorded("phrases"), "noun", "verb")
    found["noun - verb"] = Contrast(words, "noun", "verb")
    for concreteness in ("concrete", "abstract"):
        some = {site: _only(one, concreteness) for site, one in words.items()}
        found[f"{concreteness} noun - {concreteness} verb"] = Contrast(some, "noun", "verb")
    by_concreteness = {site: replace(one, stimuli=_by_concreteness(one.stimuli)) for site, one in words.items()}
    return {**found, "abstract - concrete": Contrast(by_concreteness, "abstract", "concrete")}


def _only(responses: Responses, concreteness: str) -> Responses:
    return responses.take(np.flatnonzero(np.array(responses.stimuli.labels["concreteness"]) == concreteness))


def _by_concreteness(stimuli: StimulusSet) -> StimulusSet:
    """The same items with concreteness as their condition and the word class as a label."""
    labels = {key: column for key, column in stimuli.labels.items() if key != "concreteness"}
    return replace(stimuli, conditions=stimuli.labels["concreteness"], labels={**labels, "class": stimuli.conditions})
