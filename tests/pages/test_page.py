import html.parser
import re
import shutil
from urllib.parse import unquote

import pytest

from topographic.pages import write_page

VOID = {"meta", "img", "br", "hr", "link"}


class Checker(html.parser.HTMLParser):
    """Balanced tags, no id twice, and everything that an attribute points at."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.targets, self.tags = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.open += [] if tag in VOID else [tag]
        for key, value in attrs:
            assert not key.startswith("on"), f"{tag} has {key}"
            self.ids += [value] if key == "id" else []
            self.targets += [(tag, key, value)] if key in ("src", "href", "srcset", "data", "action") else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"


def check(page):
    checker = Checker()
    text = page.read_text(encoding="utf-8")
    checker.feed(text)
    checker.close()
    assert checker.open == []
    assert len(set(checker.ids)) == len(checker.ids)
    return checker, text


@pytest.fixture(scope="module")
def page(run_folders):
    return write_page(run_folders, run_folders[0].parent / "report.html")


def test_page_is_valid_and_whole(page, measured):
    checker, text = check(page)
    assert text.startswith("<!DOCTYPE html>")
    assert checker.tags[:2] == ["html", "head"]
    assert '<meta name="viewport"' in text
    for row in measured["topographic"].rows:
        assert f'<th scope="row">{row.site}</th>' in text
    assert len(re.findall("<h2>", text)) == 9
    assert page.stat().st_size < 3_000_000
    assert "<title>Report on topographic and control</title>" in text


def test_page_loads_nothing(page):
    checker, text = check(page)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(checker.tags)
    assert "@import" not in text
    assert "url(" not in text
    assert "http" not in text
    for tag, key, value in checker.targets:
        assert (tag, key) in (("img", "src"), ("a", "href"))
        if tag == "img":
            assert value.startswith(("data:image/svg+xml;base64,", "data:image/png;base64,"))
        else:
            there = value[1:] in checker.ids if value[0] == "#" else (page.parent / unquote(value)).exists()
            assert there, value


def test_page_is_the_same_each_time(page, run_folders):
    first = page.read_bytes()
    assert write_page(run_folders, page) == page
    assert page.read_bytes() == first


@pytest.mark.usefixtures("no_ink")
def test_hostile_names_are_escaped(tmp_path, run_folders):
    hostile = tmp_path / "<script>alert(1)<&\"'"
    shutil.copytree(run_folders[0], hostile)
    config = hostile / "config.yaml"
    config.write_text(config.read_text().replace("preset: demo", "preset: '<img src=x onerror=alert(1)>'"))
    record = hostile / "run.json"
    record.write_text(record.read_text().replace("cpu (2 cores)", "</style><script>"))
    checker, text = check(write_page([hostile, run_folders[1]], tmp_path / "report.html", title="$title <script>"))
    assert "script" not in checker.tags
    assert "<script" not in text
    assert "onerror=alert(1)&gt;" in text
    assert "<h1>$title &lt;script&gt;</h1>" in text
    assert text.count("<style>") == text.count("</style>") == 1


@pytest.mark.usefixtures("no_ink")
def test_missing_folder_of_the_page_is_made_and_nothing_else_left(tmp_path, run_folders):
    out = write_page(run_folders[:1], tmp_path / "new" / "report.html", title="One run")
    assert [path.name for path in out.parent.iterdir()] == ["report.html"]
    assert "<title>One run</title>" in out.read_text(encoding="utf-8")


@pytest.mark.usefixtures("no_ink")
def test_page_is_written_whole_or_not_at_all(tmp_path, run_folders, monkeypatch):
    out = tmp_path / "report.html"
    out.write_text("the old page")

    def full(*_args, **_kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(OSError, match=r"could not write .*report\.html: No space left"):
        write_page(run_folders, out)
    monkeypatch.undo()
    assert out.read_text() == "the old page"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_folder_that_is_no_run_is_refused_and_no_page_written(tmp_path):
    with pytest.raises(ValueError, match="is no run folder"):
        write_page([tmp_path], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
