from topographic.cli import main


def test_a_report_of_one_run_lies_in_its_folder(demo_folder, capsys):
    assert main(["report", str(demo_folder / "control")]) == 0
    page = demo_folder / "control" / "report.html"
    assert str(page) in capsys.readouterr().out
    assert "<title>" in page.read_text()


def test_several_runs_title_and_place(demo_folder, tmp_path):
    runs = [str(demo_folder / "control"), str(demo_folder / "topographic")]
    assert main(["report", *runs, f"out={tmp_path / 'page.html'}", "title=Two <models>"]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "Two &lt;models&gt;" in page
    assert page.index("control") < page.index("topographic")


def test_a_folder_that_is_no_run(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 1
    line = capsys.readouterr().err.strip()
    assert line.startswith("topo report:")
    assert str(tmp_path) in line
