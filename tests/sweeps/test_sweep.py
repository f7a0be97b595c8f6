import functools
import sys
import threading

import pytest

from topographic.pages.findings import write_findings
from topographic.runs.recipe import ModelConfig, Recipe
from topographic.storage import load_json, locked, save_json
from topographic.sweeps import Measures, collect_sweep, plan_sweep
from topographic.sweeps.sweep import overview, run_cells
from topographic.training.config import save_config

PAGE = functools.partial(write_findings, name="sweep")


@pytest.fixture
def kept(swept):
    """The page of that sweep, and what a test changed is put back."""
    sweep = swept.plan()
    cell = sweep.cell("base-seed_1")
    files = {name: (cell.folder / name).read_bytes() for name in ("run.json", "config.yaml")}
    yield sweep
    for name, content in files.items():
        (cell.folder / name).write_bytes(content)


def test_the_door_knows_all_its_names():
    import topographic.sweeps as door

    assert all(getattr(door, name) is not None for name in door.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = door.nothing


def test_a_plan_names_its_cells_and_their_references(swept):
    sweep = swept.plan()
    assert sweep.missing() == []
    assert sweep.references["alpha_1-seed_2"] == "alpha_0-seed_2"
    assert sweep.cell("base-seed_0").seed == 0
    with pytest.raises(ValueError, match="cell=nothing; expected one of alpha_0-seed_0, "):
        sweep.cell("nothing")
    lines = overview(sweep).splitlines()
    assert lines[1].split() == ["alpha_0-seed_0", "0", "0.0", "permuted_grid", "finished"]
    assert lines[-1] == "12 cells, 12 finished"


def test_commands_read_the_sweep_that_is_kept_with_them(swept, tmp_path):
    base = Recipe(run=str(tmp_path / "a b"), model=ModelConfig("tiny"))
    sweep = plan_sweep(base, [{"seed": [0, 1]}], Measures())
    given = []
    failed = run_cells(sweep, sweep.missing()[:1], swept, lambda work: given.extend(work) or {"base-seed_0": "no"})
    assert failed == {"base-seed_0": "no"}
    (work,) = given
    file = tmp_path / "a b" / "sweep.yaml"
    assert list(work.words) == [sys.executable, "-m", "topographic", "sweep", str(file), "cell=base-seed_0"]
    assert (work.run_folder, work.n_steps, work.processes) == (sweep.cells[0].folder, 1000, 1)
    assert f"run: {swept.run}" in file.read_text()


def test_what_is_missing_is_said_on_the_page(kept):
    cell, other = kept.cell("base-seed_1"), kept.cell("base-seed_0")
    summary = other.folder / "maps" / "noun-verb" / "summary.json"
    content = load_json(summary)
    save_json(cell.folder / "run.json", {"status": "running"})
    save_json(summary, {**content, "key": "of other stimuli"})
    try:
        _, page = collect_sweep(kept, PAGE)
    finally:
        save_json(summary, content)
    text = page.read_text()
    assert "Not trained yet: base-seed_1." in text
    assert "Not mapped or measured in full yet: base-seed_0." in text


def test_tables_are_written_by_one_process_at_a_time(kept):
    """Another sweep in the folder is at it: this one waits, and its tables are whole."""
    (kept.folder / "table.csv").unlink(missing_ok=True)
    with locked(kept.lock):
        thread = threading.Thread(target=collect_sweep, args=(kept, PAGE))
        thread.start()
        thread.join(2)
        assert thread.is_alive()
        assert not (kept.folder / "table.csv").exists()
    thread.join(120)
    assert len((kept.folder / "table.csv").read_text().splitlines()) == 25


def test_the_kept_sweep_waits_as_well(swept, tmp_path):
    sweep = plan_sweep(Recipe(run=str(tmp_path / "s"), model=ModelConfig("tiny")), [{"seed": [0]}], Measures())
    with locked(sweep.lock):
        thread = threading.Thread(target=run_cells, args=(sweep, [], swept, lambda _: {}))
        thread.start()
        thread.join(0.5)
        assert not (sweep.folder / "sweep.yaml").exists()
    thread.join(60)
    assert (sweep.folder / "sweep.yaml").is_file()


def test_a_cell_that_another_sweep_trained_otherwise_is_not_collected(kept):
    cell = kept.cell("base-seed_1")
    save_config(cell.folder / "config.yaml", kept.cell("alpha_1-seed_1").recipe)
    with pytest.raises(FileExistsError, match="another configuration"):
        collect_sweep(kept, PAGE)


def test_nothing_trained_is_nothing_to_collect(tmp_path):
    sweep = plan_sweep(Recipe(run=str(tmp_path / "s"), model=ModelConfig("tiny")), [{"seed": [0]}], Measures())
    with pytest.raises(ValueError, match="holds no trained cell; train them first"):
        collect_sweep(sweep, PAGE)
    assert list(tmp_path.iterdir()) == []
