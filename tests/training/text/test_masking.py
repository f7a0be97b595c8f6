import pytest
import torch
from transformers import DataCollatorForLanguageModeling

from topographic.training import load_tokenizer
from topographic.training.config import DataConfig
from topographic.training.text.masking import MaskTokens, Placed


@pytest.fixture
def reader(tmp_path):
    """A tokenizer as a configuration of masked tokens gives it."""
    (tmp_path / "text.txt").write_text("\n\n".join(f"a cat saw {k} dogs by the river" for k in range(200)))
    data = DataConfig(
        text=str(tmp_path / "text.txt"), vocab_size=300, objective="masked_tokens", cache_folder=str(tmp_path / "cache")
    )
    return load_tokenizer(data)


@pytest.fixture
def windows(reader):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 250, (400, 64), generator=generator)
    ids[:, ::16] = reader.eos_token_id
    return [{"input_ids": one} for one in ids]


def batch(masks, windows, every_epoch=True, places=range(400)):
    placed = Placed(windows, every_epoch=every_epoch)
    return masks([placed[place] for place in places])


def test_tokens_are_masked_80_10_10_and_never_the_end_of_a_text(reader, windows):
    masked = batch(MaskTokens(reader, 0.15, seed=0), windows)
    ids, labels = masked["input_ids"], masked["labels"]
    original = torch.stack([one["input_ids"] for one in windows])
    chosen, words = labels != -100, original != reader.eos_token_id
    assert not chosen[~words].any()
    assert torch.equal(labels[chosen], original[chosen])
    assert torch.equal(ids[~chosen], original[~chosen])
    n_words, n_chosen = int(words.sum()), int(chosen.sum())
    # four standard errors of each share
    assert n_chosen / n_words == pytest.approx(0.15, abs=4 * (0.15 * 0.85 / n_words) ** 0.5)
    mask, same = ids[chosen] == reader.mask_token_id, ids[chosen] == original[chosen]
    for found, share in ((mask, 0.8), (same, 0.1), (~mask & ~same, 0.1)):
        # one random token in 300 is the token itself, and one the mask
        assert float(found.double().mean()) == pytest.approx(
            share, abs=4 * (share * (1 - share) / n_chosen) ** 0.5 + 1e-3
        )


def test_seed_epoch_and_window_decide_and_nothing_else_does(reader, windows):
    masks = MaskTokens(reader, 0.15, seed=3)
    before = torch.get_rng_state()
    first = batch(masks, windows, places=range(8))
    assert torch.equal(before, torch.get_rng_state())
    alone = batch(MaskTokens(reader, 0.15, seed=3), windows, places=[5])
    for key in ("input_ids", "labels"):
        assert torch.equal(alone[key][0], first[key][5])
    masks.epoch = 1
    second = batch(masks, windows, places=range(8))
    assert not torch.equal(first["labels"], second["labels"])
    assert not torch.equal(batch(MaskTokens(reader, 0.15, seed=4), windows, places=range(8))["labels"], first["labels"])
    held_out = [batch(masks, windows, every_epoch=False, places=range(8))["labels"] for masks.epoch in (0, 7)]
    assert torch.equal(*held_out)


def test_windows_themselves_are_left_as_they_are(reader, windows):
    kept = [one["input_ids"].clone() for one in windows]
    batch(MaskTokens(reader, 0.5, seed=0), windows)
    assert all(torch.equal(one["input_ids"], other) for one, other in zip(windows, kept, strict=True))


def test_what_is_drawn_is_what_transformers_draws(reader, windows):
    """Its collator, with the same generator: the shares and their order are its own."""
    masks = MaskTokens(reader, 0.15, seed=0)
    own = batch(masks, windows, places=[2])
    theirs = DataCollatorForLanguageModeling(reader, mlm_probability=0.15)
    theirs.generator = masks._drawing.generator
    theirs.generator.manual_seed(masks._drawing.generator.initial_seed())
    ids, labels = theirs.torch_mask_tokens(windows[2]["input_ids"][None].clone())
    assert torch.equal(own["input_ids"], ids)
    assert torch.equal(own["labels"], labels)
