import base64
import re

import numpy as np
from matplotlib.figure import Figure

from topographic.evaluation.results import Findings, Picture, Table, load_findings, save_findings, save_table
from topographic.maps import Selection, UnitMap
from topographic.pages.findings import write_findings
from topographic.sheets import permuted_grid

ROWS = [
    {"sheet": "layer 0", "I": np.float32(0.4815), "p": 0.0004, "units": np.int64(12), "stable": True},
    {"sheet": "a|b, c", "I": float("nan"), "p": 0.04, "units": 3, "stable": False, "late": None},
]


def picture(name="bars", height=1.0):
    figure = Figure(figsize=(1, height), dpi=20)
    figure.subplots().plot([0, 1])
    return Picture(name, "Bars", figure, "Look at the slope.")


def findings(rows=ROWS, height=1.0):
    note = "Higher is smoother."
    return Findings(
        "Maps", "What was done.", [Table("maps", "By sheet", rows, note)], [picture(height=height)], ["No X."]
    )


def test_a_page_shows_the_first_rows_of_a_long_table_and_csv_all(tmp_path):
    long = Table("long", "Clusters", [{"cluster": index, "units": 3} for index in range(301)], "By mass.")
    files = save_table(tmp_path, long)
    assert len(files[0].read_text().splitlines()) == 302
    said = "301 rows, the first 300 here, all in long.csv."
    assert files[1].read_text().splitlines()[-4:] == ["", said, "", "By mass."]
    assert "| 300 |" not in files[1].read_text()
    save_findings(tmp_path / "part", Findings("Clusters", "", [long]), {})
    _, page = write_findings(tmp_path, "Evaluation", "", {"part": Findings("Clusters", "", [long])})
    assert said in page.read_text()
    assert page.read_text().count("<tr>") == 301


def with_nouns(**names):
    sheet, rng = permuted_grid((4, 5), "h.0"), np.random.default_rng(0)
    nulls = {"label": rng.standard_normal((200, 20))}
    one = UnitMap("h.0", rng.standard_normal(20), sheet, "welch_t", p=rng.random(20), nulls=nulls)
    kept = Selection("h.0", rng.random(20) > 0.5, sheet, "q < 0.05")
    names = {"maps": ["s-n_fwhm_2/h.0", "s-n_fwhm_0/h.0"], "selections": ["network/a:b"], **names}
    return Findings(
        "Maps", "", maps=dict.fromkeys(names["maps"], one), selections=dict.fromkeys(names["selections"], kept)
    )


def test_the_page_holds_all_and_loads_nothing(tmp_path):
    made = {"maps": findings(), "word classes": findings([{"contrast": "a < b", "I": 0.5}], height=2.0)}
    for name, one in made.items():
        save_findings(tmp_path / name, one, {})
    loaded = {name: load_findings(tmp_path / name, {}) for name in made}
    markdown, page = write_findings(tmp_path, "Evaluation of x", "A model & its sheets.", loaded)
    text = markdown.read_text()
    assert text.startswith("# Evaluation of x\n\nA model & its sheets.\n\n## Maps\n\nWhat was done.\n\n- No X.\n")
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (tmp_path / link.replace("%20", " ")).is_file(), link
    assert "| a < b | 0.500 |" in text
    html = page.read_text()
    assert "A model &amp; its sheets." in html
    assert "a &lt; b" in html
    pictures = [base64.b64decode(one) for one in re.findall(r'src="data:image/png;base64,([^"]+)"', html)]
    assert pictures == [(tmp_path / name / "bars.png").read_bytes() for name in made]
    assert not re.search(r'src="(?!data:)', html)
    links = re.findall(r'href="([^"]*)"', html)
    assert links == ["#maps", "#word-classes"]
    assert all(html.count(f'id="{link[1:]}"') == 1 for link in links)


def test_pictures_come_before_words_and_tables(tmp_path):
    save_findings(tmp_path / "maps", findings(), {})
    html = write_findings(tmp_path, "Evaluation", "", {"maps": findings()})[1].read_text()
    assert html.index("<img") < html.index("What was done.") < html.index("<table")


def test_what_is_at_chance_is_said_above_and_folded(tmp_path):
    noise = Findings("Lesions", "", [Table("lesions", "Effects", [{"measure": "a", "effect": 0.1, "p": 0.75}])])
    made = {"maps": findings(), "lesions": noise}
    for name, one in made.items():
        save_findings(tmp_path / name, one, {})
    html = write_findings(tmp_path, "Evaluation", "", made)[1].read_text()
    assert html.count("Not told from chance") == 1
    assert html.index("no effect shown: the smallest of 1 p value is .750") < html.index("<main>")
    assert "<summary>Effects (1 row, nothing told from chance)</summary>" in html
    assert "<h3>By sheet</h3>" in html
    only = write_findings(tmp_path, "Evaluation", "", {"maps": findings()})[1].read_text()
    assert "Not told from chance" not in only


def test_the_markdown_file_takes_a_name_and_parts_may_lie_deeper(tmp_path):
    save_findings(tmp_path / "collected" / "a part", findings(), {})
    parts = {"collected/a part": findings()}
    files = write_findings(tmp_path, "Sweep", "Lead.", parts, name="sweep")
    assert [file.name for file in files] == ["sweep.md", "index.html"]
    assert "(collected/a%20part/bars.png)" in files[0].read_text()
