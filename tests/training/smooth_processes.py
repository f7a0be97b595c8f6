"""Train with smooth weights in as many processes as there are; a step sees four batches in any case."""

import os
import sys
from dataclasses import replace
from pathlib import Path

from conftest import make_gpt2
from killed_runs import config_in

from topographic.objectives import SmoothnessConfig
from topographic.training import load_tokenizer, train

if __name__ == "__main__":
    folder, name = Path(sys.argv[1]), sys.argv[2]
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
