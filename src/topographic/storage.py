"""How things are kept: arrays in safetensors with a JSON header, every file written beside its place and then renamed.

Nothing here pickles and nothing here executes what it reads.
"""

import ast
import contextlib
import errno
import functools
import hashlib
import importlib.util
import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

__all__ = [
    "HeldElsewhereError",
    "code_version",
    "digest",
    "disk_errors",
    "load_arrays",
    "load_json",
    "load_noun",
    "locked",
    "publish_folder",
    "read_text",
    "save_arrays",
    "save_json",
    "sha256_of_file",
    "write_atomically",
    "write_folder_atomically",
]


@contextlib.contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it into place only if the block succeeds.

    It vanishes if the block raises, so that neither a full disk nor a killed process leaves a half-written file that
    looks finished. Missing parent folders are made; errors are those of `disk_errors`.
    """
    path = Path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            os.chmod(temporary, 0o666 & ~_umask())
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def save_arrays(path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Write named arrays to one safetensors file, with anything JSON can hold in its header."""
    header = {"topographic": json.dumps(dict(metadata), sort_keys=True)}
    with write_atomically(path) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary, metadata=header)


def load_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `save_arrays` wrote, or refuse a file that is absent, truncated, or not one of ours."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}; expected a .safetensors file written by this library")
    try:
        with safe_open(path, framework="numpy") as opened:
            header = (opened.metadata() or {}).get("topographic")
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or not a safetensors file ({error}); write it again") from error
    if header is None:
        raise ValueError(f"{path} has no `topographic` header; expected a file written by this library's save()")
    return arrays, json.loads(header)


def load_noun(path: str | Path, noun: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a file that holds one of the library's nouns, named as its class is, or refuse another one."""
    arrays, metadata = load_arrays(path)
    if metadata.get("noun") != noun:
        expected = noun if noun.endswith("s") else f"a {noun}"
        raise ValueError(f"{path} holds a {metadata.get('noun')}; expected {expected}: load it with that class")
    return arrays, metadata


def read_text(path: str | Path) -> str:
    """Read a text file that a user wrote; one that is no UTF-8 is refused by its name."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}; correct its name")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text ({error.reason}); save it as UTF-8") from error
    if "\0" in text:
        raise ValueError(f"{path} is no text; give a text file")
    return text


def save_json(path: str | Path, content: Any) -> None:
    """Write JSON, indented, beside its place and then renamed."""
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_json(path: str | Path) -> Any:
    """Read JSON, or refuse a file that is none."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); it may be truncated: write it again") from error


def sha256_of_file(path: str | Path) -> str:
    """Checksum of a file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as opened:
        for block in iter(lambda: opened.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def write_folder_atomically(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path``; rename it into place, over an older one, only if the block succeeds."""
    path = Path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
        try:
            yield staging
            staging.chmod(0o755)
            publish_folder(staging, path)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def publish_folder(staging: Path, path: Path) -> None:
    """Flush every file of a finished folder to the disk, then give it its name; a folder that has it is replaced."""
    for file in sorted(staging.rglob("*")):
        if file.is_file():
            with open(file, "rb") as written:
                os.fsync(written.fileno())
    if not path.exists():
        staging.rename(path)
        return
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "a file", str(path))
    # two renames, with the older folder whole on the disk until the new one has its name
    older = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".older", dir=path.parent)) / path.name
    path.rename(older)
    try:
        staging.rename(path)
    except OSError:
        older.rename(path)
        raise
    finally:
        shutil.rmtree(older.parent, ignore_errors=True)


class HeldElsewhereError(OSError):
    """Another process writes here already."""


class _UnwritableError(OSError):
    """Said already: what could not be written, why, and what to do."""


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Say in one line what could not be written, why, and what to do about it."""
    try:
        yield
    except (HeldElsewhereError, _UnwritableError):
        raise
    except (OSError, SafetensorError) as error:
        number = getattr(error, "errno", None)
        file = next((one for one in [path, *path.parents] if one.is_file()), path)
        if number in (errno.EEXIST, errno.ENOTDIR):
            said = f"{file} is a file where a folder belongs; move it away or choose another folder"
        elif number == errno.EISDIR:
            said = f"{path} is a folder where a file belongs; move it away or choose another name"
        elif number == errno.EROFS:
            said = "the disk is read-only; choose a writable folder"
        elif number in (errno.EACCES, errno.EPERM):
            said = "the system does not allow it; choose a writable folder"
        else:
            said = f"{error}; free disk space or choose a writable folder"
        raise _UnwritableError(f"could not write {path}: {said}, then run again") from error


@contextlib.contextmanager
def locked(path: str | Path, *, wait: bool = False) -> Iterator[None]:
    """Be the only process that writes to a file or folder; the system frees the lock however the process ends.

    The path need not exist: the lock is an empty hidden file beside it, which stays, since whoever removed it could
    give two processes the same lock. Another process is refused at once, by whom it is held and since when
    (`HeldElsewhereError`), or waits for its turn.
    """
    path = Path(path).resolve()  # two names of one folder share one lock
    lock = FileLock(path.parent / f".{path.name}.lock", thread_local=False)
    holder = path.parent / f".{path.name}.holder"
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout as error:
            raise HeldElsewhereError(
                f"{path} is being written by {_holder(holder)}; wait until it has ended, or choose another folder"
            ) from error
    try:
        with contextlib.suppress(OSError):  # says who, no more
            holder.write_text(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%F %T')}\n")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _holder(file: Path) -> str:
    """Who holds a lock; whoever has just got it may not have said so yet."""
    for _ in range(20):
        with contextlib.suppress(OSError):
            if said := file.read_text(encoding="utf-8").strip():
                return said
        time.sleep(0.05)
    return "another process"


def digest(content: Any) -> str:
    """Checksum of anything JSON can hold, whatever the order of its keys: one kind of key for everything kept."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def code_version(module: str) -> str:
    """Checksum of the source of a module and of every module of this library that it imports, directly or not.

    A kept result names it, so that a corrected statistic is measured again and everything else is not.
    """
    found: dict[str, str] = {}
    wanted = [module]
    while wanted:
        name = wanted.pop()
        if name not in found and (read := _source(name)) is not None:
            found[name], imports = read
            wanted += imports
    return digest(found)


@functools.cache
def _source(module: str) -> tuple[str, tuple[str, ...]] | None:
    """Checksum of a module's file, and what of its own library it imports; None for what is no module."""
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # the parent is a file, not a package
        return None
    if spec is None or spec.origin is None:
        return None
    source = Path(spec.origin).read_text(encoding="utf-8")
    package, imports = module.split(".")[0], []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package:
            # a name may be a module of the room it comes from
            imports += [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    return hashlib.sha256(source.encode()).hexdigest(), tuple(imports)
