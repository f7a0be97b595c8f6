"""The gallery and the scripts of examples/ run as they stand; the gallery on small models trained for a few steps."""

import runpy
import sys
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

pytestmark = pytest.mark.unchecked

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
GALLERY = sorted(EXAMPLES.glob("plot_*.py"))


@pytest.fixture
def run_example(common_folder, monkeypatch):
    monkeypatch.setenv("TOPOGRAPHIC_GALLERY", str(common_folder / "gallery"))
    monkeypatch.setenv("TOPOGRAPHIC_GALLERY_STEPS", "24")
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.delitem(sys.modules, "small_model", raising=False)

    def run(name: str) -> dict:
        return runpy.run_path(str(EXAMPLES / name))

    yield run
    sys.modules.pop("small_model", None)


def test_the_gallery_is_there():
    assert len(GALLERY) >= 13
    for path in GALLERY:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert lines[2] == "=" * len(lines[1]), f"{path.name} begins with a title"
        assert "# %%" in lines, f"{path.name} is divided into cells"
        assert any(line.strip() == "figure" for line in lines), f"{path.name} shows a picture"


@pytest.mark.parametrize("path", GALLERY, ids=lambda path: path.stem)
def test_an_example_runs_and_draws(path, run_example, tmp_path, capsys):
    made = run_example(path.name)
    assert isinstance(made["figure"], Figure)
    out = tmp_path / "figure.png"
    made["figure"].savefig(out)
    assert imread(out)[..., :3].std() > 0.02, "a picture with something in it"
    assert capsys.readouterr().out == "", "a cell shows what it ends with and prints nothing"
    if path.stem == "plot_05_toponet_in_two_lines":
        two_lines_make_a_layer_smooth(made["table"])
    if path.stem == "plot_04_lesion":
        assert made["surprisal"](made["model"]) == made["intact"] != made["lesioned"]
    if path.stem == "plot_09_sheets_for_any_model":
        near = {name: curve.values[0] for name, (curve,) in made["curves"].items()}
        assert near["rotated"] > 0.5 > 0.1 > max(abs(near["control"]), abs(near["as they come"]))
    if path.stem == "plot_13_layout_of_a_pretrained_model":
        worth, curve = made["worth"], made["curve"].to_frame()
        assert worth["fitted to the text"]["near"] > 0.2 > 0.05 > abs(worth["fitted to shuffled tokens"]["near"])
        assert set(curve["kind"]) == {"intact", "lesion", "connected"}
    if path.stem == "plot_11_encode_a_story":
        scores = made["table"].groupby("parcel follows")["added by model"].mean()
        assert scores["meaning"] > 0.1 > max(scores["nothing"], scores["rate"])


def two_lines_make_a_layer_smooth(table: pd.DataFrame) -> None:
    control, topographic = table.loc["without"], table.loc["with"]
    assert control["accuracy"] > 0.95
    assert topographic["accuracy"] > control["accuracy"] - 0.04
    assert topographic["roughness"] < 0.05 < 0.8 < control["roughness"]
    assert topographic["a fifth of the units"] > topographic["permuted first"] + 0.4
    assert abs(control["a fifth of the units"] - control["permuted first"]) < 0.2


def test_two_models_side_by_side(demo_folder, tmp_path, monkeypatch):
    out = tmp_path / "maps.png"
    words = [str(demo_folder / "topographic"), str(demo_folder / "control"), str(out)]
    monkeypatch.setattr(sys, "argv", ["draw_two_models.py", *words])
    runpy.run_path(str(EXAMPLES / "draw_two_models.py"), run_name="__main__")
    picture = imread(out)
    assert picture.shape[1] > 2 * picture.shape[0]
    assert picture[..., :3].std() > 0.05


def test_rows_of_maps(demo_folder, tmp_path, monkeypatch):
    out = tmp_path / "rows.png"
    folders = [f"{run}={demo_folder / run / 'maps' / 'sentences-nonwords'}" for run in ("topographic", "control")]
    monkeypatch.setattr(sys, "argv", ["draw_map_rows.py", str(out), "t", *folders])
    runpy.run_path(str(EXAMPLES / "draw_map_rows.py"), run_name="__main__")
    picture = imread(out)
    n_sheets = len(list((demo_folder / "control" / "maps" / "sentences-nonwords").glob("*.safetensors")))
    assert picture.shape[1] > picture.shape[0] * min(n_sheets, 6) / 3
    assert picture[..., :3].std() > 0.05
