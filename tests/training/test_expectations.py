import pytest

from topographic.training.expectations import expect


def test_says_what_was_received_what_was_expected_and_where():
    expect(True, "spatial.radius", 5, "at least 1")
    with pytest.raises(ValueError, match=r"^spatial\.radius=0; expected at least 1: change it in the configuration$"):
        expect(False, "spatial.radius", 0, "at least 1")
