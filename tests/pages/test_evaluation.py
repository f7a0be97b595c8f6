import dataclasses
import html
import re
import shutil

import numpy as np
import pytest
from matplotlib.figure import Figure

from topographic.evaluation.results import Findings, Picture, Table, save_findings
from topographic.maps import UnitMap
from topographic.pages import pictures, write_page
from topographic.pages.evaluation import side_by_side
from topographic.pages.findings import write_findings
from topographic.pages.render import render
from topographic.pages.report import Comparison, section
from topographic.pages.run_folder import RunFolder, read_evaluations, read_runs
from topographic.sheets import grid
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
    return render("evaluations.html", runs=read, suites=side_by_side(read, place, 1.0))


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


def chance_part(p=(0.4, 0.9), accuracy=0.52):
    pairs = [{"phenomenon": "all", "pairs": 64, "accuracy": accuracy, "low": accuracy - 0.12, "high": accuracy + 0.12}]
    effects = [{"measure": str(index), "effect": 0.1, "p": one} for index, one in enumerate(p)]
    tables = [
        Table("phenomena", "By phenomenon", pairs, keys=("phenomenon",), headline=("pairs", "accuracy", "low", "high")),
        Table("lesions", "Effects", effects, keys=("measure",), headline=("effect", "p")),
    ]
    return Findings("Lesions", "Done.", tables)


def test_a_part_at_chance_is_said_once_and_its_tables_are_folded(tmp_path):
    first = evaluated(tmp_path / "topographic", {"lesions": chance_part()})
    made = blocks(tmp_path, topographic=first, control=evaluated(tmp_path / "control", {"lesions": chance_part()}))
    said = text_of(made)
    assert said.count("Not told from chance") == 1
    assert "Lesions: topographic and control: every interval of the accuracy holds the 0.5 of chance" in said
    assert re.findall(r"<summary>(.*?)</summary>", made) == [
        "By phenomenon (2 rows, nothing told from chance)",
        "Effects (4 rows, nothing told from chance)",
    ]
    made = blocks(tmp_path, a=first, b=evaluated(tmp_path / "b", {"lesions": chance_part(p=(0.4, 0.01))}))
    assert "Not told from chance" not in text_of(made)
    assert re.findall(r"<summary>(.*?)</summary>", made) == ["By phenomenon (2 rows, nothing told from chance)"]


def maps_of(scale, seed=0):
    rng = np.random.default_rng(seed)
    sites = ("h.0.mlp", "h.1.mlp")
    found = {site: UnitMap(site, scale * rng.normal(size=16), grid((4, 4), site), "welch_t") for site in sites}
    return {site: dataclasses.replace(one, q=np.linspace(0, 1, 16)) for site, one in found.items()}


def with_maps(scale, name="sentences-nonwords_fwhm_0"):
    figure = Figure(figsize=(1, 1), dpi=20)
    shown = [Picture(name, "The maps", figure, "A scale of its own.", headline=True)]
    return Findings("Network", "Done.", pictures=shown, maps={f"{name}/{k}": one for k, one in maps_of(scale).items()})


def test_maps_of_several_runs_are_drawn_again_on_one_colour_scale(tmp_path, monkeypatch):
    drawn, original = [], pictures.draw_maps
    monkeypatch.setattr(
        pictures, "draw_maps", lambda *args, **kwargs: drawn.append(original(*args, **kwargs)) or drawn[-1]
    )
    runs = [evaluated(tmp_path / name, {"network": with_maps(scale)}) for name, scale in (("a", 1.0), ("b", 9.0))]
    drawn.clear()
    page = write_page(runs, tmp_path / "report.html").read_text()
    assert len(drawn) == 2
    limits = {ax.images[0].get_clim() for figure in drawn for ax in figure.axes if ax.images}
    expected = pictures.common_limit([maps_of(1.0), maps_of(9.0)])
    assert limits == {(-expected, expected)}
    assert "A scale of its own" not in page
    assert text_of(page).count(f"One colour scale on the whole page: the darkest colours are t = ±{expected:.1f}") == 2


def test_a_map_that_the_report_shows_already_is_not_shown_again(tmp_path, run_folders, no_ink):
    for folder in run_folders:
        shutil.copytree(folder, tmp_path / folder.name)
        evaluated(tmp_path / folder.name, {"network": with_maps(1.0), "other": with_maps(1.0, "a-b_fwhm_0")})
    runs = read_runs([tmp_path / folder.name for folder in run_folders])
    made = section("Evaluation", Comparison(runs, tmp_path))
    assert made.count("<img") == 2, "those of a-b alone"
    wide = [dataclasses.replace(run, summaries={}) for run in runs]
    assert section("Evaluation", Comparison(wide, tmp_path)).count("<img") == 4


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
