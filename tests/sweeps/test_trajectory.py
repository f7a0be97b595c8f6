import shutil
import sys

import numpy as np
import pandas as pd
import pytest

from topographic.evaluation import Choices, Shown
from topographic.models import fresh_model, preset
from topographic.storage import load_json
from topographic.sweeps import trajectory as module
from topographic.sweeps import trajectory_parts as parts_module
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
    assert "Functional competence, missing: ARC-Easy, ARC-Challenge, HellaSwag, PIQA, WinoGrande, Social IQa" in str(
        found.notes
    )
    tasks = pd.read_csv(folder / "functional.csv")
    assert set(tasks["state"]) == {"missing"}
    assert tasks["pythia"].isna().all()
    sizes = pd.read_csv(folder / "sizes.csv")
    assert sizes["features"].tolist() == [table["features"].iloc[0]]
    assert sizes["I"].tolist() == [pytest.approx(table["I"].iloc[-1], rel=1e-4)]


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
    assert measured_again == ["localizer", "text", "pairs", "topography"]  # of the one that has other weights
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
    with pytest.raises(
        ValueError, match=r"step0 has another architecture than .*step8, the last checkpoint of other; expected one"
    ):
        measure_trajectories(series, tmp_path / "out", WATCHED, progress=False)
    shutil.rmtree(other / "step8")
    shutil.copytree(stand_ins / "step8", other / "step8")
    tiny_tokenizer.__class__.from_pretrained(other / "step8", additional_special_tokens=["<new>"]).save_pretrained(
        other / "step8"
    )
    with pytest.raises(ValueError, match=r"step0 has another tokenizer than .*step8"):
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
                "formal competence": formal[step],
                "next-word accuracy": following[step],
            })
    (relation,), notes = module._relations(series, rows, 199, 0)
    assert (relation["explained"], relation["series"], relation["checkpoints"]) == ("I", 3, 12)
    assert (relation["first"], relation["second"]) == ("formal competence", "next-word accuracy")
    assert relation["difference"] > 0.5
    assert relation["p"] < 0.05
    assert notes == []
    over = module._over_seeds(rows)
    assert [line["series"] for line in over] == [3] * 12
    assert all(line["low (I)"] < line["I"] < line["high (I)"] for line in over)
    short = [row for row in rows if row["tokens"] < 4]
    assert module._relations(series, short, 199, 0)[1] == [
        "small, I, formal competence against next-word accuracy: no comparison of R2 (4 checkpoints; expected 8 or "
        "more for blocks of them)."
    ]


@pytest.fixture(scope="module")
def brain_data(tmp_path_factory):
    """A corpus of potentials and times that are noise."""
    folder, source = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    words = ("the", "cat", "saw", "a", "dog", "near", "old", "house")
    texts = [" ".join(source.choice(words, 8)) for _ in range(40)]
    lines = ["text_id,position,word,log_freq,n400,rt"]
    for index, text in enumerate(texts):
        for position, word in enumerate(text.split()):
            lines.append(f"{index},{position},{word},{len(word)},{source.normal():.4f},{300 + source.normal():.4f}")
    (folder / "own.csv").write_text("\n".join(lines))
    (folder / "own_texts.txt").write_text("\n".join(texts))
    return folder


