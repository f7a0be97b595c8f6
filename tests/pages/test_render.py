import re
import sys
from importlib import resources

import jinja2
import pytest

from topographic.pages import render as module
from topographic.pages.render import anchor, link, png_source, render, write_rendered
from topographic.pages.tables import Cells


@pytest.fixture
def said():
    """What a template of these words makes of a context."""

    def make(words, **context):
        environment = module._environment()
        macros = "{% from 'macros.html' import figure, missing, table %}"
        return environment.from_string(macros + words).render(**context)

    return make


def test_text_and_attributes_are_escaped(said):
    made = said('<p title="{{ text }}">{{ text }}</p>', text="<script>\"'&")
    assert made == '<p title="&lt;script&gt;&#34;&#39;&amp;">&lt;script&gt;&#34;&#39;&amp;</p>'


def test_a_name_that_is_not_there_is_an_error(said):
    with pytest.raises(jinja2.UndefinedError, match="'nothing' is undefined"):
        said("{{ nothing }}")


def test_tables_name_rows_and_columns_for_screen_readers(said):
    cells = Cells(["sheet", "I"], [("<a>", "0.5"), ("mean over 1 sheets", "0.5")], [("", 1), ("Moran", 1)])
    made = said("{{ table(cells, style='numbers', caption='all') }}", cells=cells)
    assert made.count('<th scope="col">') == 2
    assert '<th scope="row">&lt;a&gt;</th><td>0.5</td>' in made
    assert '<tr class="mean">' in made
    assert '<th colspan="1" scope="colgroup">Moran</th>' in made
    assert made.startswith('<div class="scroll" tabindex="0"><table class="numbers">')
    assert "<caption>all</caption>" in made


def test_rows_with_several_names_and_rows_that_go_on(said):
    cells = Cells(["what", "run", "I"], [["a", "one", "1"], ["", "two", "2"], ["mean over 2", "one", "3"]], n_names=2)
    made = said("{{ table(cells) }}", cells=cells)
    assert re.findall(r"<tr[^>]*>", made) == ["<tr>", "<tr>", '<tr class="more">', '<tr class="mean">']
    assert made.count('<th scope="row">') == 6
    assert made.count("<td>") == 3
    assert re.findall(r'<th scope="col"[^>]*>[^<]*', made)[1] == '<th scope="col" class="name">run'


def test_sparse_long_and_chance_tables_fold_under_their_heading(said):
    full, empty = Cells(["a", "b"], [["x", "1"]]), Cells(["a", "b"], [["x", "\u2013"]])
    folded = {"heading": "By sheet", "cells": full, "fold": False}

    def summary(**changes):
        words = "{{ table(cells, heading=heading, fold=fold) }}"
        return re.findall(r"<summary>(.*?)</summary>", said(words, **folded | changes))

    assert summary() == []
    assert "<h4>By sheet</h4>" in said("{{ table(cells, heading=heading) }}", **folded)
    assert summary(fold=True) == ["By sheet (1 row, nothing told from chance)"]
    assert summary(cells=empty) == ["By sheet (1 row, mostly empty)"]
    assert summary(cells=Cells(["a", "b"], [["x", "1"]] * 25)) == ["By sheet (25 rows)"]
    assert "<details>" not in said("{{ table(cells) }}", cells=empty), "there is nothing to unfold it by"


def test_headings_become_anchors():
    assert anchor("Versions, seeds and files") == "versions-seeds-and-files"
    assert anchor("word_classes") == "word-classes"


def test_figures_have_words_and_what_is_missing_names_the_command(said):
    made = said("{{ missing('No maps:', 'topo map a&b') }}").strip()
    assert made == '<p class="missing">No maps: <code>topo map a&amp;b</code></p>'
    picture = {"src": "data:,", "width": 300}
    made = said("{% call figure(picture, 'A & b', heading='h') %}Look.{% endcall %}", picture=picture)
    assert '<img src="data:," alt="A &amp; b" width="300">' in made
    assert "<h4>h</h4>" in made
    assert "<figcaption>Look.</figcaption>" in made
    assert "figcaption" not in said("{{ figure(picture, 'A') }}", picture={"src": "data:,"})


def test_a_page_carries_its_style_and_is_written_whole(tmp_path):
    given = {"title": "$a <b>", "lead": "{{ x }}", "parts": [], "chance": []}
    written = write_rendered(tmp_path / "new" / "page.html", "findings.html", **given)
    page = written.read_text(encoding="utf-8")
    assert "<h1>$a &lt;b&gt;</h1>" in page
    assert '<p class="lead">{{ x }}</p>' in page, "what a run says is no template"
    assert "prefers-color-scheme: dark" in page
    assert render("findings.html", **given) == page


def test_every_template_comes_with_the_package():
    folder = resources.files("topographic.pages") / "templates"
    found = {path.name for path in folder.iterdir()}
    assert {"base.html", "macros.html", "report.html", "findings.html", "evaluations.html", "page.css"} <= found


def test_files_are_embedded_and_linked(tmp_path):
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    assert png_source(tmp_path / "a.png") == "data:image/png;base64,iVBORw=="
    assert link(tmp_path / "my runs" / "a%b.png", tmp_path / "pages") == "../my%20runs/a%25b.png"


def test_missing_jinja2_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    module._environment.cache_clear()
    with pytest.raises(ImportError, match=r"pip install topographic\[report\]"):
        render("findings.html")
