"""Converted checkpoints against the authors' numbers, and against a decoder written out from their description."""

import json
import pickle

import numpy as np
import pytest
import torch
from torch.nn import functional

from topographic.models import TopoLMForCausalLM
from topographic.models.authors_files import read_positions
from topographic.models.convert import convert_checkpoint
from topographic.recording import tap
from topographic.sheets import local_neighborhoods, permuted_grid
from topographic.storage import sha256_of_file

SETTINGS = {
    "n_layer": 2,
    "n_head": 4,
    "n_embed": 16,
    "block_size": 12,
    "bias": False,
    "vocab_size": 30,
    "dropout": 0.0,
    "alpha": 2.5,
    "position_dir": "positions",
    "accum": "mean",
    "activation_decay": 0.0,
    "head_loss": False,
    "attn_proj": False,
    "with_resid": False,
}
TOKENS = torch.randint(0, 30, (2, 9), generator=torch.Generator().manual_seed(5))


class LayerPositions:
    """A record like the authors'."""

    def __init__(self, **fields) -> None:
        vars(self).update(fields)


def author_weights(settings, generator):
    """Random weights under the authors' names."""
    width, bias = settings["n_embed"], settings["bias"]
    shapes = {"transformer.wte": (settings["vocab_size"], width), "transformer.wpe": (settings["block_size"], width)}
    for layer in range(settings["n_layer"]):
        block = f"transformer.h.{layer}"
        shapes |= {f"{block}.ln_1": (width,), f"{block}.ln_2": (width,), f"{block}.attn.c_attn": (3 * width, width)}
        shapes |= {f"{block}.mlp.c_fc": (4 * width, width), f"{block}.mlp.c_proj": (width, 4 * width)}
        if not settings["head_loss"]:
            shapes[f"{block}.attn.c_proj"] = (width, width)
        if settings["attn_proj"]:
            shapes[f"{block}.attn_proj"] = (width, width)
    shapes["transformer.ln_f"] = (width,)
    weights = {}
    for name, shape in shapes.items():
        weights[f"{name}.weight"] = torch.randn(shape, generator=generator) * 0.4
        if bias and name not in ("transformer.wte", "transformer.wpe"):
            weights[f"{name}.bias"] = torch.randn(shape[0], generator=generator)
    weights["lm_head.weight"] = weights["transformer.wte.weight"]
    return weights


