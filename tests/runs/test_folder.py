import json
import shutil
from pathlib import Path

import pytest

from topographic.pages.run_folder import read_runs
from topographic.runs.folder import read_metrics
import multiprocessing
import os
import resource
import time

import pytest

from topographic.runs.folder import require_finished
from topographic.storage import disk_errors


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
