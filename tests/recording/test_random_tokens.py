import numpy as np

from topographic.recording import RandomTokens, record_tokens
from topographic.stimuli import StimulusSet

TEXTS = ["The dogs  barked loudly.", "A naïve cat's été", "Go"]


def test_random_tokens_are_as_many_and_seeded(tiny_subject):
    model, tokenizer, site = tiny_subject.model, tiny_subject.tokenizer, next(iter(tiny_subject.sheets))
    shown = StimulusSet("texts", tuple(TEXTS), ("text",) * 3)
    own = record_tokens(model, tokenizer, shown, [site])[site]
    drawn = [record_tokens(model, RandomTokens(tokenizer, 1), shown, [site])[site] for _ in range(2)]
    assert drawn[0].stimuli.labels == own.stimuli.labels
    assert drawn[0].stimuli.items != own.stimuli.items
    np.testing.assert_array_equal(drawn[0].values, drawn[1].values)
