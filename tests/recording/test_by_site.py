import inspect

import pytest

from topographic.recording.by_site import by_site


@by_site(lambda found: sum(found.values()))
def doubled(one: int, times: int = 2, *, plus: int = 0) -> int:
    """Two of it."""
    return times * one + plus


def test_one_is_answered_as_before():
    assert doubled(3) == 6
    assert doubled(one=3) == 6
    assert doubled(3, 3, plus=1) == 10


def test_many_are_each_answered_with_the_same_arguments_and_joined():
    assert doubled({"a": 1, "b": 2}) == 6
    assert doubled({"a": 1, "b": 2}, 3, plus=1) == 4 + 7


def test_name_words_and_signature_stay():
    assert doubled.__doc__ == "Two of it."
    assert list(inspect.signature(doubled).parameters) == ["one", "times", "plus"]


def test_none_are_refused():
    with pytest.raises(ValueError, match="doubled was given no sites; expected one, or a mapping of at least one"):
        doubled({})
