"""How a configuration refuses a value."""

from typing import Any

__all__ = ["expect"]


def expect(holds: bool, name: str, value: Any, expected: str) -> None:
    """Refuse a value in one line unless a condition holds.

    Parameters
    ----------
    holds : bool
        The condition.
    name : str
        Key as the command line spells it, such as "spatial.radius".
    value : object
        What was received.
    expected : str
        What would do, such as "at least 1".

    Raises
    ------
    ValueError
        If the condition does not hold.
    """
    if not holds:
        raise ValueError(f"{name}={value}; expected {expected}: change it in the configuration")
