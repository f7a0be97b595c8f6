"""One of two processes that train into the same folder at the same time."""

import sys
import time
from dataclasses import replace
from pathlib import Path

from conftest import make_gpt2
from killed_runs import config_in

from topographic.training import load_tokenizer, train

if __name__ == "__main__":
    folder, name, other = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    config = config_in(folder)
    config = replace(config, training=replace(config.training, max_steps=40, learning_rate=float(sys.argv[4])))
    tokenizer = load_tokenizer(config.data)
    model = make_gpt2(tokenizer)
    (folder / f"{name}.ready").touch()
    while not (folder / f"{other}.ready").exists():
        time.sleep(0.01)
    try:
        train(model, tokenizer, config, folder / "run")
    except OSError as error:
        sys.exit(f"{type(error).__name__}: {error}")
