import json

import pytest

from topographic.runs.folder import read_metrics, require_finished, run_state
from topographic.training.config import RunConfig, save_config


def test_a_line_cut_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 10, "loss": 1.0}) + "\n" + '{"step": 20, "lo')
    assert read_metrics(path) == [{"step": 10, "loss": 1.0}]


@pytest.mark.parametrize("line", ["nonsense", "[1]", '{"loss": 1.0}', '{"step": "x"}'])
def test_any_other_broken_line_is_refused(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    with pytest.raises(ValueError, match=r"line 2: .* is no JSON object with a step"):
        read_metrics(path)


def test_a_run_without_its_model_is_sent_back_to_training(tmp_path):
    require_finished(tmp_path / "gpt2")  # a name on the hub
    require_finished(tmp_path)
    (tmp_path / "config.yaml").write_text("training: {}\n")
    with pytest.raises(ValueError, match=r"whose training is not finished.*: topo train .*config\.yaml$"):
        require_finished(tmp_path)
    (tmp_path / "model").mkdir()
    require_finished(tmp_path)


def test_a_run_that_failed_says_where_and_why(tmp_path):
    """And where the run lies that it was to replace."""
    run = tmp_path / "run"
    run.mkdir()
    save_config(run / "config.yaml", RunConfig())
    failure = {"step": 7, "reason": "NotFiniteError: task_loss was NaN"}
    (run / "run.json").write_text(json.dumps({"status": "failed", "wall_time_s": 1.0, "steps": 4, "failure": failure}))
    said = r"run holds a run that failed at step 7 \(NotFiniteError: task_loss was NaN\), so that it has no model{}"
    with pytest.raises(ValueError, match=said.format("; mend") + r".*topo train .*config.yaml.*overwrite=true$"):
        require_finished(run)
    (tmp_path / ".run.replaced-1").mkdir()
    with pytest.raises(ValueError, match=said.format(r"; the run that it was to replace is kept in \S+replaced-1")):
        require_finished(run)
    assert run_state(run).status == "failed"


def test_what_was_no_number_is_none(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.5, "grad_norm": null}\n')
    assert read_metrics(path) == [{"step": 1, "loss": 2.5, "grad_norm": None}]
