import hashlib
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from topographic.stimuli import download, fetch, fetch_published, load_localizer

CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT; paths choose ways of misbehaving."""

    def do_GET(self):
        server = self.server
        server.requests.append(self.path)
        if self.path.startswith("/gone"):
            self.send_error(404)
            return
        body = server.content
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        # the first request for /stops ends in the middle of the file
        stops = self.path.startswith("/stops") and len(server.requests) == 1
        self.wfile.write(body[: len(body) // 3] if stops else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.requests, running.content = [], CONTENT
    running.url = f"http://127.0.0.1:{running.server_port}"
    thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_downloads_once(server, cache, capsys):
    path = fetch(f"{server.url}/a%20set.csv?version=2", SHA256.upper())
    assert path == cache / "topographic" / "downloads" / SHA256[:16] / "a set.csv"
    assert path.read_bytes() == CONTENT
    assert names(path.parent) == ["a set.csv"]
    assert "a set.csv" in capsys.readouterr().err
    assert fetch(f"{server.url}/a%20set.csv?version=2", SHA256) == path
    assert len(server.requests) == 1
    assert capsys.readouterr().err == ""


def test_progress_can_be_off(server, capsys):
    fetch(f"{server.url}/set.csv", SHA256, progress=False)
    assert capsys.readouterr().err == ""


def test_a_given_folder(server, tmp_path):
    assert fetch(f"{server.url}/set.csv", SHA256, cache_folder=tmp_path / "mine") == tmp_path / "mine" / "set.csv"


def test_a_file_cached_before_is_found(cache):
    """The place and the name are those of earlier versions; the network is not asked."""
    kept = cache / "topographic" / "downloads" / SHA256[:16] / "set.csv"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(CONTENT)
    assert fetch("http://127.0.0.1:9/set.csv", SHA256) == kept


def test_others_may_read_it(server, tmp_path):
    assert fetch(f"{server.url}/set.csv", SHA256, cache_folder=tmp_path / "mine").stat().st_mode & 0o444 == 0o444


def test_wrong_content_leaves_nothing(server, tmp_path):
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(ValueError, match=rf"set\.csv is not the file with SHA-256 {SHA256}: it has changed") as wrong:
        fetch(f"{server.url}/set.csv", SHA256, cache_folder=tmp_path / "mine")
    assert "\n" not in str(wrong.value)
    assert names(tmp_path / "mine") == []


def test_a_connection_that_breaks_leaves_nothing(server, tmp_path):
    with pytest.raises(OSError, match=r"could not download .*broken.*; check address, connection .* and run again"):
        fetch(f"{server.url}/stops.csv", SHA256, cache_folder=tmp_path / "mine")
    assert names(tmp_path / "mine") == []
    assert fetch(f"{server.url}/stops.csv", SHA256, cache_folder=tmp_path / "mine").read_bytes() == CONTENT


def test_another_file_in_the_way_is_not_overwritten(server, tmp_path):
    (tmp_path / "set.csv").write_text("mine")
    with pytest.raises(ValueError, match=r"set\.csv exists and is not the file with SHA-256"):
        fetch(f"{server.url}/set.csv", SHA256, cache_folder=tmp_path)
    assert (tmp_path / "set.csv").read_text() == "mine"
    assert server.requests == []


def test_offline_and_absent_in_one_line(server, tmp_path):
    with pytest.raises(
        OSError, match=r"404 .*Not Found.*; check address, .* or put the file at .*gone\.csv you"
    ) as gone:
        fetch(f"{server.url}/gone.csv", SHA256)
    server.shutdown()
    server.server_close()
    with pytest.raises(OSError, match=r"could not download http.*refused.*set\.csv yourself") as offline:
        fetch(f"{server.url}/set.csv", SHA256, cache_folder=tmp_path / "mine")
    assert "\n" not in str(gone.value) + str(offline.value)
    assert not (tmp_path / "mine" / "set.csv").exists()


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://host/set.csv", "http://host/", "set.csv"])
def test_bad_address(url):
    with pytest.raises(ValueError, match=r"expected the http\(s\) address of a file"):
        fetch(url, SHA256)


def test_bad_checksum():
    with pytest.raises(ValueError, match=r"sha256='abc' for http://host/set\.csv; expected 64 hexadecimal digits"):
        fetch("http://host/set.csv", "abc")


def test_published_sets_are_fetched_file_by_file(shared, tmp_path, monkeypatch):
    """Files of the right checksum, fetched from an address of ours, give the set that its folder gives."""
    moved = []

    def from_folder(url, sha256, *, cache_folder):
        (source,) = (shared / "data" / "stimuli").glob(f"*/{url.rsplit('/', 1)[1]}")
        assert hashlib.sha256(source.read_bytes()).hexdigest() == sha256
        assert re.match(r"https://raw\.githubusercontent\.com/[\w-]+/[\w-]+/[0-9a-f]{40}/", url)
        cache_folder.mkdir(parents=True, exist_ok=True)
        (cache_folder / source.name).write_bytes(source.read_bytes())
        moved.append(url)

    monkeypatch.setattr(download, "fetch", from_folder)
    for name, n_files in {"fedorenko2010": 10, "fedorenko_swjn": 1, "moseley": 1}.items():
        moved.clear()
        folder = fetch_published(name, cache_folder=tmp_path)
        assert len(set(moved)) == n_files
        assert load_localizer(name, folder) == load_localizer(name, shared / "data" / "stimuli")


def test_published_without_an_address():
    with pytest.raises(ValueError, match="no address of a stimulus set 'hauptman' is known; expected one of 'fed"):
        fetch_published("hauptman")
