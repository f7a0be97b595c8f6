"""Which errors are told in one line: those that were raised on purpose, by this library, for somebody to read."""

import dis
from types import TracebackType

__all__ = ["is_refusal"]

_PACKAGE = __name__.split(".")[0]
_RAISE = dis.opmap["RAISE_VARARGS"]


def is_refusal(error: BaseException) -> bool:
    """Whether the error comes from a `raise` statement in a file of this library; anything else is a bug."""
    innermost = error.__traceback__
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    return innermost is not None and _is_ours(innermost) and _raises(innermost)


def _is_ours(at: TracebackType) -> bool:
    return at.tb_frame.f_globals.get("__name__", "").split(".")[0] == _PACKAGE


def _raises(at: TracebackType) -> bool:
    # the instruction and not the line: a message in the same statement may itself fail to be made
    return at.tb_frame.f_code.co_code[at.tb_lasti] == _RAISE
