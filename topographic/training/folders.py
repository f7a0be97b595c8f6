"""Whole folders or none: written under another name, then renamed."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

__all__ = ["disk_errors", "one_process_at_a_time", "publish_folder", "require_finished", "write_folder_atomically"]


@contextlib.contextmanager
def write_folder_atomically(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder beside ``path``; rename it into place only if the block succeeds.

    Parameters
    ----------
    path : str or Path
        Where the finished folder belongs. Missing parents are made; an older folder there is replaced.

    Yields
    ------
    Path
        The temporary folder. It vanishes if the block raises.

    Raises
    ------
    OSError
        With the path and the advice to free space, if it cannot be written.
    """
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
    """Flush every file of a finished folder to the disk, then give the folder its name.

    Parameters
    ----------
    staging : Path
        The finished folder.
    path : Path
        Its name; a folder that has it already is replaced.
    """
    for file in sorted(staging.rglob("*")):
        if file.is_file():
            with open(file, "rb") as written:
                os.fsync(written.fileno())
    if path.exists():
        shutil.rmtree(path)
    staging.rename(path)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Say what could not be written, and what to do about it."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"could not write {path}: {error}; free disk space or choose a writable folder, then run again"
        ) from error


@contextlib.contextmanager
def one_process_at_a_time(path: str | Path) -> Iterator[None]:
    """Wait for other processes that work on the same thing; the system frees the lock however they end.

    Parameters
    ----------
    path : str or Path
        File that stands for the work; it stays.
    """
    path = Path(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = open(path, "w", encoding="utf-8")  # noqa: SIM115 - closed below, outside the translation of errors
    try:
        # without it (Windows) two processes do the same work twice, with equal results
        with contextlib.suppress(ImportError):
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        lock.close()


def require_finished(run: Path) -> None:
    """Refuse a run that has been started and has no model yet.

    Parameters
    ----------
    run : Path
        A run folder, or anything else, which is not looked at.

    Raises
    ------
    ValueError
        Saying how the training goes on.
    """
    if (run / "config.yaml").is_file() and not (run / "model").is_dir():
        raise ValueError(
            f"{run} holds a run whose training is not finished, so that it has no model yet; the same command goes "
            f"on with it: topo train {run / 'config.yaml'}"
        )
