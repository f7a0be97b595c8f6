from topographic.stimuli import CATEGORIES, CATEGORY_CONTRASTS
from topographic.stimuli.category_contrasts import CATEGORY_NAMES


def test_the_names_are_those_of_the_categories():
    assert list(CATEGORIES) == list(CATEGORY_NAMES)
    used = {name for sides in CATEGORY_CONTRASTS.values() for side in sides for name in side}
    assert used == {*CATEGORY_NAMES, *(f"scrambled {name}" for name in CATEGORY_NAMES)}
