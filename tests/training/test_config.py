import math
import subprocess
import sys
from dataclasses import dataclass, field, fields

import pytest
import yaml
from jsonargparse import ArgumentParser

from topographic.objectives.config import SmoothnessConfig, SpatialConfig, WeightSheetConfig
from topographic.training.config import (
    DataConfig,
    HasTextConfigs,
    HasTrainingConfigs,
    ImageConfig,
    RunConfig,
    TrainingConfig,
    plain,
    save_config,
)
from topographic.training.finetuning.labelled import LabelledDataConfig

NAN = math.nan


def parse(*words: str) -> RunConfig:
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(RunConfig, None, fail_untyped=True)
    read = parser.instantiate(parser.parse_args(list(words)))
    return RunConfig(data=read.data, spatial=read.spatial, smoothness=read.smoothness, training=read.training)


def test_yaml_round_trip(tmp_path):
    config = RunConfig(
        DataConfig(text="books", max_tokens=10, cache_folder="cache"),
        SpatialConfig(weight=0.25, sites=["h.*.attn", "h.*.mlp"], norm="linf"),
        SmoothnessConfig(
            weight=1.0,
            sites=["h.*.mlp.c_fc"],
            factor=(3.0, 2.0),
            schedule="cosine",
            sheets=[
                WeightSheetConfig("head", scale=None, shape=(3, 4)),
                WeightSheetConfig(["a", "b"], "input", 0.5, 2.0, "gaussian", layout="permuted_grid", layout_seed=7),
            ],
        ),
        training=TrainingConfig(betas=(0.8, 0.9), early_stopping_patience=3, keep_checkpoints=None),
    )
    save_config(tmp_path / "config.yaml", config)
    assert parse("--config", str(tmp_path / "config.yaml")) == config
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert written == plain(config)
    assert written["training"]["betas"] == [0.8, 0.9]
    assert (written["smoothness"]["factor"], written["smoothness"]["sheets"][0]["shape"]) == ([3.0, 2.0], [3, 4])
    assert set(written["data"]) == {entry.name for entry in fields(DataConfig)}  # every key is spelt out


def test_dotted_overrides_win_over_the_file(tmp_path):
    save_config(tmp_path / "config.yaml", RunConfig(training=TrainingConfig(max_steps=7)))
    config = parse("--config", str(tmp_path / "config.yaml"), "--training.max_steps=9", "--spatial.sites=[a,b]")
    assert config.training.max_steps == 9
    assert config.spatial.sites == ["a", "b"]


@pytest.mark.parametrize("word", ["--training.max_step=9", "--data.txt=x", "--spatial.norm=l3", "--training.bf16=7"])
def test_unknown_keys_and_choices_are_refused(word):
    with pytest.raises(Exception, match=word.split("=")[0].split(".")[-1]):
        parse(word)


