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
