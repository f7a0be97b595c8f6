import pytest
import torch

from topographic.losses import BLURS, laplacian_pyramid_loss, random_weights_loss


@pytest.mark.parametrize(
    ("shape", "factor", "published"),
    [
        ((48, 64), 2.0, 0.5482),
        ((48, 64), 3.0, 0.8938),
        ((48, 64), 4.0, 0.8773),
        ((48, 64), 8.0, 0.9689),
        ((16, 16), 3.0, 0.9073),
        ((16, 16), 4.0, 0.8769),
        ((16, 32), 3.0, 0.9185),
        ((25, 40), 3.0, 0.9017),
        ((8, 8), 3.0, 0.9461),
    ],
)
def test_it_is_the_table_of_initial_losses(shape, factor, published):
    assert random_weights_loss(shape[0] * shape[1], factor, shape=shape) == pytest.approx(published, abs=5e-5)
    assert random_weights_loss(shape[0] * shape[1], (factor, factor)) == random_weights_loss(
        shape[0] * shape[1], factor
    )


@pytest.mark.parametrize("blur", BLURS)
@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"shape": (10, 12)},
        {"shape": (12, 9), "order": tuple(range(107, 7, -1))},
        {"order": torch.randperm(100, generator=torch.Generator().manual_seed(1))},
    ],
    ids=["full", "padded", "padded and permuted", "permuted"],
)
def test_it_is_the_mean_loss_of_random_weights(generator, blur, layout):
    """Also where units are missing, whatever the blur."""
    losses = torch.stack([
        laplacian_pyramid_loss(torch.randn(100, 2000, generator=generator), (3.0, 2.0), blur=blur, **layout)
        for _ in range(20)
    ])
    expected = random_weights_loss(100, (3.0, 2.0), blur=blur, **layout)
    assert losses.mean().item() == pytest.approx(expected, abs=1e-3 + 4 * losses.std().item() / 20**0.5)


def test_it_refuses_what_the_loss_refuses():
    with pytest.raises(ValueError, match="7 units fill no sheet"):
        random_weights_loss(7)
    with pytest.raises(ValueError, match="is too large for the 4 rows"):
        random_weights_loss(16, 5.0)
