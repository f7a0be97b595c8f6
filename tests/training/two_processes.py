"""What every process of `torchrun` does: train under DistributedDataParallel, then sharded (FSDP2), and resume both.

Once only the second process is asked to leave. First they smooth weights, as one process does in killed_runs.py.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import accelerate.state
import torch
from accelerate.utils import DistributedType
from conftest import make_gpt2
from killed_runs import config_in, signal_within_step, train_smooth
from torch.distributed.tensor import DTensor

from topographic.objectives import SpatialCorrelation
from topographic.training import TopographicTrainer, load_tokenizer, train
from topographic.training.callbacks import ProgressBar

DRAWN: list = []


def keep_what_is_drawn() -> None:
    """Note every neighbourhood that training draws."""
    draw = SpatialCorrelation._drawn

    def drawn(self: SpatialCorrelation, site: str, number: object) -> torch.Tensor:
        members = draw(self, site, number)
        DRAWN.append([number.number, site, members.tolist()])
        return members

    SpatialCorrelation._drawn = drawn


def shard_on_the_cpu() -> None:
    """Accelerate shards on accelerators only; gloo can shard as well, which is enough to test what we do with it."""
    create = accelerate.state.AcceleratorState.__init__

    def created(self: object, *args: object, fsdp_plugin: object = None, **words: object) -> None:
        create(self, *args, fsdp_plugin=fsdp_plugin, **words)
        if fsdp_plugin is not None:
            self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin

    accelerate.state.AcceleratorState.__init__ = created


def train_and_digest(folder: Path, name: str, **training: object) -> dict[str, object]:
    """Train; say what this process has in the end."""
    config = config_in(folder)
    config.training = replace(config.training, max_steps=8, **training)
    tokenizer = load_tokenizer(config.data)
    held = []
    finish = TopographicTrainer.save_for_use

    def save_for_use(self: TopographicTrainer, path: Path) -> None:
        held.extend(self.model.parameters())
        finish(self, path)

    TopographicTrainer.save_for_use = save_for_use
    DRAWN.clear()
    train(make_gpt2(tokenizer), tokenizer, config, folder / name)
    TopographicTrainer.save_for_use = finish
    digest = hashlib.sha256()
    for parameter in held:
        whole = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
        digest.update(whole.detach().numpy().tobytes())
    return {"drawn": list(DRAWN), "weights": digest.hexdigest(), "sharded": isinstance(held[0], DTensor)}


def interrupt(folder: Path, name: str) -> None:
    """Put a finished run back to where it stood after step 4."""
    torch.distributed.barrier()
    if os.environ["RANK"] == "0":
        shutil.copytree(folder / name, folder / f"{name}-whole")
        shutil.rmtree(folder / name / "model")
        shutil.rmtree(folder / name / "checkpoints" / "checkpoint-8")
        record = json.loads((folder / name / "run.json").read_text())
        (folder / name / "run.json").write_text(json.dumps(record | {"status": "running"}))
    torch.distributed.barrier()


def asked_to_leave(folder: Path) -> dict[str, object]:
    """The second process gets SIGTERM within a step; both leave after the same one, and go on later."""
    substep = ProgressBar.on_substep_end
    if os.environ["RANK"] == "1":
        signal_within_step(4, signal.SIGTERM)
    try:
        train_and_digest(folder, "asked")
        code = None
    except SystemExit as left:
        code = left.code
    ProgressBar.on_substep_end = substep
    torch.distributed.barrier()
    left = sorted(path.name for path in (folder / "asked" / "checkpoints").iterdir())
    torch.distributed.barrier()
    return {"code": code, "left": left, **train_and_digest(folder, "asked")}


if __name__ == "__main__":
    root, rank = Path(sys.argv[1]), os.environ["RANK"]
    train_smooth(root, "smooth")
    keep_what_is_drawn()
    said = {"replicated": train_and_digest(root, "replicated")}
    interrupt(root, "replicated")
    said["replicated again"] = train_and_digest(root, "replicated")
    asked = asked_to_leave(root)
    shard_on_the_cpu()
    said["sharded"] = train_and_digest(root, "sharded", fsdp=True)
    interrupt(root, "sharded")
    said["sharded again"] = train_and_digest(root, "sharded", fsdp=True)
    (root / f"said-{rank}.json").write_text(json.dumps(said))
    (root / f"asked-{rank}.json").write_text(json.dumps(asked))
