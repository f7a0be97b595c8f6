import gzip
import hashlib
import io
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zipfile

import pytest

from topographic.stimuli import packages
from topographic.stimuli.packages import CLIENTS, Package, fetch_package, files_checksum, unzipped

FILES = {"data/one.txt": b"one\n", "data/two.bin": bytes(range(256))}
SUMS = files_checksum(FILES)
INSTEAD = "get one.txt yourself"


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Function that puts a shell script in place of a program, in front of everything on the path."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def write(name, *lines):
        (folder / name).write_text("#!/bin/sh\n" + "\n".join(lines) + "\n")
        (folder / name).chmod(stat.S_IRWXU)

    return write


def tarball(path, files, prefix=""):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def npm_package(tmp_path, programs, files=FILES):
    tarball(tmp_path / "toy-1.0.0.tgz", {**files, "index.js": b"throw 1"}, "package/")
    programs("npm", f'echo "$@" >> {tmp_path}/words', f'cp {tmp_path}/toy-1.0.0.tgz "$4"')


def of(client, members="*data/*", sha256=SUMS, name="toy"):
    return Package(client, name, "1.0.0", members, sha256)


def prefixed(files, prefix):
    return {prefix + name: content for name, content in files.items()}


def test_npm(tmp_path, programs, capsys):
    npm_package(tmp_path, programs)
    wanted = prefixed(FILES, "package/")
    package = of("npm", sha256=files_checksum(wanted))
    assert fetch_package(package, instead=INSTEAD) == wanted
    assert "npm: toy" in capsys.readouterr().err
    words = (tmp_path / "words").read_text().split()
    assert words[:3] == ["pack", "--ignore-scripts", "--pack-destination"]
    assert words[4:] == ["toy@1.0.0"]
    assert not os.path.exists(words[3])  # nothing stays
    fetch_package(package, instead=INSTEAD, progress=False)
    assert capsys.readouterr().err == ""


def test_pip_itself_on_a_local_wheel(tmp_path, monkeypatch):
    """The real client, offline; a package of code alone is refused by it, since its download would run code."""
    wheel = tmp_path / "toy-1.0.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("toy/", "")
        for name, content in prefixed(FILES, "toy/").items():
            archive.writestr(name, content)
        archive.writestr("toy-1.0.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy\nVersion: 1.0.0\n")
        archive.writestr("toy-1.0.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("toy-1.0.0.dist-info/RECORD", "")
    for key, entry in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(key, entry)
    wanted = prefixed(FILES, "toy/")
    package = of("pip", sha256=files_checksum(wanted))
    assert fetch_package(package, instead=INSTEAD, progress=False) == wanted
    wheel.unlink()
    tarball(tmp_path / "toy-1.0.0.tar.gz", {"setup.py": f"open('{tmp_path}/ran', 'w')".encode()}, "toy-1.0.0/")
    with pytest.raises(
        OSError, match=r"could not get toy 1\.0\.0 \(ERROR: Could not find a version .*, or get one\.txt"
    ):
        fetch_package(package, instead=INSTEAD, progress=False)
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb here")
def test_apt(tmp_path, programs):
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        "Package: toy\nVersion: 1\nArchitecture: all\nMaintainer: me\nDescription: x\n"
    )
    (root / "data").mkdir()
    for name, content in FILES.items():
        (root / f"{name}.gz").write_bytes(gzip.compress(content))
    subprocess.run(["dpkg-deb", "--build", root, tmp_path / "toy.deb"], check=True, capture_output=True)
    programs("apt-get", f'test "$*" = "download toy" && cp {tmp_path}/toy.deb .')
    assert fetch_package(of("apt", "data/*"), instead=INSTEAD, progress=False) == FILES


def test_the_checksum_is_that_of_sha256sum(tmp_path):
    lines = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in FILES.items())
    assert files_checksum(dict(reversed(FILES.items()))) == hashlib.sha256(lines.encode()).hexdigest()
    assert files_checksum({**FILES, "data/one.txt": b"one"}) != SUMS
    assert files_checksum({"data/1.txt": b"one\n", "data/two.bin": FILES["data/two.bin"]}) != SUMS


