import pytest
import torch

from topographic.training.means import RunningMeans


def parts(**values):
    return {name.replace("__", "/"): torch.tensor(value) for name, value in values.items()}


def test_means_since_the_last_time():
    means = RunningMeans()
    assert means.take() == {}
    means.add(parts(loss=1.0, spatial__a=4.0))
    means.add(parts(loss=2.0, spatial__a=8.0))
    assert means.check() == {"loss": 1.5, "spatial/a": 6.0}
    assert means.take() == {"loss": 1.5, "spatial/a": 6.0}
    means.add(parts(loss=5.0))  # names may change between two log lines
    assert means.take() == {"loss": 5.0}


def test_mean_over_processes():
    here, there = RunningMeans(), RunningMeans()
    for value in (1.0, 3.0):
        here.add(parts(loss=value))
        there.add(parts(loss=value + 10))
    other = torch.stack([there._sums / there.count, there._first_bad])[None]
    assert here.take(lambda mine: torch.cat([mine, other])) == {"loss": 7.0}


def test_nothing_is_read_from_the_device_before_it_is_asked_for():
    with torch.device("meta"):  # a tensor there has no value: reading one raises
        means = RunningMeans()
        value = torch.zeros(())
    for step in range(3):
        means.add({"loss": value, "spatial/a": value}, step)
    assert means.count == 3
    with pytest.raises(Exception, match=r"meta"):
        means.take()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_went_wrong_first_is_named(bad):
    means = RunningMeans()
    good = dict.fromkeys(["loss", "task_loss", "spatial__h0", "spatial__h1", "spatial__h2", "spatial_loss"], 1.0)
    means.add(parts(**good), step=4)
    means.add(parts(**(good | dict.fromkeys(["loss", "task_loss", "spatial__h1", "spatial__h2"], bad))), step=5)
    means.add(parts(**dict.fromkeys(good, bad)), step=6)  # by now everything is broken
    with pytest.raises(FloatingPointError, match=r"activations at site 'h1' were NaN or infinite at step 6; expected"):
        means.check()
    with pytest.raises(FloatingPointError, match=r"lower training.learning_rate") as caught:
        means.take()
    assert "\n" not in str(caught.value)


def test_a_loss_is_named_where_no_site_is_to_blame():
    means = RunningMeans()
    means.add(parts(task_loss=float("nan")), step=0)
    with pytest.raises(FloatingPointError, match=r"^task_loss were NaN|^task_loss was NaN"):
        means.take()


def test_a_broken_process_elsewhere_is_noticed():
    here, there = RunningMeans(), RunningMeans()
    here.add(parts(loss=1.0, spatial__h0=1.0), step=3)
    there.add(parts(loss=1.0, spatial__h0=float("nan")), step=3)
    other = torch.stack([there._sums, there._first_bad])[None]
    with pytest.raises(FloatingPointError, match=r"site 'h0' .* step 4"):
        here.take(lambda mine: torch.cat([mine, other]))


def test_state_comes_back():
    whole, first, second = RunningMeans(), RunningMeans(), RunningMeans()
    values = [parts(loss=value, other=-value) for value in (0.1, 0.2, 0.7)]
    for value in values:
        whole.add(value)
    first.add(values[0])
    second.restore(*first.state(), torch.device("cpu"))
    for value in values[1:]:
        second.add(value)
    assert second.take() == whole.take()
