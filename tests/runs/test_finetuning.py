import pytest

from topographic.objectives.config import NeighborWeightsConfig, SmoothnessConfig, SpatialConfig, WiringConfig
from topographic.runs.finetuning import fine_tune_on, kept_losses
from topographic.runs.finetuning_choices import ClassifierConfig, constant_rate
from topographic.training.config import RunConfig, save_config
from topographic.training.finetuning.labelled import LabelledDataConfig

SMOOTH = SmoothnessConfig(weight=2.0, sites=["a.*"], schedule="cosine", start_weight=5.0)


@pytest.fixture
def run(tmp_path):
    """A run folder that says with which losses it was trained."""
    (tmp_path / "model").mkdir()
    save_config(tmp_path / "config.yaml", RunConfig(spatial=SpatialConfig(weight=0.5, radius=3), smoothness=SMOOTH))
    return tmp_path


def test_losses_are_those_of_the_run_times_the_scale(run):
    spatial, smoothness = kept_losses(run, 0.1)
    assert spatial == SpatialConfig(weight=0.05, radius=3)
    assert (smoothness.weight, smoothness.start_weight, smoothness.schedule) == (0.2, 0.0, "constant")
    assert smoothness.sites == ["a.*"]


def test_losses_that_are_given_stand_in_for_those_of_the_run(run):
    spatial, smoothness = kept_losses(run, 0.5, SpatialConfig(weight=2.0), SMOOTH)
    assert spatial == SpatialConfig(weight=1.0)
    assert (smoothness.weight, smoothness.start_weight, smoothness.schedule) == (1.0, 2.5, "cosine")


def test_losses_that_fine_tuning_does_not_know_are_not_dropped_without_a_word(tmp_path):
    (tmp_path / "model").mkdir()
    trained_with = {"neighbor_weights": NeighborWeightsConfig(1.0, sites=["a"]), "wiring": WiringConfig(2.0, ["a"])}
    save_config(tmp_path / "config.yaml", RunConfig(spatial=SpatialConfig(weight=0.0), **trained_with))
    with pytest.raises(ValueError, match=r"neighbor_weights and wiring, which .* cannot go on with; set scale=0"):
        kept_losses(tmp_path, 0.1)
    assert [one.weight for one in kept_losses(tmp_path, 0.0)] == [0, 0]


def test_where_nobody_says_alpha_it_is_asked_for(tmp_path):
    assert [one.weight for one in kept_losses(tmp_path, 0.0)] == [0, 0]
    with pytest.raises(
        ValueError, match=r"no run folder that says with which alpha it was trained; set spatial\.weight"
    ):
        kept_losses(tmp_path, 0.1)


@pytest.mark.parametrize(
    ("words", "message"),
    [({"dropout": 1.0}, r"model\.dropout=1\.0; expected a probability"), ({"seed": -1}, r"model\.seed=-1; expected a")],
)
def test_a_classifier_that_is_none(words, message):
    with pytest.raises(ValueError, match=message):
        ClassifierConfig(**words)


def test_a_folder_without_a_model_is_one_line(tmp_path):
    for split in ("train", "validation"):
        (tmp_path / f"{split}.tsv").write_text("a dog\t0\na cat\t1\n")
    data = LabelledDataConfig(train=f"{tmp_path}/train.tsv", validation=f"{tmp_path}/validation.tsv")
    told = {"classifier": ClassifierConfig(), "data": data, "training": constant_rate()}
    with pytest.raises(ValueError, match="no model with a tokenizer at") as raised:
        fine_tune_on("sst2", str(tmp_path / "x"), kept_losses(tmp_path, 0.0), tmp_path / "out", **told)
    assert "\n" not in str(raised.value)