@pytest.mark.parametrize("change", [{"data/one.txt": b"uno\n"}, {"data/three.txt": b""}])
def test_other_content_is_refused(tmp_path, programs, change):
    npm_package(tmp_path, programs, {**FILES, **change})
    with pytest.raises(
        ValueError, match=f"of toy have checksum [0-9a-f]{{64}}; expected {SUMS}: the package has changed"
    ):
        fetch_package(of("npm"), instead=INSTEAD, progress=False)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_that_refuses_in_one_line(tmp_path, programs, monkeypatch, client):
    said = {
        "npm": ["npm error code E404", "npm error 404 Not Found - GET toy", "npm error A complete log is in x"],
        "apt": ["Reading lists", "E: Unable to locate package toy"],
        "pip": ["WARNING: retrying", "ERROR: No matching distribution found for toy==1.0.0"],
    }[client]
    programs("refuse", *[f"echo '{line}' >&2" for line in said], "exit 1")
    monkeypatch.setitem(CLIENTS, client, CLIENTS[client]._replace(command=lambda *_: ["refuse"]))
    with pytest.raises(
        OSError, match=f"could not get toy 1.0.0 \\({said[1]}\\); check the connection, or get one"
    ) as no:
        fetch_package(of(client), instead=INSTEAD, progress=False)
    assert "\n" not in str(no.value)


@pytest.mark.parametrize("client", ["npm", "apt"])
def test_a_client_that_is_missing(monkeypatch, tmp_path, client):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        OSError, match=f"toy comes through {client}(-get)?, which is not installed; install it, or get one"
    ):
        fetch_package(of(client), instead=INSTEAD, progress=False)


def test_a_client_that_says_nothing(programs):
    programs("npm", "exit 3")
    with pytest.raises(OSError, match=r"npm could not get toy 1\.0\.0 \(it does not say why\)"):
        fetch_package(of("npm"), instead=INSTEAD, progress=False)


def test_a_client_that_brings_nothing(programs):
    programs("npm", "exit 0")
    with pytest.raises(OSError, match=r"npm left 0 \*\.tgz of toy; get one\.txt yourself"):
        fetch_package(of("npm"), instead=INSTEAD, progress=False)


def test_a_damaged_archive(tmp_path, programs):
    npm_package(tmp_path, programs)
    whole = (tmp_path / "toy-1.0.0.tgz").read_bytes()
    for broken in (whole[:60], b"no archive", b""):
        (tmp_path / "toy-1.0.0.tgz").write_bytes(broken)
        with pytest.raises(OSError, match=r"toy-1\.0\.0\.tgz is damaged or no archive .*; run again, or get one"):
            fetch_package(of("npm"), instead=INSTEAD, progress=False)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("when", ["before we know it", "at work"])
def test_an_interruption_ends_the_client(tmp_path, programs, monkeypatch, when):
    programs("npm", f"echo $$ > {tmp_path}/pid", "exec sleep 60")
    main = threading.main_thread().ident
    started = threading.Event()

    def interrupt():
        assert started.wait(30)
        if when == "at work":
            while not (tmp_path / "pid").is_file() or not (tmp_path / "pid").read_text().endswith("\n"):
                time.sleep(0.01)
        signal.pthread_kill(main, signal.SIGINT)

    class Slow(subprocess.Popen):
        """The client is there and we do not know it yet, which under load takes longer than it should."""

        def _execute_child(self, *arguments):
            super()._execute_child(*arguments)
            clients.append(self)
            started.set()
            if when == "before we know it":
                time.sleep(0.2)

    clients = []
    monkeypatch.setattr(packages.subprocess, "Popen", Slow)

    # tests that a shell runs in the background were told to ignore it
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            fetch_package(of("npm"), instead=INSTEAD, progress=False)
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)
    with pytest.raises(ProcessLookupError):
        os.kill(clients[0].pid, 0)


def test_unzipped():
    assert unzipped({"a.gz": gzip.compress(b"x"), "b": b"y"}) == {"a": b"x", "b": b"y"}
    with pytest.raises(ValueError, match=r"a\.gz is damaged or no gzip file .*; get it again"):
        unzipped({"a.gz": gzip.compress(b"xyz" * 100)[:-9]})
