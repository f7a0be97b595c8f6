import json
import random

import numpy as np
import pytest
import torch
from torch import nn

from topographic.training.checkpoints import (
    check_checkpoint,
    last_checkpoint,
    load_tensors,
    optimizer_state,
    random_state,
    remove_older_checkpoints,
    restore_optimizer,
    restore_random_state,
    save_tensors,
    weights,
    whole_state,
)


def model_and_optimizer(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, lr=0.01, betas=(0.8, 0.95))


def step(model, optimizer, seed):
    inputs = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
    model(inputs).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_an_optimizer_restored_by_name_goes_on_bit_for_bit(tmp_path):
    model, optimizer = model_and_optimizer()
    for seed in range(3):
        step(model, optimizer, seed)
    optimizer.param_groups[0]["lr"] = 0.1 + 0.2  # a number without a short decimal form
    tensors, metadata = optimizer_state(model, optimizer)
    assert set(tensors) >= {"0.weight/exp_avg", "0.weight/exp_avg_sq", "0.weight/step", "1.bias/exp_avg"}
    assert metadata["groups"][0]["names"] == ["0.weight", "2.weight"]
    save_tensors(tmp_path / "optimizer.safetensors", tensors, metadata)
    other, fresh = model_and_optimizer(seed=1)
    other.load_state_dict(model.state_dict())
    restore_optimizer(other, fresh, *load_tensors(tmp_path / "optimizer.safetensors"))
    assert fresh.param_groups[0]["lr"] == 0.1 + 0.2
    assert fresh.param_groups[1]["betas"] == (0.8, 0.95)
    for seed in (7, 8):
        step(model, optimizer, seed)
        step(other, fresh, seed)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_an_optimizer_of_another_model_is_refused():
    model, optimizer = model_and_optimizer()
    step(model, optimizer, 0)
    other = nn.Linear(3, 3)
    with pytest.raises(ValueError, match=r"holds other parameters than the model"):
        restore_optimizer(other, torch.optim.AdamW(other.parameters()), *optimizer_state(model, optimizer))


def test_names_of_a_compiled_model_are_those_of_the_bare_one():
    model, optimizer = model_and_optimizer()
    step(model, optimizer, 0)
    compiled = torch.compile(model, backend="eager")
    assert optimizer_state(compiled, optimizer)[0].keys() == optimizer_state(model, optimizer)[0].keys()


def test_random_states_come_back(tmp_path):
    def draw():
        python, numpy = random.random(), np.random.rand()  # noqa: NPY002
        return python, numpy, random.gauss(0, 1), np.random.randn(), torch.rand(3).tolist()  # noqa: NPY002

    draw()  # leaves a cached normal deviate behind, which must come back as well
    tensors, metadata = random_state()
    save_tensors(tmp_path / "random.safetensors", tensors, metadata)
    first = [draw(), draw()]
    restore_random_state(*load_tensors(tmp_path / "random.safetensors"))
    assert [draw(), draw()] == first


def test_tensors_of_every_type_come_back(tmp_path):
    tensors = {
        "half": torch.randn(3, generator=torch.Generator().manual_seed(0)).bfloat16(),
        "bytes": torch.arange(4, dtype=torch.uint8),
        "scalar": torch.tensor(3.5),
        "turned": torch.arange(6.0).reshape(2, 3).T,
    }
    save_tensors(tmp_path / "a.safetensors", tensors, {"count": 3})
    loaded, metadata = load_tensors(tmp_path / "a.safetensors")
    assert metadata == {"count": 3}
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


def test_tied_parameters_stay_one():
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 5, bias=False))
    model[1].weight = model[0].weight
    state = whole_state(model)
    assert set(state) == {"0.weight", "1.weight"}
    assert state["0.weight"].data_ptr() == state["1.weight"].data_ptr()


@pytest.fixture
def folder(tmp_path):
    """Three checkpoints, one unfinished, and something else."""
    for name in ("checkpoint-2", "checkpoint-10", "checkpoint-9", ".checkpoint-12.partial", "checkpoint-x", "notes"):
        made = tmp_path / name
        made.mkdir()
        for file in ("model", "optimizer", "process-0"):
            save_tensors(made / f"{file}.safetensors", {"w": torch.ones(3) * len(name)}, {})
        for file in ("scheduler", "trainer_state"):
            (made / f"{file}.json").write_text(json.dumps({"global_step": 1}))
    return tmp_path


def test_last_checkpoint_is_the_highest_number_and_never_an_unfinished_one(folder, tmp_path):
    assert last_checkpoint(folder).name == "checkpoint-10"
    assert last_checkpoint(folder / "notes") is None
    assert last_checkpoint(folder / "absent") is None


def test_older_checkpoints_are_removed_by_number(folder):
    remove_older_checkpoints(folder, None)
    assert (folder / "checkpoint-2").exists()
    remove_older_checkpoints(folder, 2)
    left = {path.name for path in folder.iterdir()}
    assert left == {"checkpoint-10", "checkpoint-9", ".checkpoint-12.partial", "checkpoint-x", "notes"}


def test_sharded_weights_are_read_together(tmp_path):
    save_tensors(tmp_path / "model-00001-of-00002.safetensors", {"a": torch.ones(2)}, {})
    save_tensors(tmp_path / "model-00002-of-00002.safetensors", {"b": torch.zeros(2)}, {})
    assert set(weights(tmp_path)) == {"a", "b"}


@pytest.mark.parametrize(
    "file",
    ["model.safetensors", "optimizer.safetensors", "process-0.safetensors", "scheduler.json", "trainer_state.json"],
)
@pytest.mark.parametrize("damage", ["cut", "missing", "emptied"])
def test_damaged_checkpoints_are_said_in_one_line(folder, file, damage):
    checkpoint = folder / "checkpoint-10"
    check_checkpoint(checkpoint, 1)
    path = checkpoint / file
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[:-3] if damage == "cut" else b"")
    with pytest.raises(ValueError, match=r"checkpoint-10 is damaged .*delete .*checkpoint-10 to go on from") as caught:
        check_checkpoint(checkpoint, 1)
    assert "\n" not in str(caught.value)


def test_truncated_tensors_are_said(folder):
    path = folder / "checkpoint-2" / "optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"optimizer.safetensors is missing or truncated"):
        load_tensors(path)


def test_another_number_of_processes_is_refused(folder):
    save_tensors(folder / "checkpoint-10" / "process-1.safetensors", {"w": torch.ones(1)}, {})
    with pytest.raises(ValueError, match=r"written by 2 processes, 1 run now.*--nproc-per-node 2"):
        check_checkpoint(folder / "checkpoint-10", 1)
    check_checkpoint(folder / "checkpoint-10", 2)
