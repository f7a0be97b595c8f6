import pytest

from topographic.evaluation.mapping import CONTRASTS
from topographic.stimuli import load_localizer


@pytest.mark.parametrize("contrast", CONTRASTS.values(), ids=CONTRASTS.keys())
def test_every_contrast_exists_in_its_stimuli(contrast):
    assert {contrast.condition, contrast.baseline} <= set(load_localizer(contrast.stimuli).condition_names)
