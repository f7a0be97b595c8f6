import csv
import json

import numpy as np
import pytest
from matplotlib.figure import Figure

from topographic.evaluation import Findings, NotMeasurable, Results, Table
from topographic.evaluation.results import Picture, kept_key, load_findings, save_findings, save_table
from topographic.maps import Selection, UnitMap
from topographic.sheets import permuted_grid
from topographic.storage import HeldElsewhereError, digest, locked

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


def test_csv_holds_every_digit_and_markdown_what_one_reads(tmp_path):
    files = save_table(tmp_path, Table("maps", "By sheet", ROWS, "Higher is smoother."))
    with open(files[0], newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert list(rows[0]) == ["sheet", "I", "p", "units", "stable", "late"]
    assert float(rows[0]["I"]) == float(np.float32(0.4815))
    assert rows[1] == {"sheet": "a|b, c", "I": "", "p": "0.04", "units": "3", "stable": "False", "late": ""}
    assert files[1].read_text().splitlines() == [
        "### By sheet",
        "",
        "| sheet | I | p | units | stable | late |",
        "| --- | --- | --- | --- | --- | --- |",
        "| layer 0 | 0.481 | < .001 | 12 | yes | – |",  # noqa: RUF001
        "| a\\|b, c | – | .040 | 3 | no | – |",  # noqa: RUF001
        "",
        "Higher is smoother.",
    ]


@pytest.mark.parametrize(
    ("column", "cell", "text"),
    [
        ("I", -0.01234, "\N{MINUS SIGN}0.0123"),
        ("mass", 143.62, "143.6"),
        ("perplexity", 2352386099.8, "2.35e+09"),
        ("FWHM (mm)", 2.0, "2"),
        ("p (unit)", 0.0476, ".048"),
        ("peak t", 0.0, "0.0000"),
        ("units", 18816, "18816"),
    ],
)
def test_every_kind_of_number(tmp_path, column, cell, text):
    file = save_table(tmp_path, Table("x", "x", [{column: cell}]))[1]
    assert file.read_text().splitlines()[4] == f"| {text} |"


def test_an_empty_table_says_so(tmp_path):
    files = save_table(tmp_path, Table("none", "Clusters", []))
    assert files[0].read_text() == "\n"
    assert files[1].read_text() == "### Clusters\n\nnone\n"


def test_what_was_found_comes_back(tmp_path):
    save_findings(tmp_path, findings(), {"seed": 1, "fwhm_mm": (0.0, 2.0)})
    loaded = load_findings(tmp_path, {"seed": 1, "fwhm_mm": [0.0, 2.0]})
    assert (loaded.title, loaded.text, loaded.notes) == ("Maps", "What was done.", ["No X."])
    assert loaded.tables[0].columns == ["sheet", "I", "p", "units", "stable", "late"]
    assert list(loaded.tables[0].rows[0].values()) == ["layer 0", float(np.float32(0.4815)), 0.0004, 12, True]
    assert loaded.tables[0].rows[1]["I"] is None
    assert loaded.pictures[0].title == "Bars"
    assert (tmp_path / "bars.png").read_bytes().startswith(b"\x89PNG")


def with_nouns(**names):
    sheet, rng = permuted_grid((4, 5), "h.0"), np.random.default_rng(0)
    nulls = {"label": rng.standard_normal((200, 20))}
    one = UnitMap("h.0", rng.standard_normal(20), sheet, "welch_t", p=rng.random(20), nulls=nulls)
    kept = Selection("h.0", rng.random(20) > 0.5, sheet, "q < 0.05")
    names = {"maps": ["s-n_fwhm_2/h.0", "s-n_fwhm_0/h.0"], "selections": ["network/a:b"], **names}
    return Findings(
        "Maps", "", maps=dict.fromkeys(names["maps"], one), selections=dict.fromkeys(names["selections"], kept)
    )


def test_maps_and_selections_come_back_with_their_sheets_and_without_null_maps(tmp_path):
    made = with_nouns()
    save_findings(tmp_path, made, {})
    loaded = load_findings(tmp_path, {})
    assert list(loaded.maps) == ["s-n_fwhm_2/h.0", "s-n_fwhm_0/h.0"]
    one, twin = made.maps["s-n_fwhm_0/h.0"], UnitMap.load(tmp_path / "maps" / "s-n_fwhm_0" / "h.0.safetensors")
    for kept in (loaded.maps["s-n_fwhm_0/h.0"], twin):
        np.testing.assert_array_equal(kept.values, one.values)
        np.testing.assert_array_equal(kept.p, one.p)
        assert kept.sheet.checksum == one.sheet.checksum
        assert kept.nulls == {}
    np.testing.assert_array_equal(loaded.selections["network/a:b"].mask, made.selections["network/a:b"].mask)
    assert (tmp_path / "selections" / "network" / "a%3Ab.safetensors").is_file()
    assert (tmp_path / "maps" / "s-n_fwhm_0" / "h.0.safetensors").stat().st_size < 2000, "16 kB with the null maps"


def test_a_lost_map_means_do_it_again_and_an_old_one_goes(tmp_path):
    save_findings(tmp_path, with_nouns(), {})
    save_findings(tmp_path, with_nouns(maps=["s-n_fwhm_0/h.0"]), {})
    assert [file.parent.name for file in tmp_path.rglob("maps/*/*.safetensors")] == ["s-n_fwhm_0"]
    assert load_findings(tmp_path, {}) is not None
    (tmp_path / "maps" / "s-n_fwhm_0" / "h.0.safetensors").unlink()
    assert load_findings(tmp_path, {}) is None


@pytest.mark.parametrize("name", ["../elsewhere", "/tmp", "a//b", ""])
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    with pytest.raises(ValueError, match="is no name of a map or selection; expected words"):
        save_findings(tmp_path, with_nouns(selections=[name]), {})


def test_another_key_or_a_missing_file_means_do_it_again(tmp_path):
    assert load_findings(tmp_path, {"seed": 1}) is None
    save_findings(tmp_path, findings(), {"seed": 1})
    assert load_findings(tmp_path, {"seed": 2}) is None
    assert load_findings(tmp_path, {"seed": 1}) is not None
    (tmp_path / "maps.csv").unlink()
    assert load_findings(tmp_path, {"seed": 1}) is None


def test_nothing_is_finished_before_its_pictures_are(tmp_path):
    class Broken:
        def savefig(self, *_, **__):
            raise RuntimeError("no ink")

    broken = Findings("Maps", "", [Table("maps", "By sheet", ROWS)], [Picture("bars", "Bars", Broken())])
    with pytest.raises(RuntimeError, match="no ink"):
        save_findings(tmp_path / "part", broken, {})
    assert list(tmp_path.iterdir()) == [], "nothing that looks finished, and nothing else"


def test_what_was_there_stays_until_the_new_is_finished(tmp_path, monkeypatch):
    save_findings(tmp_path / "part", findings(), {"seed": 1})
    before = {file.name: file.read_bytes() for file in (tmp_path / "part").iterdir()}

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("topographic.evaluation.results.save_table", stop)
        with pytest.raises(KeyboardInterrupt):
            save_findings(tmp_path / "part", findings(), {"seed": 2})
    assert {file.name: file.read_bytes() for file in (tmp_path / "part").iterdir()} == before
    only = Findings("Maps", "", [Table("other", "Another table", ROWS)])
    save_findings(tmp_path / "part", only, {"seed": 2})
    assert sorted(file.name for file in (tmp_path / "part").iterdir()) == ["findings.json", "other.csv", "other.md"]
    assert kept_key(tmp_path / "part") == {"seed": 2}


def test_the_record_is_plain_json(tmp_path):
    save_findings(tmp_path, findings(), {"x": float("inf")})
    content = json.loads((tmp_path / "findings.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert content["made_of"] == {"x": None}
    assert content["key"] == digest({"x": None})


def test_findings_of_before_are_read_and_stand_for_no_key(tmp_path):
    save_findings(tmp_path, findings(), {"seed": 1})
    content = json.loads((tmp_path / "findings.json").read_text())
    content |= {"format": 2, "key": content.pop("made_of")}
    (tmp_path / "findings.json").write_text(json.dumps(content))
    assert load_findings(tmp_path).tables[0].rows[0]["units"] == 12
    assert load_findings(tmp_path, {"seed": 1}) is None, "its key knew less"
    assert kept_key(tmp_path) == {}


def test_tables_are_found_by_name_and_become_frames():
    found = findings()
    frame = found["maps"].to_frame()
    assert list(frame.columns) == ["sheet", "I", "p", "units", "stable", "late"]
    assert frame["units"].tolist() == [12, 3]
    assert frame["I"].isna().tolist() == [False, True]
    assert found.to_frame().equals(frame), "the first table is the main one"
    with pytest.raises(KeyError, match="no table 'map'; 'Maps' has maps"):
        found["map"]
    with pytest.raises(NotMeasurable, match=r"'Windows' has no table\. Not measured: no text\."):
        Findings("Windows", "", notes=["Not measured: no text."]).to_frame()


def test_everything_is_told_in_one_line():
    assert repr(findings()) == "Findings('Maps': tables maps, 1 picture, 1 note)"
    assert repr(findings()["maps"]) == "Table('maps', 2 rows: sheet, I, p, units, stable, late)"
    assert repr(Results("topolm", "", {"network": findings()})) == "Results('topolm': network)"


def test_results_come_back_with_their_keys(tmp_path):
    made = Results("topolm", "A model.", {"maps": findings(), "nouns": with_nouns()}, {"maps": {"seed": 1}})
    made.save(tmp_path / "evaluation")
    loaded = Results.load(tmp_path / "evaluation")
    assert (list(loaded), loaded.suite, loaded.lead) == (["maps", "nouns"], "topolm", "A model.")
    assert loaded["maps"].to_frame().equals(made["maps"].to_frame())
    assert loaded.keys["maps"] == {"seed": 1}
    assert len(loaded["nouns"].maps) == 2
    with pytest.raises(KeyError, match="no part 'lesions'; these results have maps, nouns"):
        loaded["lesions"]
    loaded.save(tmp_path / "copy")
    first, second = (tmp_path / name / "maps" / "bars.png" for name in ("evaluation", "copy"))
    assert first.read_bytes() == second.read_bytes(), "a picture that lies on disk is copied"
    # another evaluation replaced a part, and ended before it could say so
    save_findings(tmp_path / "evaluation" / "maps", findings(), {"seed": 2})
    with pytest.raises(ValueError, match=r"maps is gone or of another evaluation; evaluate again to complete it"):
        Results.load(tmp_path / "evaluation")
    with pytest.raises(FileNotFoundError, match=r"no evaluation at .*; expected a folder of one"):
        Results.load(tmp_path / "nowhere")


def test_one_process_writes_results(tmp_path):
    with locked(tmp_path / "evaluation"), pytest.raises(HeldElsewhereError, match="is being written by process"):
        Results("topolm", "", {}).save(tmp_path / "evaluation")
