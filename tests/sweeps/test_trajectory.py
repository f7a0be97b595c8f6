import shutil

import numpy as np
import pandas as pd
import pytest

from topographic.evaluation import Choices, Shown
from topographic.models import fresh_model, preset
from topographic.storage import load_json
from topographic.sweeps import trajectory as module
from topographic.sweeps.series import Checkpoint, Series, series_of
from topographic.sweeps.trajectory import measure_trajectories
from topographic.sweeps.trajectory_parts import Watched

REVISIONS = ["step0", "step2", "step8"]
WATCHED = Watched(Shown(pairs_per_paradigm=1), Choices(n_draws=19), n_units=20)


@pytest.fixture(scope="module")
def measured(tmp_path_factory, stand_ins):
    folder = tmp_path_factory.mktemp("trajectory")
    series = series_of([str(stand_ins)], REVISIONS, tokens_per_step=100)
    _, parts = measure_trajectories(series, folder, WATCHED, n_bootstrap=99, progress=False)
    return folder, series, parts["collected/trajectory"]


def test_a_row_per_checkpoint_and_one_of_untrained_weights(measured):
    folder, _, found = measured
    table = pd.read_csv(folder / "trajectory.csv")
    assert table["checkpoint"].tolist() == ["untrained", *REVISIONS]
    assert table["tokens"].tolist()[1:] == [0, 200, 800]
    assert table["overlap with last"].iloc[-1] == 1
    assert table["overlap with previous"].isna().tolist() == [True, True, False, False]
    assert (table["units"] <= 20).all()
    assert table["t of units chosen here"].gt(table["t of random units"]).all()
    numbers = ["perplexity", "next-word accuracy", "accuracy on minimal pairs", "I", "unit null"]
    assert np.isfinite(table[numbers].to_numpy()).all()
    assert any(column.startswith("pairs: ") for column in table)
    assert (folder / "trajectory.md").is_file()
    assert any("data not given" in note for note in found.notes)
    assert any("Functional competence: not measured" in note for note in found.notes)


def test_what_is_kept_is_neither_measured_nor_loaded_again(measured, monkeypatch):
    folder, series, _ = measured
    before = (folder / "trajectory.csv").read_text()

    def refuse(*_):
        raise AssertionError("loaded again")

    monkeypatch.setattr(module, "subject_at", refuse)
    measure_trajectories(series, folder, WATCHED, n_bootstrap=99, progress=False)
    assert (folder / "trajectory.csv").read_text() == before


def test_a_key_holds_weights_and_choices(measured, stand_ins, tmp_path, monkeypatch):
    folder, series, _ = measured
    again = shutil.copytree(folder, tmp_path / "again")
    measured_again = []
    measure = module.measure_part
    monkeypatch.setattr(module, "measure_part", lambda name, *rest: measured_again.append(name) or measure(name, *rest))
    other = Watched(WATCHED.shown, Choices(n_draws=20), WATCHED.n_units)
    measure_trajectories(series, again, other, n_bootstrap=99, progress=False)
    assert measured_again == ["topography"] * 4  # alone reads the number of draws
    measured_again.clear()
    changed = shutil.copytree(stand_ins, tmp_path / stand_ins.name)
    fresh_model(preset("tiny", vocab_size=384, n_positions=128, n_layer=2), seed=9).save_pretrained(changed / "step2")
    measure_trajectories(
        series_of([str(changed)], REVISIONS, tokens_per_step=100), again, other, n_bootstrap=99, progress=False
    )
    assert measured_again == ["text", "pairs", "localizer", "topography"]  # of the one that has other weights
    kept = load_json(next(again.glob("kept/*/text-*.json")))
    assert {"weights", "tokenizer", "architecture", "code", "material"} <= set(kept["decided_by"])


def test_an_interrupted_series_goes_on_where_it_stopped(stand_ins, tmp_path, monkeypatch):
    series = series_of([str(stand_ins)], REVISIONS, tokens_per_step=100)
    measure, done = module.measure_part, []

    def stops(name, *rest):
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(name)
        return measure(name, *rest)

    monkeypatch.setattr(module, "measure_part", stops)
    with pytest.raises(KeyboardInterrupt):
        measure_trajectories(series, tmp_path, WATCHED, progress=False)
    monkeypatch.setattr(module, "measure_part", lambda name, *rest: done.append(name) or measure(name, *rest))
    measure_trajectories(series, tmp_path, WATCHED, n_bootstrap=99, progress=False)
    assert len(done) == 4 * 4


def test_another_architecture_or_tokenizer_in_a_series_is_refused(stand_ins, tiny_tokenizer, tmp_path):
    other = shutil.copytree(stand_ins, tmp_path / "other")
    fresh_model(preset("tiny", vocab_size=384, n_positions=128, n_layer=1), seed=0).save_pretrained(other / "step8")
    series = series_of([str(other)], REVISIONS, tokens_per_step=100)
    with pytest.raises(ValueError, match="step8 has another architecture than the first checkpoint of other"):
        measure_trajectories(series, tmp_path / "out", WATCHED, progress=False)
    shutil.rmtree(other / "step8")
    shutil.copytree(stand_ins / "step8", other / "step8")
    tiny_tokenizer.__class__.from_pretrained(other / "step8", additional_special_tokens=["<new>"]).save_pretrained(
        other / "step8"
    )
    with pytest.raises(ValueError, match="step8 has another tokenizer"):
        measure_trajectories(series, tmp_path / "out", WATCHED, progress=False)


def test_curves_of_planted_rows_are_compared_and_seeds_averaged():
    source = np.random.default_rng(0)
    rows, series = [], []

    for seed in range(3):
        series.append(Series(f"small-{seed}", (Checkpoint("a", 0), Checkpoint("b", 1))))
        formal, following = source.standard_normal((2, 12))
        for step in range(12):
            rows.append({
                "series": f"small-{seed}",
                "group": "small",
                "checkpoint": f"step{step}",
                "tokens": step,
                "I": formal[step] + 0.1 * source.standard_normal(),
                "accuracy on minimal pairs": formal[step],
                "next-word accuracy": following[step],
            })
    (relation,), notes = module._relations(series, rows, 199, 0)
    assert (relation["explained"], relation["series"], relation["checkpoints"]) == ("I", 3, 12)
    assert relation["difference"] > 0.5
    assert relation["p"] < 0.05
    assert notes == []
    over = module._over_seeds(rows)
    assert [line["series"] for line in over] == [3] * 12
    assert all(line["low (I)"] < line["I"] < line["high (I)"] for line in over)
    short = [row for row in rows if row["tokens"] < 4]
    assert module._relations(series, short, 199, 0)[1] == [
        "small, I: no comparison of R2 (4 checkpoints; expected 8 or more for blocks of them)."
    ]