def author_forward(weights, settings, tokens):
    """The authors' decoder, written out: logits and what lies on every sheet."""

    def linear(x, name):
        return functional.linear(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))

    def norm(x, name):
        return functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights.get(f"{name}.bias"), 1e-5)

    heads, width, length = settings["n_head"], settings["n_embed"], tokens.shape[1]
    x = weights["transformer.wte.weight"][tokens] + weights["transformer.wpe.weight"][:length]
    causal = torch.ones(length, length).tril().bool()
    sheets = {}
    for layer in range(settings["n_layer"]):
        block = f"transformer.h.{layer}"
        qkv = linear(norm(x, f"{block}.ln_1"), f"{block}.attn.c_attn")
        query, key, value = (
            part.reshape(*tokens.shape, heads, width // heads).transpose(1, 2) for part in qkv.chunk(3, -1)
        )
        scores = query @ key.transpose(-1, -2) / (width // heads) ** 0.5
        attended = scores.masked_fill(~causal, -torch.inf).softmax(-1) @ value  # (batch, heads, tokens, units per head)
        if settings["head_loss"]:
            picture = torch.zeros(*tokens.shape, width)
            side, grid = int((width // heads) ** 0.5), int(heads**0.5)
            for head in range(heads):
                for unit in range(width // heads):
                    row = (head // grid) * side + unit // side
                    column = (head % grid) * side + unit % side
                    picture[..., row * side * grid + column] = attended[:, head, :, unit]
            branch = picture
        else:
            branch = linear(attended.transpose(1, 2).flatten(2), f"{block}.attn.c_proj")
        stream = x + (linear(branch, f"{block}.attn_proj") if settings["attn_proj"] else branch)
        mlp = linear(functional.gelu(linear(norm(stream, f"{block}.ln_2"), f"{block}.mlp.c_fc")), f"{block}.mlp.c_proj")
        x = stream + mlp
        post = settings["with_resid"]
        sheets[f"{block}.attn_sheet"], sheets[f"{block}.mlp_sheet"] = (stream, x) if post else (branch, mlp)
    return norm(x, "transformer.ln_f") @ weights["transformer.wte.weight"].T, sheets


@pytest.fixture
def authors(tmp_path):
    """Write a checkpoint and positions as the authors do; returns both paths and the weights."""

    def write(coordinates=None, masks=None, prefix="", extra=None, **changes):
        settings = {**SETTINGS, **changes}
        settings = {name: value for name, value in settings.items() if value is not None}
        known = {**SETTINGS, **settings}
        weights = author_weights(known, torch.Generator().manual_seed(0))
        stored = {prefix + name: tensor for name, tensor in {**weights, **(extra or {})}.items() if tensor is not None}
        checkpoint = {"model": stored, "optimizer": {"state": {}}, "model_args": settings, "iter_num": 500}
        torch.save({**checkpoint, "best_val_loss": torch.tensor(3.5), "config": {}}, tmp_path / "ckpt-1.pt")
        folder = tmp_path / "positions"
        folder.mkdir()
        for layer in range(known["n_layer"]):
            for kind in ("attn", "mlp"):
                name = f"layer.{layer}.{kind}"
                places = permuted_grid(known["n_embed"], name).positions_mm if coordinates is None else coordinates
                record = LayerPositions(name=name, coordinates=places.float(), neighborhood_indices=masks)
                (folder / f"{name}.pkl").write_bytes(pickle.dumps(record))
        return tmp_path / "ckpt-1.pt", folder, weights, known

    return write


def run(model, tokens):
    sites = list(model.sheets())
    with torch.no_grad(), tap(model, sites) as heard:
        logits = model(tokens).logits
    return logits, {site: heard[site] for site in sites}


# golden values are float32: in float64 the same weights give logits 3.7e-6 away from them
ROUNDING = 5e-6


def test_golden_checkpoint(shared, tmp_path, recwarn):
    folder = shared / "golden" / "topolm_checkpoint_tiny"
    conversion = convert_checkpoint(folder / "ckpt.pt", folder / "positions")
    assert not [warning for warning in recwarn if warning.category is UserWarning]
    conversion.save(tmp_path / "model")
    model = TopoLMForCausalLM.from_pretrained(tmp_path / "model")
    golden = np.load(folder / "expected.npz")
    logits, heard = run(model, torch.from_numpy(golden["input_ids"]))
    np.testing.assert_allclose(logits.numpy(), golden["logits"], rtol=0, atol=ROUNDING)
    loss = functional.cross_entropy(logits.double().flatten(0, 1), torch.from_numpy(golden["targets"]).flatten())
    assert loss.item() == pytest.approx(float(golden["cross_entropy"]), abs=1e-6)
    stored = read_positions(folder / "positions", 2)
    for site, sheet in model.sheets().items():
        _, _, layer, kind = site.removesuffix("_sheet").split(".")
        np.testing.assert_allclose(heard[site].numpy(), golden[f"layer_{layer}_{kind}"], rtol=0, atol=ROUNDING)
        np.testing.assert_array_equal(sheet.positions_mm.numpy(), stored[site].coordinates)
        assert (sheet.is_bijective, sheet.extent_mm) == (True, (8.0, 8.0))
        ours = {tuple(row) for row in local_neighborhoods(sheet, 3).tolist()}
        assert ours == {tuple(np.flatnonzero(mask)) for mask in stored[site].masks}


def test_the_note_says_where_it_comes_from(shared, tmp_path):
    folder = shared / "golden" / "topolm_checkpoint_tiny"
    convert_checkpoint(folder / "ckpt.pt", folder / "positions").save(tmp_path / "model")
    note = json.loads((tmp_path / "model/conversion.json").read_text())
    assert note["sha256"]["ckpt.pt"] == sha256_of_file(folder / "ckpt.pt")
    assert set(note["sha256"]) == {"ckpt.pt", *(f"layer.{i}.{kind}.pkl" for i in (0, 1) for kind in ("attn", "mlp"))}
    assert note["model_args"]["alpha"] == 2.5
    assert note["layout_warning"] == ""
    assert {"best_val_loss", "config", "neighborhood masks"} <= set(note["dropped"])
    facts = note["layout"]["transformer.h.0.attn_sheet"]
    assert (facts["neighborhoods"], facts["neighborhoods_that_are_blocks"]) == (16, 16)
    assert facts["units_per_neighborhood"] == [25]
    # mean distance of two different cells of a 5 x 5 square
    cells = np.stack(np.meshgrid(range(5), range(5)), -1).reshape(-1, 2)
    between = np.linalg.norm(cells[:, None] - cells[None], axis=-1)
    assert facts["mean_distance_within_neighborhood"] == pytest.approx(between.sum() / (25 * 24))
    with pytest.raises(FileExistsError, match="already holds a model"):
        convert_checkpoint(folder / "ckpt.pt", folder / "positions").save(tmp_path / "model")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bias": True},
        {"with_resid": True},
        {"attn_proj": True},
        {"head_loss": True},
        {"head_loss": True, "bias": True, "attn_proj": True, "with_resid": True},
        {"prefix": "_orig_mod."},
        {"extra": {"lm_head.weight": None}},
    ],
    ids=str,
)
def test_every_variant_equals_the_authors_decoder(authors, changes):
    checkpoint, folder, weights, settings = authors(**changes)
    model = convert_checkpoint(checkpoint, folder).model
    expected_logits, expected = author_forward(weights, settings, TOKENS)
    logits, heard = run(model, TOKENS)
    torch.testing.assert_close(logits, expected_logits, rtol=1e-4, atol=1e-4)
    assert list(heard) == list(expected)
    for site, activations in heard.items():
        torch.testing.assert_close(activations, expected[site], rtol=1e-4, atol=1e-4)


def test_the_random_state_of_the_session_is_left_alone(authors):
    checkpoint, folder, *_ = authors()
    before = torch.get_rng_state()
    convert_checkpoint(checkpoint, folder)
    assert torch.equal(before, torch.get_rng_state())


def test_a_layout_that_is_no_bijection_comes_with_a_warning(authors, tmp_path):
    """Units 0, 1 and 2 share a place; one mask of four is a block."""
    places = permuted_grid(16, "x").positions_mm.clone()
    places[:3] = places[0]
    near = (places[:, None] - places[None]).abs().amax(-1) < 2
    masks = torch.zeros(4, 16, dtype=torch.int64)
    centre = int(((places == torch.tensor([1.0, 1.0])).all(1)).nonzero()[0])
    masks[0] = near[centre]
    masks[1:, :9] = 1
    with pytest.warns(UserWarning, match="on 4 of 4 sheets units share places") as caught:
        conversion = convert_checkpoint(*authors(coordinates=places, masks=masks)[:2])
    (told,) = [str(warning.message) for warning in caught]
    n_places = len(places.unique(dim=0))
    assert n_places == 14
    assert f"({n_places} places for 16 units, 3 coincident pairs): the layout is no bijection" in told
    assert "scattered sets, not blocks" in told
    conversion.save(tmp_path / "model")
    assert json.loads((tmp_path / "model/conversion.json").read_text())["layout_warning"] == told
    sheet = TopoLMForCausalLM.from_pretrained(tmp_path / "model").sheets()["transformer.h.1.mlp_sheet"]
    assert not sheet.is_bijective
    assert torch.equal(sheet.positions_mm, places)


def test_scattered_masks_on_a_bijection_are_told(authors):
    masks = torch.zeros(3, 16, dtype=torch.int64)
    masks[:, [0, 3, 5, 6, 9, 10, 12, 14, 15]] = 1
    with pytest.warns(UserWarning, match=r"stored neighbourhoods are scattered sets, not blocks \(0 of 3 are"):
        convert_checkpoint(*authors(masks=masks)[:2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra": {"transformer.h.1.mlp.c_fc.weight": None}}, r"h\.1\.mlp\.c_fc\.weight is missing; the two must"),
        ({"extra": {"score.weight": torch.ones(2, 16)}}, r"score\.weight has no place in this model"),
        (
            {"extra": {"transformer.wpe.weight": torch.ones(9, 16), "transformer.ln_f.weight": torch.ones(3)}},
            r"transformer\.wpe\.weight has shape \(9, 16\) in place of \(12, 16\), and 1 more",
        ),
        ({"extra": {"lm_head.weight": torch.ones(30, 16)}}, r"lm_head\.weight differs from .*expected tied weights"),
        ({"extra": {"transformer.ln_f.weight": 3.0}}, r"model holds 'transformer\.ln_f\.weight', which is no tensor"),
        ({"prefix": "_orig_mod.", "extra": {}, "n_head": None}, r"model_args lacks \['n_head'\]"),
        ({"with_resid": None}, r"does not say where its sheets lie \(no with_resid\); give sheet_point="),
        ({"head_loss": True, "n_head": 2}, "head_loss with 2 heads of 16 units; expected squares of both"),
        ({"coordinates": torch.zeros(9, 2)}, r"site 'transformer\.h\.0\.attn_sheet': 9 places for 16 units"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(authors, changes, message):
    with pytest.raises(ValueError, match=message) as told:
        convert_checkpoint(*authors(**changes)[:2])
    assert "\n" not in str(told.value)


def test_weights_stored_twice(authors):
    with pytest.raises(ValueError, match=r"holds weights twice, with and without '_orig_mod\.'"):
        convert_checkpoint(*authors(extra={"_orig_mod.transformer.ln_f.weight": torch.ones(16)})[:2])


def test_where_the_sheets_lie(authors):
    checkpoint, folder, *_ = authors(with_resid=None)
    for point in ("pre_residual", "post_residual"):
        assert convert_checkpoint(checkpoint, folder, sheet_point=point).model.config.sheet_point == point


def test_a_checkpoint_is_not_contradicted(authors):
    with pytest.raises(ValueError, match=r"says pre_residual \(with_resid=False\); sheet_point='post_residual'"):
        convert_checkpoint(*authors()[:2], sheet_point="post_residual")


def test_unknown_settings_and_fine_tuning_are_told(authors):
    with pytest.warns(UserWarning, match=r"unknown settings \['swirl'\] are ignored"):
        convert_checkpoint(*authors(swirl=1)[:2])


def test_fine_tuning_is_told(authors):
    with pytest.warns(UserWarning, match="was fine-tuned; the published fine-tuning attends in both directions"):
        convert_checkpoint(*authors(finetune=True)[:2])
