"""Two processes that train into the same folder at the same time, forked before anything is computed."""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from conftest import make_gpt2
from killed_runs import config_in

from topographic.training import load_tokenizer, train

RATES = {"a": 0.01, "b": 0.02}


def rival(folder: Path, name: str) -> str:
    """Train as soon as the other can; what speaks against it."""
    config = config_in(folder)
    config = replace(config, training=replace(config.training, max_steps=40, learning_rate=RATES[name]))
    tokenizer = load_tokenizer(config.data)
    model = make_gpt2(tokenizer)
    (folder / f"{name}.ready").touch()
    while not all((folder / f"{one}.ready").exists() for one in RATES):
        time.sleep(0.01)
    try:
        train(model, tokenizer, config, folder / "run")
    except OSError as error:
        return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    root = Path(sys.argv[1])
    processes = {}
    for each in RATES:
        processes[each] = os.fork()
        if not processes[each]:
            (root / f"{each}.said").write_text(rival(root, each))
            os._exit(0)
    codes = {each: os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for each, process in processes.items()}
    (root / "rivals.json").write_text(json.dumps({"processes": processes, "codes": codes}))
