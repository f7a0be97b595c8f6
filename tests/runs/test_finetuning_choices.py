import pytest

from topographic.runs.finetuning_choices import ClassifierConfig, constant_rate


def test_the_rate_is_constant():
    config = constant_rate()
    assert config.learning_rate == config.min_learning_rate == 2e-5
    assert (config.warmup_steps, config.batch_size) == (0, 64)


def test_what_is_no_probability_is_refused():
    with pytest.raises(ValueError, match=r"model\.dropout=1\.0; expected a probability from 0 to below 1, or null"):
        ClassifierConfig(dropout=1.0)
