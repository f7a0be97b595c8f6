"""Downloads into a cache: checked, and never left half finished."""

import logging
import os
import re
import urllib.parse
from pathlib import Path
from typing import Any

import pooch
from tqdm.auto import tqdm

from topographic.storage import load_json, sha256_of_file

__all__ = ["fetch", "fetch_published", "user_cache"]

_PUBLISHED = Path(__file__).parent / "sets" / "published.json"  # addresses and checksums
_TIMEOUT_S = 30.0
_BLOCK = 1 << 16


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
        If the download fails or stops early; nothing is kept of it. The message says where to put the file by hand.
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
    target = folder / name
    if target.is_file():
        if sha256_of_file(target) != sha256:
            raise ValueError(f"{target} exists and is not the file with SHA-256 {sha256}; move it away, then run again")
        return target
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)  # the bar says what is going on
    try:
        with tqdm(total=1, unit="B", unit_scale=True, desc=name, disable=not progress) as bar:
            options: dict[str, Any] = {"progressbar": bar, "chunk_size": _BLOCK, "timeout": _TIMEOUT_S}
            downloader = pooch.HTTPDownloader(**options)
            pooch.retrieve(url, f"sha256:{sha256}", fname=name, path=folder, downloader=downloader)
        target.chmod(0o644)  # pooch leaves it to its owner alone
    except OSError as error:  # every error of requests is one
        reason = getattr(error.args[0] if error.args else error, "reason", error)
        raise OSError(
            f"could not download {url} ({' '.join(str(reason).split())}); check address, connection and disk and run "
            f"again, or put the file at {target} yourself"
        ) from error
    except ValueError as error:
        raise ValueError(
            f"{url} is not the file with SHA-256 {sha256}: it has changed at its source, nothing was kept"
        ) from error
    finally:
        logger.setLevel(level)
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
