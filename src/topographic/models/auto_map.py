"""What a saved model carries so that transformers finds its classes in the installed library.

``AutoModelForCausalLM.from_pretrained(folder)`` knows "topolm" only after `register`. Without it, the ``auto_map`` in
``config.json`` makes transformers ask for ``trust_remote_code=True``, and with that run the few lines written here,
which import the library: no code is copied beside the weights.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from topographic.storage import write_atomically

__all__ = ["NeverCopied", "auto_map", "write_loader"]

_MODULE = "topographic_model"
_LOADER = '''"""Run by transformers with trust_remote_code=True: it imports the library that is installed, and no more.

The same without that word: import topographic.models, then call topographic.models.{register}().
"""

from topographic.models import {names}  # noqa: F401
'''


def auto_map(**classes: str) -> dict[str, str]:
    """For every Auto class the class that is meant, as ``config.json`` holds it."""
    return {auto_class: f"{_MODULE}.{name}" for auto_class, name in classes.items()}


def write_loader(folder: str | Path, classes: Mapping[str, str], register: str) -> None:
    """Write the file that an ``auto_map`` names."""
    names = ", ".join(sorted(name.removeprefix(f"{_MODULE}.") for name in classes.values()))
    with write_atomically(Path(folder) / f"{_MODULE}.py") as temporary:
        temporary.write_text(_LOADER.format(register=register, names=names), encoding="utf-8")


class NeverCopied:
    """A class of which transformers keeps no copy beside the weights it has loaded once with trust_remote_code=True."""

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = None) -> None:
        """Nothing: `write_loader` has said where the class is."""
