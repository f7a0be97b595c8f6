import shutil
from dataclasses import replace

import pytest
import torch

from topographic.recording.checksum import weights_checksum
from topographic.runs.loading import load_model
from topographic.storage import load_json, save_json
from topographic.training.config import TrainingConfig
from topographic.training.run import train
from topographic.training.text.tokenizer import load_tokenizer
from topographic.training.trajectory import steps_to_save, trajectory_checkpoints


def test_log_spaced_steps_double_and_end_with_the_last():
    assert steps_to_save("log", 10, 6) == {0: 0, 1: 10, 2: 20, 4: 40, 6: 60}
    assert steps_to_save("log", 10, 8) == {0: 0, 1: 10, 2: 20, 4: 40, 8: 80}
    assert len(steps_to_save("log", 2048, 2000)) >= 12


def test_tokens_are_rounded_up_to_whole_steps():
    assert steps_to_save([0, 11, 60], 10, 6) == {0: 0, 2: 20, 6: 60}


def test_tokens_that_no_step_has_are_refused():
    with pytest.raises(ValueError, match="61 tokens and the run ends at 60; leave it out"):
        steps_to_save([61], 10, 6)
    with pytest.raises(ValueError, match="12 tokens and another number within the same step of 10"):
        steps_to_save([11, 12], 10, 6)


@pytest.mark.parametrize("tokens", [[], [20, 10], [10, 10], [-1, 3]])
def test_tokens_that_do_not_increase_are_refused(tokens):
    with pytest.raises(ValueError, match=r"training\.save_at=.*each above the one before"):
        TrainingConfig(save_at=tokens)


def test_low_rank_updates_are_no_model():
    with pytest.raises(ValueError, match=r"training\.save_at=log; expected null with training\.adapter"):
        TrainingConfig(save_at="log", adapter="lora")


def test_a_folder_without_checkpoints_in_time_says_how_to_have_some(tmp_path):
    with pytest.raises(ValueError, match=r"has no checkpoints in time; train it with training\.save_at=log"):
        trajectory_checkpoints(tmp_path)


def test_weights_in_time_are_models_and_a_resumed_run_has_the_same(tmp_path, run_config, small_gpt2):
    config = replace(run_config, training=replace(run_config.training, save_at="log"))
    tokenizer = load_tokenizer(config.data)
    untrained = small_gpt2(tokenizer, seed=0)
    before = weights_checksum(untrained)
    whole = train(untrained, tokenizer, config, tmp_path / "whole")
    found = trajectory_checkpoints(whole)
    per_step = load_json(whole / "run.json")["tokens_seen"] // 6
    assert list(found) == [step * per_step for step in (0, 1, 2, 4, 6)]
    models = {tokens: load_model(folder, device="cpu")[0] for tokens, folder in found.items()}
    sums = [weights_checksum(model) for model in models.values()]
    assert len(set(sums)) == 5
    assert sums[0] == before
    assert sums[-1] == weights_checksum(load_model(whole, device="cpu")[0])
    assert not list(whole.glob("trajectory/*/optimizer*"))
    assert all(torch.isfinite(entry).all() for entry in models[0].parameters())

    # as if it had been killed between the checkpoint of step 4 and its end
    killed = tmp_path / "killed"
    shutil.copytree(whole, killed)
    for gone in ("model", "checkpoints/checkpoint-6", f"trajectory/tokens-{6 * per_step}"):
        shutil.rmtree(killed / gone)
    save_json(killed / "run.json", {**load_json(killed / "run.json"), "status": "running"})
    train(small_gpt2(tokenizer, seed=99), tokenizer, config, killed)
    again = [
        weights_checksum(load_model(folder, device="cpu")[0]) for folder in trajectory_checkpoints(killed).values()
    ]
    assert again == sums


def test_a_run_that_counts_no_tokens_is_refused(tmp_path, run_config, small_gpt2, monkeypatch):
    from topographic.training import run as module

    config = replace(run_config, training=replace(run_config.training, save_at="log"))
    tokenizer = load_tokenizer(config.data)
    counted = module._windows(config, tokenizer, None)
    monkeypatch.setitem(module._MATERIALS, "next_token", lambda *_: replace(counted, counted=("items", 1)))
    with pytest.raises(ValueError, match=r"training\.save_at=log counts tokens and this run sees items; leave it out"):
        train(small_gpt2(tokenizer), tokenizer, config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
