import pytest
import torch
from torch.utils.data import TensorDataset

from topographic.training.config import TrainingConfig
from topographic.training.material import Material, whole_steps


def material(n_train, n_validation=None):
    validation = None if n_validation is None else TensorDataset(torch.arange(n_validation))
    return Material(TensorDataset(torch.arange(n_train)), validation, {}, seed=0, counted=("images", 3))


def test_items_are_cut_to_whole_steps():
    config = TrainingConfig(batch_size=4, gradient_accumulation_steps=2, eval_batches=2)
    train, validation, per_step = whole_steps(material(50, 100), config, n_processes=3)
    assert (len(train), len(validation), per_step) == (48, 2 * 4 * 3, {"images": 24 * 3})
    assert [int(train[index][0]) for index in (0, 47)] == [0, 47]
    _, validation, _ = whole_steps(material(50, 5), config, n_processes=1)
    assert len(validation) == 5
    assert whole_steps(material(50), config, n_processes=1)[1] is None


def test_too_few_items():
    with pytest.raises(ValueError, match=r"7 training items of 3 images; one step takes 8 \(batch_size x"):
        whole_steps(material(7), TrainingConfig(batch_size=8), n_processes=1)
