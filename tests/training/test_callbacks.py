import json
import math
import sys
from types import SimpleNamespace

import pytest
from transformers import TrainerControl, TrainerState

from topographic.training.callbacks import EarlyStopping, EpochsTold, MetricsLog, ProgressBar, rises_in_a_row


def state_at(step, **fields):
    return TrainerState(global_step=step, max_steps=10, is_world_process_zero=True, **fields)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def log(callback, step, **logs):
    callback.on_log(None, state_at(step), TrainerControl(), logs=logs)


def test_metrics_are_appended_without_speeds_and_summaries(tmp_path):
    callback = MetricsLog(tmp_path, tensorboard=False)
    callback.on_train_begin(None, state_at(0), TrainerControl())
    log(callback, 1, loss=3.0, task_loss=2.5, epoch=0.1)
    log(callback, 2, eval_loss=2.0, eval_runtime=1.0, eval_samples_per_second=5.0, eval_model_preparation_time=1.0)
    log(callback, 2, train_runtime=9.0, train_loss=1.0)
    callback.on_train_end(None, state_at(2), TrainerControl())
    assert lines(tmp_path) == [
        {"step": 1, "loss": 3.0, "task_loss": 2.5, "epoch": 0.1},
        {"step": 2, "eval_loss": 2.0},
    ]


def test_a_resumed_log_repeats_no_step(tmp_path):
    callback = MetricsLog(tmp_path, tensorboard=False)
    callback.on_train_begin(None, state_at(0), TrainerControl())
    for step in (2, 4, 6):
        log(callback, step, loss=float(step))
    with open(tmp_path / "metrics.jsonl", "a") as opened:
        opened.write('{"step": 8, "lo')  # cut by a kill
    again = MetricsLog(tmp_path, tensorboard=False)
    again.on_train_begin(None, state_at(4), TrainerControl())
    log(again, 6, loss=60.0)
    assert [(line["step"], line["loss"]) for line in lines(tmp_path)] == [(2, 2.0), (4, 4.0), (6, 60.0)]


def test_what_is_no_finite_number_is_null(tmp_path):
    """Also what an earlier version wrote as NaN, which is not JSON."""
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0, "grad_norm": NaN}\n')
    callback = MetricsLog(tmp_path, tensorboard=False)
    callback.on_train_begin(None, state_at(1), TrainerControl())
    log(callback, 2, loss=1.0, grad_norm=math.inf, spatial_loss=math.nan, epoch=1)
    text = (tmp_path / "metrics.jsonl").read_text()
    assert text == (
        '{"step": 1, "loss": 2.0, "grad_norm": null}\n'
        '{"step": 2, "loss": 1.0, "grad_norm": null, "spatial_loss": null, "epoch": 1}\n'
    )


def test_other_processes_write_nothing(tmp_path):
    callback = MetricsLog(tmp_path, tensorboard=True)
    other = TrainerState(global_step=1, is_world_process_zero=False)
    callback.on_train_begin(None, other, TrainerControl())
    callback.on_log(None, other, TrainerControl(), logs={"loss": 1.0})
    callback.on_train_end(None, other, TrainerControl())
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_gets_the_same(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    callback = MetricsLog(tmp_path, tensorboard=True)
    callback.on_train_begin(None, state_at(0), TrainerControl())
    log(callback, 1, **{"loss": 3.0, "spatial/h.0.attn": 0.25})
    log(callback, 2, **{"loss": 2.0, "spatial/h.0.attn": 0.125})
    callback.on_train_end(None, state_at(2), TrainerControl())
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("spatial/h.0.attn")] == [(1, 0.25), (2, 0.125)]
    assert [event.value for event in events.Scalars("loss")] == [3.0, 2.0]


def test_missing_tensorboard_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"topographic\[train\]'`, or set training.report_to to 'none'"):
        MetricsLog(tmp_path, tensorboard=True)


@pytest.mark.parametrize(
    ("losses", "rises"),
    [
        ([], 0),
        ([3.0], 0),
        ([3.0, 2.0], 0),
        ([3.0, 3.0], 0),
        ([2.0, 3.0], 1),
        ([5.0, 2.0, 3.0, 4.0], 2),
        ([1.0, 3.0, 2.0, 4.0], 1),  # above the best for three evaluations, yet risen only once in a row
        ([1.0, 2.0, 3.0, 2.5], 0),
    ],
)
def test_rises_in_a_row(losses, rises):
    history = [{"loss": 9.0, "step": 1}]
    for loss in losses:
        history += [{"eval_loss": loss}, {"loss": 9.0}]
    assert rises_in_a_row(history) == rises


@pytest.mark.parametrize(("patience", "stops"), [(1, True), (2, True), (3, False)])
def test_early_stopping(patience, stops):
    control = TrainerControl()
    state = state_at(5, log_history=[{"eval_loss": loss} for loss in (4.0, 2.0, 2.5, 3.0)])
    EarlyStopping(patience).on_evaluate(None, state, control)
    assert control.should_training_stop is stops


def test_progress_goes_to_standard_error(capsys):
    bar = ProgressBar()
    bar.on_train_begin(None, state_at(3), TrainerControl())
    bar.on_log(None, state_at(4), TrainerControl(), logs={"task_loss": 2.5, "grad_norm": 1.0, "epoch": 1})
    for _ in range(7):
        bar.on_step_end(None, state_at(4), TrainerControl())
    bar.on_train_end(None, state_at(10), TrainerControl())
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "10/10" in shown.err
    assert "task_loss=2.5" in shown.err
    assert "grad_norm" not in shown.err


def test_a_bar_that_is_closed_leaves_its_line(capsys):
    bar = ProgressBar()
    bar.on_train_begin(None, state_at(3), TrainerControl())
    bar.close()
    bar.close()
    assert capsys.readouterr().err.endswith("\n")


@pytest.mark.parametrize(("epoch", "told"), [(None, 0), (0.0, 0), (1.6, 1), (2.0, 2)])
def test_whole_epochs_are_told_also_after_a_resumption(epoch, told):
    listener = SimpleNamespace(epoch=-1)
    EpochsTold(listener).on_epoch_begin(None, TrainerState(epoch=epoch), TrainerControl())
    assert listener.epoch == told