def test_every_checkpoint_stands_beside_as_many_units_of_other_kinds(stand_ins, brain_data, tmp_path, monkeypatch):
    series = series_of([str(stand_ins)], REVISIONS[:2], tokens_per_step=100)
    watched = Watched(Shown(pairs_per_paradigm=1, data=str(brain_data)), Choices(n_draws=19, word_folds=4), n_units=6)
    asked = []
    measure = module.measure_part

    def noted(name, subject, one):
        if name == "alignment":
            asked.append(one.units)
        return measure(name, subject, one)

    monkeypatch.setattr(module, "measure_part", noted)
    _, parts = measure_trajectories(series, tmp_path, watched, n_bootstrap=99, progress=False)
    table = parts["collected/trajectory"]["trajectory"].to_frame()
    last, untrained, *_ = asked  # the last checkpoint is measured first: it says which units are fixed
    assert all(len(units) == 6 for one in asked for some in one.chosen.values() for units in some)
    fixed = last.chosen["localized here"][0]
    assert all((one.chosen["localized at the last"][0] == fixed).all() for one in asked)
    assert not np.array_equal(untrained.chosen["localized here"][0], fixed)
    assert all((one.chosen["random units"][4] == last.chosen["random units"][4]).all() for one in asked)
    columns = [f"potentials r{name}" for name in ("", ", random units", ", random tokens", ", embedding layer")]
    assert np.isfinite(table[[*columns, "potentials r, localized at the last"]].to_numpy()).all()
    assert table["potentials r, untrained"].tolist() == [table["potentials r"].iloc[0]] * 3
    assert table["potentials r, length, tokens, frequency, position, punctuation"].nunique() == 1
    assert (table["low (potentials r)"] < table["potentials r"]).all()
    assert table["potentials r, localized at the last"].iloc[-1] == table["potentials r"].iloc[-1]
    assert table["reading gain (nats per 1,000 words)"].nunique() > 1
    assert [picture.name for picture in parts["collected/trajectory"].pictures] == ["growth", "trajectory"]


def test_tasks_of_the_harness_are_measured_once_and_their_mean_is_of_those_there_are(stand_ins, tmp_path, monkeypatch):
    (tmp_path / "tasks").mkdir()
    asked = []

    def answers(model, tokenizer, folder, *, n_items, batch_size):
        asked.append((folder, n_items))
        values = {"piqa": 0.6, "winogrande": 0.5}
        return [{"task": name, "value": values.get(name)} for name in ("piqa", "winogrande", "hellaswag")]

    monkeypatch.setattr(parts_module, "functional_competence", answers)
    monkeypatch.setattr(parts_module, "harness_version", lambda: "0.4.9")
    series = series_of([str(stand_ins)], REVISIONS[:2], tokens_per_step=100)
    watched = Watched(WATCHED.shown, WATCHED.choices, 20, str(tmp_path / "tasks"), 7)
    for _ in range(2):
        _, parts = measure_trajectories(series, tmp_path / "out", watched, n_bootstrap=99, progress=False)
    assert asked == [(str(tmp_path / "tasks"), 7)] * 3
    table = parts["collected/trajectory"]["trajectory"].to_frame()
    assert table["functional competence"].tolist() == pytest.approx([0.55] * 3)
    assert table["task: HellaSwag"].isna().all()
    assert "missing: ARC-Easy, ARC-Challenge, HellaSwag, Social IQa: not defined in" in str(
        parts["collected/trajectory"].notes
    )


def test_without_the_harness_tasks_are_refused_before_anything_is_measured(stand_ins, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    series = series_of([str(stand_ins)], REVISIONS, tokens_per_step=100)
    with pytest.raises(ModuleNotFoundError, match="lm-evaluation-harness cannot be imported"):
        measure_trajectories(series, tmp_path, Watched(functional=str(tmp_path)), progress=False)


def test_the_end_of_the_relation_is_named_in_tokens():
    source = np.random.default_rng(0)
    points = tuple(Checkpoint(f"step{step}", 100 * step) for step in range(12))
    series = [Series(f"small-{seed}", points) for seed in range(3)]
    rows = [
        {
            "series": one.name,
            "tokens": 100 * step,
            "next-word accuracy": step / 12,
            "potentials r": min(step, 5) / 12 + 0.001 * source.standard_normal(),
        }
        for one in series
        for step in range(12)
    ]
    (line,) = module._ends(series, rows, 99, 0)
    assert (line["tokens at its end"], line["low (tokens)"], line["high (tokens)"]) == (500, 500, 500)
    assert (line["explained"], line["series"], line["p"]) == ("potentials r", 3, 0.01)
