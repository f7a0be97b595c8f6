import pytest

from topographic.models import fresh_model, preset
from topographic.training.text.tokenizer import train_tokenizer


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """A tokenizer of a few words."""
    return train_tokenizer(["the cat saw a dog and the dog saw a cat near the old house " * 20], 300)


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory, tiny_tokenizer):
    """A folder with a model for each of a few revisions, named as those on the hub are."""
    folder = tmp_path_factory.mktemp("models") / "pythia-0"
    for seed, name in enumerate(("step0", "step2", "step8")):
        model = fresh_model(preset("tiny", vocab_size=384, n_positions=128, n_layer=2), seed=seed + 1)
        model.save_pretrained(folder / name)
        tiny_tokenizer.save_pretrained(folder / name)
    return folder
