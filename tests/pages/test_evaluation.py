import html
import re

import pytest
from matplotlib.figure import Figure

from topographic.evaluation.results import Findings, Picture, Table, save_findings
from topographic.pages import write_page
from topographic.pages.evaluation import side_by_side
from topographic.pages.findings import write_findings
from topographic.pages.render import render
from topographic.pages.run_folder import RunFolder, read_evaluations
from topographic.storage import digest, load_json, save_json

KEYS = ("contrast", "FWHM (mm)")
HEADLINE = ("I", "floor", "p (unit)", "TopoLM (published)")


def text_of(made):
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", made)))


def rows_of(made):
    """Cells of all rows of all tables."""
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", made)
    return [[html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]


def maps_part(index, *, contrasts=("noun - verb", "a < b"), text="What was done."):
    figure = Figure(figsize=(1, 1), dpi=20)
    figure.subplots().plot([0, 1])
    rows = [
        {"contrast": name, "FWHM (mm)": 2.0, "I": index, "p (unit)": 0.0004, "secret": 7, "TopoLM (published)": 0.8}
        for name in contrasts
    ]
    tables = [
        Table("means", "Means over sheets", rows, "Higher is smoother.", keys=KEYS, headline=HEADLINE),
        Table("depth", "By sheet", rows),
    ]
    pictures = [Picture("depth", "I by depth", figure, "Look up.", headline=True), Picture("all", "All maps", figure)]
    return Findings("Nouns & verbs", text, tables, pictures, ["No X."])


def evaluated(run, parts, *, suite="topolm", folder="evaluation", lead="A model of 24 sheets."):
    """An evaluation as `topo evaluate` leaves it."""
    for name, findings in parts.items():
        save_findings(run / folder / name, findings, {})
    save_json(run / folder / "evaluation.json", {"suite": suite, "lead": lead, "parts": list(parts)})
    write_findings(run / folder, "Evaluation", lead, parts)
    return run


def blocks(place, **runs):
    """What the page says of the evaluations of these folders."""
    read = [RunFolder(run, name, {}, {}, [], {}, {}, read_evaluations(run)) for name, run in runs.items()]
    return render("evaluations.html", runs=read, suites=side_by_side(read, place))


@pytest.fixture
def both(tmp_path):
    first = evaluated(tmp_path / "topographic", {"words": maps_part(0.91)})
    return {"topographic": first, "control": evaluated(tmp_path / "control", {"words": maps_part(0.61)})}


def test_runs_stand_side_by_side_row_by_row(both, tmp_path):
    assert rows_of(blocks(tmp_path, **both)) == [
        ["contrast", "FWHM (mm)", "run", "I", "p (unit)", "TopoLM (published)"],
        ["noun - verb", "2", "topographic", "0.910", "< .001", "0.800"],
        ["", "", "control", "0.610", "< .001", "0.800"],
        ["a < b", "2", "topographic", "0.910", "< .001", "0.800"],
        ["", "", "control", "0.610", "< .001", "0.800"],
    ]


def test_one_run_has_no_column_for_its_name(both, tmp_path):
    made = blocks(tmp_path, topographic=both["topographic"])
    assert rows_of(made)[1] == ["noun - verb", "2", "0.910", "< .001", "0.800"]


def test_only_headlines_are_shown_and_the_rest_is_linked(both, tmp_path):
    made = blocks(tmp_path / "pages", **both)
    assert "secret" not in made
    assert "All maps" not in made
    assert "By sheet" not in made
    assert made.count("<img") == 2, "one picture per run"
    links = re.findall(r'href="([^"]+)"', made)
    assert links == ["../topographic/evaluation/index.html", "../control/evaluation/index.html"]
    assert all((tmp_path / "pages" / link).resolve().is_file() for link in links)
    said = text_of(made)
    assert said.count("What was done.") == 1
    assert "Higher is smoother." in said
    assert "control: No X." in said
    assert "A model of 24 sheets." in said


def test_texts_that_differ_stand_under_their_runs(both, tmp_path):
    other = evaluated(tmp_path / "other", {"words": maps_part(0.7, text="Done otherwise.")})
    said = text_of(blocks(tmp_path, topographic=both["topographic"], other=other))
    assert "topographic. What was done." in said
    assert "other. Done otherwise." in said


def test_rows_that_one_run_lacks_leave_no_empty_line(both, tmp_path):
    more = evaluated(tmp_path / "more", {"words": maps_part(0.5, contrasts=("a < b", "c"))})
    rows = rows_of(blocks(tmp_path, topographic=both["topographic"], more=more))
    assert [row[:3] for row in rows[1:]] == [
        ["noun - verb", "2", "topographic"],
        ["a < b", "2", "topographic"],
        ["", "", "more"],
        ["c", "2", "more"],
    ]


def test_a_part_of_another_evaluation_is_not_shown(both, tmp_path):
    """One that has replaced a part, and ended before it could say so."""
    folder = both["control"] / "evaluation"
    record = load_json(folder / "evaluation.json")
    save_json(folder / "evaluation.json", {**record, "keys": {"words": digest({})}})
    assert "has no finished part" not in blocks(tmp_path, **both)
    save_findings(folder / "words", maps_part(0.2), {"weights": "others"})
    said = text_of(blocks(tmp_path, **both))
    assert "control has no finished part 'words'" in said
    assert "0.200" not in said


def test_every_suite_appears_under_its_name(both, tmp_path):
    evaluated(both["control"], {"pruning": maps_part(0.1)}, suite="toponets", folder="evaluation_toponets")
    made = blocks(tmp_path, **both)
    assert re.findall("<h3>(Suite .*?)</h3>", made) == ["Suite topolm", "Suite toponets"]
    assert f"topographic has no evaluation yet: topo evaluate {both['topographic']} suite=toponets" in text_of(made)
    assert "Suite" not in blocks(tmp_path, topographic=both["topographic"])


def test_what_is_missing_is_told_with_its_command(both, tmp_path):
    bare = tmp_path / "my run"
    bare.mkdir()
    said = text_of(blocks(tmp_path, bare=bare))
    assert said.strip() == f"bare has no evaluation yet: topo evaluate '{bare}'"
    said = text_of(blocks(tmp_path, bare=bare, **both))
    assert f"bare has no evaluation yet: topo evaluate '{bare}' suite=topolm" in said
    (both["control"] / "evaluation" / "words" / "means.csv").unlink()
    said = text_of(blocks(tmp_path, **both))
    assert f"control has no finished part 'words': topo evaluate {both['control']} suite=topolm" in said
    assert "0.910" in said


def test_a_folder_with_nothing_but_an_evaluation_can_be_reported(both):
    page = write_page(list(both.values()), both["control"].parent / "report.html").read_text()
    assert "data:image/png;base64," in page
    section = page[page.index('id="evaluation"') :]
    assert "0.610" in section
    assert not re.search(r'src="(?!data:)', page)
