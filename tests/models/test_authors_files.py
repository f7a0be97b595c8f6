"""Files of the authors are data: whatever else they ask for is refused before it happens."""

import io
import os
import pickle

import numpy as np
import pytest
import torch

from topographic.models.authors_files import read_checkpoint, read_positions


class Act:
    """Pickles as an instruction to call a function."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class LayerPositions:
    """A record like the authors', pickled under the name of this module."""

    def __init__(self, **fields) -> None:
        vars(self).update(fields)


def write_positions(folder, n_layer=1, **changes):
    folder.mkdir(exist_ok=True)
    for layer in range(n_layer):
        for kind in ("attn", "mlp"):
            fields = {
                "name": f"layer.{layer}.{kind}",
                "coordinates": torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]]),
                "neighborhood_indices": torch.tensor([[1, 0, 1]]),
                "neighborhoods_per_batch": 5,
            }
            (folder / f"layer.{layer}.{kind}.pkl").write_bytes(pickle.dumps(LayerPositions(**{**fields, **changes})))
    return folder


class TestCheckpoint:
    def test_golden_is_read(self, shared):
        stored = read_checkpoint(shared / "golden/topolm_checkpoint_tiny/ckpt.pt")
        assert stored["model_args"]["n_embed"] == 64
        assert stored["model"]["transformer.wte.weight"].shape == (300, 64)

    @pytest.mark.parametrize("place", ["model", "elsewhere"])
    def test_instructions_are_refused_and_not_run(self, tmp_path, place):
        witness = tmp_path / "witness"
        stored = {"model": {}, "model_args": {}, place: {"x": Act(os.system, f"touch {witness}")}}
        torch.save(stored, tmp_path / "evil.pt")
        with pytest.raises(
            ValueError, match=r"evil\.pt asks for posix\.system, which is refused and was not run"
        ) as told:
            read_checkpoint(tmp_path / "evil.pt")
        assert not witness.exists()
        assert "\n" not in str(told.value)
        torch.load(tmp_path / "evil.pt", weights_only=False)
        assert witness.exists(), "the file would have done harm"

    def test_absent_truncated_or_foreign(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*none\.pt; give"):
            read_checkpoint(tmp_path / "none.pt")
        torch.save({"model": {"w": torch.ones(1000)}, "model_args": {}}, tmp_path / "whole.pt")
        (tmp_path / "half.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:900])
        (tmp_path / "empty.pt").write_bytes(b"")
        for name in ("half.pt", "empty.pt"):
            with pytest.raises(ValueError, match=rf"{name} is truncated or not a PyTorch checkpoint"):
                read_checkpoint(tmp_path / name)
        torch.save({"model": {}, "model_args": 3}, tmp_path / "other.pt")
        with pytest.raises(ValueError, match=r"has no 'model_args' \(it holds \['model', 'model_args'\]\)"):
            read_checkpoint(tmp_path / "other.pt")
        torch.save({"step": 3}, tmp_path / "other.pt")
        with pytest.raises(ValueError, match=r"has no 'model' \(it holds \['step'\]\); expected a checkpoint of"):
            read_checkpoint(tmp_path / "other.pt")
        torch.save([1, 2], tmp_path / "list.pt")
        with pytest.raises(ValueError, match=r"has no 'model' \(it holds list\)"):
            read_checkpoint(tmp_path / "list.pt")


class TestPositions:
    def test_what_was_pickled_comes_back(self, tmp_path):
        read = read_positions(write_positions(tmp_path / "p", n_layer=2), 2)
        assert list(read) == [f"transformer.h.{layer}.{kind}_sheet" for layer in (0, 1) for kind in ("attn", "mlp")]
        one = read["transformer.h.1.mlp_sheet"]
        np.testing.assert_array_equal(one.coordinates, [[0, 0], [0, 1], [1, 0]])
        np.testing.assert_array_equal(one.masks, [[True, False, True]])

    def test_views_and_transposed_tensors_are_read_in_their_order(self, tmp_path):
        whole = torch.arange(8.0).reshape(2, 4)
        read = read_positions(write_positions(tmp_path / "p", coordinates=whole.T[1:]), 1)
        np.testing.assert_array_equal(read["transformer.h.0.attn_sheet"].coordinates, [[1, 5], [2, 6], [3, 7]])

    @pytest.mark.parametrize(
        ("make", "asks"),
        [
            (lambda command: Act(os.system, command), r"posix\.system"),
            (lambda command: Act(__import__, command), r"builtins\.__import__"),
            (lambda command: Act(torch.load, command), r"torch\.serialization\.load"),
            (lambda command: Act(getattr, torch.Tensor, "tolist"), r"builtins\.getattr"),
        ],
    )
    def test_instructions_are_refused_and_not_run(self, tmp_path, make, asks):
        witness = tmp_path / "witness"
        folder = write_positions(tmp_path / "p", coordinates=make(f"touch {witness}"))
        with pytest.raises(ValueError, match=rf"layer\.0\.attn\.pkl asks for {asks}, which is refused and was not run"):
            read_positions(folder, 1)
        assert not witness.exists()

    def test_instructions_inside_the_bytes_of_a_tensor(self, tmp_path):
        """A tensor's storage is a pickle of its own, which torch would load without restriction."""
        witness, inner = tmp_path / "witness", io.BytesIO()
        torch.save(Act(os.system, f"touch {witness}"), inner, _use_new_zipfile_serialization=False)
        hidden = Act(torch.storage._load_from_bytes, inner.getvalue())
        folder = write_positions(tmp_path / "p", coordinates=hidden)
        with pytest.raises(ValueError, match="which is refused and was not run") as told:
            read_positions(folder, 1)
        assert "\n" not in str(told.value)
        assert not witness.exists()
        pickle.loads((folder / "layer.0.attn.pkl").read_bytes())
        assert witness.exists(), "the file would have done harm"

    def test_a_tensor_that_reaches_beyond_its_storage(self, tmp_path):
        storage = torch.ones(4).storage()
        long = Act(torch._utils._rebuild_tensor_v2, storage, 0, (3, 2), (2, 1), False, {})
        with pytest.raises(ValueError, match="reaches beyond its numbers"):
            read_positions(write_positions(tmp_path / "p", coordinates=long), 1)

    def test_missing_surplus_broken_and_misfit(self, tmp_path):
        folder = write_positions(tmp_path / "p", n_layer=2)
        with pytest.raises(FileNotFoundError, match=r"lacks layer\.2\.attn\.pkl and 1 more; expected two per block"):
            read_positions(folder, 3)
        with pytest.raises(ValueError, match=r"holds layer\.1\.attn\.pkl, but the model has 1 blocks"):
            read_positions(folder, 1)
        path = folder / "layer.0.attn.pkl"
        for content in (path.read_bytes()[:200], path.read_bytes()[:20], b"", b"no pickle"):
            path.write_bytes(content)
            with pytest.raises(ValueError, match=r"layer\.0\.attn\.pkl is truncated or not a file of positions"):
                read_positions(folder, 2)
        path.write_bytes(pickle.dumps({"coordinates": 1}))
        with pytest.raises(ValueError, match=r"holds no coordinates of shape \(units, 2\) but \[\]"):
            read_positions(folder, 2)
        write_positions(folder, coordinates=torch.ones(3, 3))
        with pytest.raises(ValueError, match=r"holds no coordinates of shape \(units, 2\) but \['coordinates', 'name'"):
            read_positions(folder, 2)
        write_positions(folder, neighborhood_indices=torch.ones(2, 4))
        with pytest.raises(ValueError, match="its neighbourhoods do not fit its 3 units"):
            read_positions(folder, 2)
