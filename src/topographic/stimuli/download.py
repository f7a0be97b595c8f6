"""Downloads into a cache: checked, resumed, and never left half finished."""

import os
import re
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException
from pathlib import Path

from tqdm.auto import tqdm

from topographic.storage import load_json, sha256_of_file

__all__ = ["fetch", "fetch_published", "user_cache"]

_PUBLISHED = Path(__file__).parent / "sets" / "published.json"  # addresses and checksums
_BLOCK = 1 << 16
_TIMEOUT_S = 30.0


def fetch(url: str, sha256: str, *, cache_folder: str | Path | None = None, progress: bool = True) -> Path:
    """Download a file once, and only if it is the right one.

    Parameters
    ----------
    url : str
        An http(s) address of a file.
    sha256 : str
        Its SHA-256, hexadecimal.
    cache_folder : str or Path, optional
        Where to keep it, under its own name; a folder of that checksum in $XDG_CACHE_HOME/topographic or
        ~/.cache/topographic by default.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    Path
        The file. If it was there already the network is not used.

    Raises
    ------
    ValueError
        If an argument is not as above, the file has another checksum, or a file of its name with
        another checksum is in the way.
    OSError
        If the download fails or stops early; what has arrived is kept beside the file and the next
        call goes on from there.
    """
    name = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name
    if urllib.parse.urlsplit(url).scheme not in ("http", "https") or not name:
        raise ValueError(f"url={url!r}; expected the http(s) address of a file")
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ValueError(
            f"sha256={sha256!r} for {url}; expected 64 hexadecimal digits, as `sha256sum FILE` prints them"
        )
    sha256 = sha256.lower()
    folder = user_cache() / "downloads" / sha256[:16] if cache_folder is None else Path(cache_folder)
    target, partial = folder / name, folder / f".{name}.{sha256[:8]}.partial"
    if target.is_file():
        if sha256_of_file(target) != sha256:
            raise ValueError(f"{target} exists and is not the file with SHA-256 {sha256}; move it away, then run again")
        return target
    folder.mkdir(parents=True, exist_ok=True)
    resumed = partial.is_file() and partial.stat().st_size > 0
    _download(url, partial, target, progress=progress)
    if resumed and sha256_of_file(partial) != sha256:
        # what was there before may have been from another version of the file
        partial.unlink()
        _download(url, partial, target, progress=progress)
    found = sha256_of_file(partial)
    if found != sha256:
        partial.unlink()
        raise ValueError(
            f"{url} has SHA-256 {found}; expected {sha256}: the file has changed at its source, nothing was kept"
        )
    with open(partial, "rb") as written:
        os.fsync(written.fileno())
    os.replace(partial, target)
    return target


def fetch_published(name: str, *, cache_folder: str | Path | None = None) -> Path:
    """Download the files of a published stimulus set.

    ``load_localizer("moseley", folder=fetch_published("moseley"))``

    Parameters
    ----------
    name : str
        "fedorenko2010", "fedorenko_swjn" or "moseley".
    cache_folder : str or Path, optional
        Where to keep the files; $XDG_CACHE_HOME/topographic or ~/.cache/topographic by default.

    Returns
    -------
    Path
        Folder of the files, to be given to `load_localizer`.

    Raises
    ------
    ValueError, OSError
        If no address of the set is known, or as `fetch` says.

    Notes
    -----
    Addresses are pinned to a commit of the repository that published the files. A file that is not, byte for
    byte, the one this library was tested with is refused. "hauptman" has no entry: no address of its final
    version is known to us.
    """
    published = load_json(_PUBLISHED)
    if name not in published:
        raise ValueError(
            f"no address of a stimulus set {name!r} is known; expected one of {', '.join(map(repr, published))}: get "
            "its files yourself and pass load_localizer their folder"
        )
    folder = (user_cache() if cache_folder is None else Path(cache_folder)) / "localizers" / name
    for file in published[name]:
        fetch(file["url"], file["sha256"], cache_folder=folder)
    return folder


def user_cache() -> Path:
    """Folder for what is fetched."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "topographic"


def _download(url: str, partial: Path, target: Path, *, progress: bool) -> None:
    """Bring ``partial`` to its full length, from where it stopped if the server can."""
    start = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            if response.status != 206:  # the server sends the whole file again
                start = 0
            length = response.headers.get("Content-Length")
            total = None if length is None else start + int(length)
            received = start
            with (
                open(partial, "ab" if start else "wb") as out,
                tqdm(
                    total=total, initial=start, unit="B", unit_scale=True, desc=target.name, disable=not progress
                ) as bar,
            ):
                while block := response.read(_BLOCK):
                    out.write(block)
                    received += len(block)
                    bar.update(len(block))
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # nothing is left to send: the checksum decides
            return
        raise OSError(
            f"could not download {url}: the server says {error.code} {error.reason}; check the address, or put the "
            f"file at {target} yourself"
        ) from error
    except (OSError, HTTPException) as error:
        raise OSError(
            f"could not download {url}: {getattr(error, 'reason', error)}; check the connection and the disk and run "
            f"again, or put the file at {target} yourself"
        ) from error
    if total is not None and received < total:
        raise OSError(f"could not download {url}: it stopped after {received} of {total} bytes; run again to go on")
