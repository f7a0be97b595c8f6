"""What a signal does; whole runs that are asked to leave stand in test_run.py."""

import os
import signal
import threading

import pytest
import torch
from transformers import TrainerControl, TrainerState

from topographic.training.interruption import Interruption

CPU = torch.device("cpu")


class Arguments:
    device = CPU


def step(interruption):
    control = TrainerControl()
    interruption.on_step_end(Arguments(), TrainerState(), control)
    return control.should_save, control.should_training_stop


@pytest.fixture(autouse=True)
def handlers():
    """Every test leaves them as they were."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    yield
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_without_a_signal_nothing_happens():
    interruption = Interruption()
    with interruption.heard(CPU):
        assert step(interruption) == (False, False)


@pytest.mark.parametrize(
    ("number", "error", "status"), [(signal.SIGINT, KeyboardInterrupt, None), (signal.SIGTERM, SystemExit, 143)]
)
def test_a_signal_asks_for_a_checkpoint_and_the_end(number, error, status, capfd):
    interruption = Interruption()
    reached = []
    with pytest.raises(error) as left, interruption.heard(CPU):
        os.kill(os.getpid(), number)
        reached.append(step(interruption))
        os.kill(os.getpid(), signal.SIGTERM)  # a batch system repeats itself
        reached.append("end")
    assert reached == [(True, True), "end"]
    assert getattr(left.value, "code", None) == status
    assert ("Ctrl-C again leaves at once" in capfd.readouterr().err) is (number == signal.SIGINT)


def test_a_second_ctrl_c_leaves_at_once(monkeypatch):
    interruption = Interruption()
    with pytest.raises(KeyboardInterrupt), interruption.heard(CPU):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("went on")
    monkeypatch.setenv("RANK", "0")  # torchrun passes on the Ctrl-C that the terminal has sent to all already
    interruption, reached = Interruption(), []
    with pytest.raises(KeyboardInterrupt), interruption.heard(CPU):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        reached.append("end")
    assert reached == ["end"]


def test_an_error_in_between_is_not_hidden():
    with pytest.raises(ValueError, match="as it was"), Interruption().heard(CPU):
        signal.raise_signal(signal.SIGTERM)
        raise ValueError("as it was")


def test_other_threads_hear_nothing():
    seen = []

    def work():
        with Interruption().heard(CPU):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGINT)]
