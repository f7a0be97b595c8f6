import json
import re
import shutil

from topographic.cli import main
from topographic.evaluation.suites import SUITES
from topographic.maps import MapSummary


def test_the_demo_leaves_two_runs_and_a_page(demo_folder):
    for name, weight in (("topographic", 0.25), ("control", 0.0)):
        run = json.loads((demo_folder / name / "run.json").read_text())
        assert run["status"] == "finished"
        assert f"weight: {weight}" in (demo_folder / name / "config.yaml").read_text()
    page = (demo_folder / "report.html").read_text()
    for word in ("topographic", "control", "unit null", "label null", "data:image"):
        assert word in page


def test_both_models_saw_the_same_tokens_and_started_alike(demo_folder):
    runs = [json.loads((demo_folder / name / "run.json").read_text()) for name in ("topographic", "control")]
    assert runs[0]["corpus"] == runs[1]["corpus"]
    assert runs[0]["seeds"] == runs[1]["seeds"]


def test_every_map_carries_three_references(demo_folder):
    for name in ("topographic", "control"):
        for contrast in ("sentences-nonwords", "noun-verb"):
            summary = MapSummary.load(demo_folder / name / "maps" / contrast)
            assert len(summary.rows) == 8
            index = summary.morans_i
            assert None not in (index.floor, index.unit_null, index.label_null)
            assert index.unit_null.n_draws == 19


def test_nothing_in_a_run_folder_is_a_pickle(demo_folder):
    kinds = {path.suffix for path in demo_folder.rglob("*") if path.is_file()}
    assert kinds <= {".yaml", ".json", ".jsonl", ".safetensors", ".html", ".lock", ".py"} | {
        path.suffix for path in demo_folder.rglob("events.out.tfevents*")
    }


def test_a_second_call_reuses_the_trained_models(demo_folder, text, capsys):
    before = (demo_folder / "control" / "model" / "model.safetensors").stat().st_mtime_ns
    assert main(["demo", f"text={text}", f"run={demo_folder}", "max_steps=4", "n_draws=19", "evaluate=false"]) == 0
    assert (demo_folder / "control" / "model" / "model.safetensors").stat().st_mtime_ns == before
    printed = capsys.readouterr().out
    assert printed.count("is trained already") == 2
    assert "sentences-nonwords" in printed


def test_both_models_are_evaluated_and_the_page_says_so(demo_folder, text, tmp_path, monkeypatch):
    folder = tmp_path / "demo"
    shutil.copytree(demo_folder, folder)
    suite = SUITES["topolm"]["language"]
    fast = suite._replace(parts={"minimal_pairs": suite.parts["minimal_pairs"]})
    monkeypatch.setitem(SUITES["topolm"], "language", fast)
    assert main(["demo", f"text={text}", f"run={folder}", "max_steps=4", "n_draws=19"]) == 0
    for name in ("topographic", "control"):
        made = json.loads((folder / name / "evaluation" / "evaluation.json").read_text())
        assert made["command"]["quick"] is True
        assert made["parts"] == ["minimal_pairs"]
    page = (folder / "report.html").read_text()
    section = page[page.index('<section id="evaluation">') :]
    assert "has no evaluation yet" not in section
    row = r'<th scope="row">subject_verb_agreement</th><th scope="row">topographic</th>'
    assert re.search(row, section)


def test_without_an_evaluation_the_page_names_the_command(demo_folder):
    page = (demo_folder / "report.html").read_text()
    assert page.count("has no evaluation yet:") == 2
    assert f"topo evaluate {demo_folder / 'topographic'}" in page


def test_a_text_that_is_not_there_is_one_line(tmp_path, capsys):
    assert main(["demo", "text=absent.txt", f"run={tmp_path / 'r'}"]) == 1
    printed = capsys.readouterr().err.strip().splitlines()[-1]
    assert printed.startswith("topo demo:")
    assert "absent.txt" in printed
