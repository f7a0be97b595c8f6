import pytest
from transformers import AutoTokenizer

from topographic.recording.checksum import weights_checksum
from topographic.sweeps import series as module
from topographic.sweeps.series import Checkpoint, Series, series_of


def test_revisions_in_local_folders_are_a_lazy_series(stand_ins, monkeypatch):
    loaded = []
    load = module.load_model
    monkeypatch.setattr(module, "load_model", lambda source: loaded.append(source) or load(source))
    (one,) = series_of([str(stand_ins)], ["step0", "step2", "step8"], tokens_per_step=100)
    assert (one.name, [point.tokens for point in one.checkpoints]) == ("pythia-0", [0, 200, 800])
    assert [point.name for point in one.checkpoints] == ["step0", "step2", "step8"]
    assert loaded == []
    model, tokenizer = one.checkpoints[1].load()
    assert loaded == [str(stand_ins / "step2")]
    assert len(tokenizer) == len(AutoTokenizer.from_pretrained(stand_ins / "step0"))
    untrained = Checkpoint(one.checkpoints[1].source, None, 3)
    assert weights_checksum(untrained.load()[0]) != weights_checksum(model)
    assert weights_checksum(untrained.load()[0]) == weights_checksum(untrained.load()[0])
    assert untrained.files() != one.checkpoints[1].files() != one.checkpoints[2].files()


def test_revisions_of_a_name_are_on_the_hub():
    (one,) = series_of(["EleutherAI/pythia-70m"], ["step0", "step512"], tokens_per_step=2097152)
    assert [point.source for point in one.checkpoints] == [
        "EleutherAI/pythia-70m@step0",
        "EleutherAI/pythia-70m@step512",
    ]
    assert one.checkpoints[1].tokens == 512 * 2097152
    assert one.checkpoints[1].files() is None


def test_seeds_of_one_series_have_a_common_name():
    points = (Checkpoint("a", 0), Checkpoint("b", 1))
    assert Series("small-2", points).group == Series("small-0", points).group == "small"
    assert Series("pythia-70m", points).group == "pythia-70m"


@pytest.mark.parametrize(
    ("sources", "revisions", "per_step", "message"),
    [
        ([], None, None, "no series given"),
        (["{folder}"], ["step0", "step4"], 10, "has no revision step4; expected a folder of that name"),
        (["{folder}"], ["step0"], 10, "has 1 checkpoint; expected two or more"),
        (
            ["{folder}"],
            ["step8", "step2"],
            10,
            "a checkpoint of 20 tokens after one of 80; expected more and more",
        ),
        (["{folder}"], ["step0", "step2"], None, "tokens_per_step=None with revisions"),
        (["{folder}"], ["step0", "main"], 10, "'main'; expected names that end with a number of steps"),
        (["{folder}", "{folder}"], ["step0", "step2"], 10, "two sources are called pythia-0"),
        (["{folder}"], None, None, r"no checkpoints in time; train it with training\.save_at=log"),
        (["runs/absent"], None, None, "no folder at runs/absent"),
    ],
)
def test_what_is_no_series_is_said_in_one_line(stand_ins, sources, revisions, per_step, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        series_of([one.replace("{folder}", str(stand_ins)) for one in sources], revisions, tokens_per_step=per_step)
