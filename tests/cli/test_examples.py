import runpy
import sys
from pathlib import Path

from matplotlib.image import imread

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_two_models_side_by_side(demo_folder, tmp_path, monkeypatch):
    out = tmp_path / "maps.png"
    words = [str(demo_folder / "topographic"), str(demo_folder / "control"), str(out)]
    monkeypatch.setattr(sys, "argv", ["plot_two_models.py", *words])
    runpy.run_path(str(EXAMPLES / "plot_two_models.py"), run_name="__main__")
    picture = imread(out)
    assert picture.shape[1] > 2 * picture.shape[0]
    assert picture[..., :3].std() > 0.05


def test_rows_of_maps(demo_folder, tmp_path, monkeypatch):
    out = tmp_path / "rows.png"
    folders = [f"{run}={demo_folder / run / 'maps' / 'sentences-nonwords'}" for run in ("topographic", "control")]
    monkeypatch.setattr(sys, "argv", ["plot_map_rows.py", str(out), "t", *folders])
    runpy.run_path(str(EXAMPLES / "plot_map_rows.py"), run_name="__main__")
    picture = imread(out)
    n_sheets = len(list((demo_folder / "control" / "maps" / "sentences-nonwords").glob("*.safetensors")))
    assert picture.shape[1] > picture.shape[0] * min(n_sheets, 6) / 3
    assert picture[..., :3].std() > 0.05


def test_two_lines_make_a_plain_loop_topographic(tmp_path, monkeypatch, capsys):
    out = tmp_path / "two_lines.png"
    monkeypatch.setattr(sys, "argv", ["toponet_in_two_lines.py", str(out)])
    runpy.run_path(str(EXAMPLES / "toponet_in_two_lines.py"), run_name="__main__")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[1:3]]
    rows = {
        name: dict(zip(("accuracy", "roughness", "small", "permuted"), map(float, rest), strict=True))
        for name, *rest in lines
    }
    control, topographic = rows["without"], rows["with"]
    assert control["accuracy"] > 0.95
    assert topographic["accuracy"] > control["accuracy"] - 0.04
    assert topographic["roughness"] < 0.05 < 0.8 < control["roughness"]
    assert topographic["small"] > topographic["permuted"] + 0.4
    assert abs(control["small"] - control["permuted"]) < 0.2
    picture = imread(out)
    assert picture.shape[1] > 1.5 * picture.shape[0]
    assert picture[..., :3].std() > 0.05
