"""Where a model or tokenizer is read from: a folder, a file or the hub; what is nowhere is refused at once."""

import difflib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

__all__ = ["Source", "ctranslate2_file", "found_source", "is_path", "said_briefly"]

_PATIENCE_S = 5.0  # for the hub's first answer
_SUFFIXES = (".gguf", ".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".json", ".yaml", ".yml", ".txt")
_RUN_FILES = ("model", "config.yaml", "config.json")
_CACHED = ("config.json", "tokenizer_config.json", "tokenizer.json")
# formats that hold pickles or another framework's arrays
_FOREIGN = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")


@dataclass(frozen=True)
class Source:
    """What ``from_pretrained`` is told."""

    name: str
    """A folder, or a name on the hub."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments."""
    folder: Path | None = None
    """The folder; None for a name on the hub."""


def is_path(source: str | Path) -> bool:
    """Whether a word means a place on this disk, be it there or not, and not a name on the hub."""
    word = str(source)
    if isinstance(source, Path) or Path(word).exists() or word.startswith("~") or word.endswith(_SUFFIXES):
        return True
    is_name = re.fullmatch(r"[A-Za-z0-9_][\w.-]*(/[\w-][\w.-]*)?", word) is not None
    return not is_name or ("/" in word and _holds_runs(Path(word).parent))


def found_source(source: str | Path, *, needs_model: bool = True) -> Source:
    """The folder, file or hub name, perhaps NAME@REVISION; refused where there is no model to be had."""
    name, at, revision = str(source).partition("@")
    if at and revision and not Path(source).exists() and not is_path(name):
        return Source(name, {"revision": revision, **_reached(name, revision)})
    if not is_path(source):
        return Source(str(source), _reached(str(source)))
    path = Path(source).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"no folder or file at {path}; correct the name{_nearest(path)}")
    if path.is_file() and path.suffix == ".gguf":
        return Source(str(path.parent), {"gguf_file": path.name}, path.parent)
    if path.is_file():
        raise ValueError(f"{path} is a file; expected a run, the folder of a model, a .gguf file or a name on the hub")
    folder = _model_folder(path)
    if needs_model:
        _require_model(folder)
    return Source(str(folder), {}, folder)


def ctranslate2_file(source: str | Path) -> Path | None:
    """The weights of a folder as CTranslate2 writes them; None where there are others, or none."""
    folder = _model_folder(Path(source).expanduser())
    there = (folder / "model.bin").is_file() and not any(folder.glob("*.safetensors*"))
    return folder / "model.bin" if there else None


def said_briefly(error: BaseException) -> str:
    """The start of what another library says, on one line."""
    text = " ".join(str(error).split()).rstrip(".")
    return text if len(text) <= 160 else f"{text[:160]} ..."


def _holds_runs(folder: Path) -> bool:
    """Whether the names in a folder are those of runs or models, so that a wrong one is no name on the hub."""
    inside = list(folder.iterdir()) if folder.is_dir() else []
    return folder.name == "runs" or any((one / name).exists() for one in inside for name in _RUN_FILES)


def _nearest(path: Path) -> str:
    beside = [one.name for one in path.parent.iterdir() if one.name[0] != "."] if path.parent.is_dir() else []
    names = [str(path.with_name(name)) for name in difflib.get_close_matches(path.name, beside, n=3)]
    return f": the nearest are {', '.join(names)}" if names else ""


def _model_folder(path: Path) -> Path:
    return path / "model" if (path / "model").is_dir() else path


def _require_model(folder: Path) -> None:
    if ctranslate2_file(folder) is not None:
        raise ValueError(
            f"{folder} holds model.bin, as CTranslate2 writes it, which is read as a speech encoder alone (a Whisper, "
            "topo encode speech=FOLDER); give a folder with model.safetensors"
        )
    if not (folder / "config.json").is_file():
        if (folder / "config.yaml").is_file():
            words = f"topo train {shlex.quote(str(folder / 'config.yaml'))} run={shlex.quote(str(folder))}"
            raise ValueError(f"{folder} holds no model; finish its training first: {words}")
        raise ValueError(f"{folder} holds no model (no config.json); give a run, the folder of a model or a hub name")
    if any(folder.glob("*.safetensors")) or (folder / "model.safetensors.index.json").is_file():
        return
    foreign = sorted(file.name for pattern in _FOREIGN for file in folder.glob(pattern))
    if foreign:
        raise ValueError(
            f"{folder} holds {foreign[0]} and no model.safetensors; what could be executed is not read: if you trust "
            "it, load it with transformers and save_pretrained() it, which writes safetensors"
        )
    raise ValueError(f"{folder} holds no weights; expected model.safetensors beside config.json: copy it there")


def _reached(name: str, revision: str | None = None) -> dict[str, Any]:
    """How a name on the hub is read: from the cache alone where the hub does not answer."""
    # the download itself would try five times for every file, which takes most of a minute
    at: dict[str, Any] = {} if revision is None else {"revision": revision}
    try:
        HfApi().model_info(name, timeout=_PATIENCE_S, **at)
    except RevisionNotFoundError as error:
        raise FileNotFoundError(
            f"{name} has no revision {revision} on the hub; correct its name or leave it out"
        ) from error
    except RepositoryNotFoundError as error:
        raise FileNotFoundError(
            f"no folder {name} here, and no model of that name on the hub that may be read; correct the name"
        ) from error
    except Exception as error:  # the network has many
        if not any(isinstance(try_to_load_from_cache(name, file, **at), str) for file in _CACHED):
            wanted = "a model of that name" if revision is None else f"its revision {revision}"
            raise OSError(
                f"no folder {name} here, and the hub cannot be reached for {wanted} "
                f"({said_briefly(error)}); give a folder, or try again with a network"
            ) from error
        return {"local_files_only": True}
    return {}
