"""A text, a trained run and its maps, made once by the commands themselves."""

from pathlib import Path

import pytest

from topographic.cli import main
from topographic.stimuli import load_localizer


@pytest.fixture(scope="session")
def text(tmp_path_factory) -> Path:
    """A few hundred documents of our own sentences."""
    items = load_localizer("language").select(condition=["sentences", "words"]).items
    documents = [". ".join(items[(7 * k + j) % len(items)] for j in range(12)) for k in range(300)]
    path = tmp_path_factory.mktemp("text") / "sentences.txt"
    path.write_text("\n\n".join(documents), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory, text) -> Path:
    """`topo demo` on that text, four steps long."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        assert main(["demo", f"text={text}", f"run={folder}", "max_steps=4", "n_draws=19"]) == 0
    return folder
