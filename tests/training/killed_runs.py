"""Train once without interruption, once killed twice with SIGKILL (within a step, and while a checkpoint is saved), and
once asked to leave twice, within a step, with SIGINT and with SIGTERM. And once with smooth weights, to its end.

Every run is a process of its own, forked before anything is computed; only the imports are shared.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from conftest import make_gpt2

from topographic.objectives import SmoothnessConfig, SpatialConfig
from topographic.training import DataConfig, RunConfig, TrainingConfig, checkpoints, load_tokenizer, train, trainer
from topographic.training.callbacks import ProgressBar


def config_in(folder: Path) -> RunConfig:
    """Epochs of six steps; log lines, checkpoints and evaluations fall on different ones."""
    data = DataConfig(
        text=str(folder / "corpus.jsonl"),
        vocab_size=300,
        sequence_length=16,
        validation_fraction=0.1,
        cache_folder=str(folder / "cache"),
    )
    spatial = SpatialConfig(
        sites=["transformer.h.*.attn", "transformer.h.*.mlp"], radius=2, n_neighborhoods=2, weight=1.0
    )
    training = TrainingConfig(
        max_steps=14,
        batch_size=3,
        gradient_accumulation_steps=2,
        learning_rate=1e-2,
        warmup_steps=3,
        logging_steps=3,
        eval_steps=6,
        eval_batches=2,
        save_steps=4,
        cpu=True,
    )
    return RunConfig(data, spatial, training=training)


def run(folder: Path, name: str) -> None:
    """One process's work."""
    config = config_in(folder)
    tokenizer = load_tokenizer(config.data)
    # another initialisation each time: a resumed run must not depend on it
    seed = 0 if name == "whole" or not (folder / name).exists() else 99
    train(make_gpt2(tokenizer, dropout=0.2, seed=seed), tokenizer, config, folder / name)


def train_smooth(folder: Path, name: str) -> None:
    """Smooth weights, in as many processes as there are; a step sees four batches in any case."""
    config = config_in(folder)
    passes = 4 // int(os.environ.get("WORLD_SIZE", "1"))
    # at a lower rate: what differs in the last digit must not grow to be seen
    training = replace(config.training, max_steps=6, gradient_accumulation_steps=passes, learning_rate=3e-3)
    smoothness = SmoothnessConfig(
        weight=2.0,
        sites=["transformer.h.*.mlp.c_fc"],
        factor=(2.0, 3.0),
        schedule="linear",
        start_weight=1.0,
        schedule_steps=4,
    )
    config = replace(config, spatial=replace(config.spatial, weight=0.0), smoothness=smoothness, training=training)
    tokenizer = load_tokenizer(config.data)
    train(make_gpt2(tokenizer), tokenizer, config, folder / name)


def signal_within_step(step: int, *signals: int) -> None:
    """Get signals between two passes of a step."""

    def die(self: ProgressBar, args: object, state: object, control: object, **_: object) -> None:
        if state.global_step == step:
            for number in signals:
                os.kill(os.getpid(), number)

    ProgressBar.on_substep_end = die


def kill_while_saving(step: int) -> None:
    """Die when everything but the new name is on the disk."""
    publish = trainer.publish_folder

    def die(staging: Path, path: Path) -> None:
        if path.name == f"checkpoint-{step}":
            os.kill(os.getpid(), signal.SIGKILL)
        publish(staging, path)

    trainer.publish_folder = die


def in_a_process(
    folder: Path, name: str, prepare: Callable[[], None] = lambda: None, work: Callable[[Path, str], None] = run
) -> dict[str, object]:
    """How it ended and which checkpoints it left."""
    child = os.fork()
    if not child:
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        try:
            prepare()
            work(folder, name)
            status = 0
        except KeyboardInterrupt:
            status = 130
        except SystemExit as left:
            status = left.code
        if [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != before:
            status = 99
        os._exit(status)
    _, status = os.waitpid(child, 0)
    left = sorted(path.name for path in (folder / name / "checkpoints").iterdir())
    last = checkpoints.last_checkpoint(folder / name / "checkpoints")
    said = json.loads((folder / name / "run.json").read_text())["status"]
    return {"code": os.waitstatus_to_exitcode(status), "left": left, "last": last and last.name, "said": said}


if __name__ == "__main__":
    root = Path(sys.argv[1])
    ended = {
        "whole": in_a_process(root, "whole"),
        "first": in_a_process(root, "killed", lambda: signal_within_step(6, signal.SIGKILL)),
        "second": in_a_process(root, "killed", lambda: kill_while_saving(12)),
        "third": in_a_process(root, "killed"),
        "ctrl-c": in_a_process(root, "asked", lambda: signal_within_step(5, signal.SIGINT)),
        "twice": in_a_process(root, "asked", lambda: signal_within_step(8, signal.SIGINT, signal.SIGINT)),
        "sigterm": in_a_process(root, "asked", lambda: signal_within_step(10, signal.SIGTERM, signal.SIGTERM)),
        "last": in_a_process(root, "asked"),
        "smooth": in_a_process(root, "smooth", work=train_smooth),
    }
    (root / "ended.json").write_text(json.dumps(ended))
