"""Which categories of images are compared: names only, so that a command knows them without loading any image."""

__all__ = ["CATEGORY_CONTRASTS", "CATEGORY_NAMES"]

CATEGORY_NAMES = ("faces", "objects", "characters", "animals", "vehicles")


def _against_the_rest(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return (name,), tuple(other for other in CATEGORY_NAMES if other != name)


def _of_scrambled(contrast: tuple[tuple[str, ...], tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(f"scrambled {name}" for name in side) for side in contrast)


_CONTRASTS = {
    **{name: _against_the_rest(name) for name in CATEGORY_NAMES},
    "faces-objects": (("faces",), ("objects",)),
    "animate-inanimate": (("animals",), ("vehicles",)),
}

# condition and baseline of every contrast, and of the same contrast between scrambled images
CATEGORY_CONTRASTS = _CONTRASTS | {f"scrambled {name}": _of_scrambled(sides) for name, sides in _CONTRASTS.items()}