@pytest.mark.parametrize("config", [DataConfig, SmoothnessConfig, SpatialConfig, TrainingConfig, WeightSheetConfig])
def test_every_field_has_its_help(config):
    import inspect

    source = inspect.getsource(config)
    for entry in fields(config):
        declared = source.index(f"    {entry.name}: ")
        assert source[declared:].split("\n")[1].strip().startswith('"""'), entry.name


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: DataConfig(vocab_size=100), "data.vocab_size=100; expected at least 257"),
        (lambda: DataConfig(tokenizer_characters=0), "data.tokenizer_characters=0; expected above 0"),
        (lambda: DataConfig(max_tokens=0), "data.max_tokens=0; expected above 0, or null"),
        (lambda: DataConfig(validation_fraction=1.0), "data.validation_fraction=1.0; expected 0 to below 1"),
        (lambda: DataConfig(sequence_length=1), "data.sequence_length=1; expected at least 2"),
        (lambda: SpatialConfig(weight=-1.0), "spatial.weight=-1.0; expected"),
        (lambda: SpatialConfig(weight=float("nan")), "spatial.weight=nan; expected"),
        (lambda: SpatialConfig(sites=[]), "spatial.sites=.*; expected patterns of names"),
        (lambda: SpatialConfig(radius=0), "spatial.radius=0; expected"),
        (lambda: SpatialConfig(k=2), "spatial.k=2; expected at least 3"),
        (lambda: SpatialConfig(n_neighborhoods=0), "spatial.n_neighborhoods=0"),
        (lambda: TrainingConfig(max_steps=0), "training.max_steps=0; expected at least 1"),
        (lambda: TrainingConfig(batch_size=0), "training.batch_size=0"),
        (lambda: TrainingConfig(save_steps=0), "training.save_steps=0"),
        (lambda: TrainingConfig(eval_batches=0), "training.eval_batches=0; expected at least 1, or null"),
        (lambda: TrainingConfig(learning_rate=0.0), "training.learning_rate=0.0; expected above 0"),
        (lambda: TrainingConfig(min_learning_rate=1.0), "training.min_learning_rate=1.0; expected 0 to 0.0006"),
        (lambda: TrainingConfig(warmup_steps=-1), "training.warmup_steps=-1"),
        (lambda: TrainingConfig(weight_decay=-0.1), "training.weight_decay=-0.1"),
        (lambda: TrainingConfig(max_grad_norm=-1.0), "training.max_grad_norm=-1.0"),
        (lambda: TrainingConfig(betas=(0.9, 1.0)), "training.betas="),
        (lambda: TrainingConfig(seed=-1), "training.seed=-1; expected a whole number from 0 to 4294967295"),
        (lambda: TrainingConfig(seed=2**32), "training.seed=4294967296; expected"),
        (lambda: DataConfig(seed=-1), "data.seed=-1; expected a whole number from 0"),
        (lambda: LabelledDataConfig(seed=-1), "data.seed=-1; expected a whole number from 0"),
        (lambda: DataConfig(validation_fraction=NAN), "data.validation_fraction=nan; expected a finite number"),
        (lambda: LabelledDataConfig(stopping_fraction=NAN), "data.stopping_fraction=nan; expected a finite number"),
        (lambda: TrainingConfig(learning_rate=math.inf), "training.learning_rate=inf; expected a finite number"),
        (lambda: TrainingConfig(max_grad_norm=math.inf), "training.max_grad_norm=inf; expected a finite number"),
        (lambda: TrainingConfig(betas=(NAN, 0.9)), r"training.betas=\(nan, 0.9\); expected a finite number"),
        (lambda: ImageConfig(mean=[0.5, NAN, 0.5]), r"images.mean=\[0.5, nan, 0.5\]; expected a finite number"),
        (lambda: ImageConfig(sd=[0.0]), r"images.sd=\[0.0\]; expected numbers above 0"),
        (lambda: ImageConfig(sd=[]), r"images.sd=\[\]; expected numbers above 0"),
        (lambda: ImageConfig(channels=2), "images.channels=2; expected 1 or 3, or null"),
        (lambda: ImageConfig(shift=-1), "images.shift=-1; expected 0 pixels or more"),
    ],
)
def test_bad_values_are_refused_in_one_line(make, said):
    with pytest.raises(ValueError, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_configurations_load_neither_torch_nor_transformers():
    heavy = ("torch", "transformers", "accelerate", "datasets", "scipy")
    script = (
        "import sys, topographic.training.config, topographic.training.folder\n"
        "from topographic.training import DataConfig, SpatialConfig\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


def test_other_dataclasses_with_these_fields_will_do():
    @dataclass
    class OnAnything:
        spatial: SpatialConfig = field(default_factory=SpatialConfig)
        smoothness: SmoothnessConfig = field(default_factory=SmoothnessConfig)
        training: TrainingConfig = field(default_factory=TrainingConfig)

    @dataclass
    class WithModel(OnAnything):
        model: str = "small"
        data: DataConfig = field(default_factory=DataConfig)

    assert isinstance(WithModel(), HasTrainingConfigs)
    assert isinstance(WithModel(), HasTextConfigs)
    assert isinstance(OnAnything(), HasTrainingConfigs)
    assert not isinstance(OnAnything(), HasTextConfigs)
    assert plain(WithModel())["model"] == "small"
    assert not isinstance(TrainingConfig(), HasTrainingConfigs)


def test_validation_share_is_right_and_depends_on_the_seed():
    documents = [f"document {number}" for number in range(5000)]

    def held_out(config):
        return [config.is_validation(document) for document in documents]

    held, other = held_out(DataConfig(validation_fraction=0.1)), held_out(DataConfig(validation_fraction=0.1, seed=1))
    assert sum(held) / 5000 == pytest.approx(0.1, abs=4 * (0.09 / 5000) ** 0.5)
    both = sum(a and b for a, b in zip(held, other, strict=True)) / 5000
    assert both == pytest.approx(0.01, abs=4 * (0.01 / 5000) ** 0.5)
    # a document held out at a small fraction is held out at every larger one
    small = held_out(DataConfig(validation_fraction=0.01))
    assert any(small)
    assert all(b for a, b in zip(small, held, strict=True) if a)
    assert not any(held_out(DataConfig(validation_fraction=0.0)))


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert DataConfig().cache() == tmp_path / "topographic"
    assert DataConfig(cache_folder=str(tmp_path / "own")).cache() == tmp_path / "own"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"masked_fraction": 0.0}, r"data\.masked_fraction=0\.0; expected above 0 and below 1"),
        ({"masked_fraction": 1.0}, r"data\.masked_fraction=1\.0"),
        ({"labels": ["good"]}, r"data\.labels=.*two different names or more"),
        ({"labels": ["good", "good"]}, r"data\.labels="),
        ({"objective": "labels", "max_tokens": 10}, r"data\.max_tokens=10 with objective labels"),
    ],
)
def test_what_cannot_be_learnt_from_text_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        DataConfig(**fields)
