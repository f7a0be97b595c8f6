from types import FunctionType

import numpy as np

from topographic.objectives.config import expect
from topographic.runs.refusals import is_refusal
from topographic.sheets import grid
from topographic.storage import load_arrays


def caught(function, *arguments):
    try:
        function(*arguments)
    except Exception as error:  # noqa: BLE001 - bugs of any kind
        return error
    raise AssertionError("expected an error")


def test_what_this_library_raises_is_told(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"no")
    assert is_refusal(caught(expect, False, "a", 1, "more"))
    assert is_refusal(caught(load_arrays, tmp_path / "a.safetensors")), "also from another error, over several lines"
    assert is_refusal(caught(grid, 0))


def test_what_comes_from_inside_is_a_bug():
    assert not is_refusal(caught(int, "x")), "of this file"
    assert not is_refusal(caught(grid, "x")), "an operator in a file of ours"
    assert not is_refusal(caught(load_arrays, None)), "a call from a file of ours"
    assert not is_refusal(caught(np.zeros, "x"))
    assert not is_refusal(ValueError("never raised"))


class Unprintable:
    def __format__(self, spec):
        return len(3)  # pyright: ignore[reportArgumentType]

    __str__ = __repr__ = __format__


def test_a_message_that_cannot_be_made_is_a_bug():
    error = caught(expect, False, "a", Unprintable(), "more")
    assert isinstance(error, TypeError)
    assert not is_refusal(error)


def fail():
    raise ValueError(
        f"{None:.3f}",  # pyright: ignore
    )


def test_a_failed_format_in_a_raise_statement_is_a_bug():
    ours = FunctionType(fail.__code__, {"__name__": "topographic.invented", "__builtins__": __builtins__})
    error = caught(ours)
    assert isinstance(error, TypeError)
    assert not is_refusal(error)
