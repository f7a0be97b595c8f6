"""What takes one site takes a mapping of sites as well: the only place where functions are lifted."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload, runtime_checkable

from tqdm.auto import tqdm

__all__ = ["ByInput", "by_site"]

Rest = ParamSpec("Rest")
One = TypeVar("One")
Found = TypeVar("Found")
Together = TypeVar("Together")
_SHOWN_AFTER_S = 1.0

_One = TypeVar("_One", contravariant=True)
_Found = TypeVar("_Found", covariant=True)
_Together = TypeVar("_Together", covariant=True)


@runtime_checkable
class ByInput(Protocol[_One, Rest, _Found, _Together]):
    """A function of one site that answers a mapping of sites with all answers together."""

    @overload
    def __call__(self, one: Mapping[str, _One], /, *args: Rest.args, **kwargs: Rest.kwargs) -> _Together: ...
    @overload
    def __call__(self, one: _One, /, *args: Rest.args, **kwargs: Rest.kwargs) -> _Found: ...
    @overload
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...  # the site by its name


def by_site(
    together: Callable[[dict[str, Found]], Together],
) -> Callable[[Callable[Concatenate[One, Rest], Found]], ByInput[One, Rest, Found, Together]]:
    """Let a function of one site take ``{site: it}`` too, each with the same arguments; ``together`` joins answers."""

    def lift(function: Callable[Concatenate[One, Rest], Found]) -> ByInput[One, Rest, Found, Together]:
        call: Callable[..., Found] = function  # the arguments after the site are passed on as they came

        @functools.wraps(function)
        def lifted(*args: Any, **kwargs: Any) -> Any:
            if not args or not isinstance(args[0], Mapping):
                return call(*args, **kwargs)
            sites, *rest = args
            if not sites:
                raise ValueError(f"{function.__name__} was given no sites; expected one, or a mapping of at least one")
            bar = tqdm(sites.items(), desc=function.__name__, unit="site", leave=False, delay=_SHOWN_AFTER_S)
            return together({site: call(one, *rest, **kwargs) for site, one in bar})

        return lifted

    return lift
