"""The class as a vector: no class is zero, every class is trained, controls keep what they should."""

import pytest
import torch

from topographic.diffusion import ClassCondition, matched_random_prototypes, scaled_prototypes, shuffled_prototypes


def prototypes(n: int = 10, width: int = 24) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(3)).relu()


def test_no_class_adds_nothing_and_a_table_says_it_all():
    condition = ClassCondition(4, 8, 16)
    table = condition.as_table()
    assert table.shape == (5, 16)
    assert not table[4].any()
    torch.testing.assert_close(table[:4], condition(torch.arange(4)).detach())


@pytest.mark.parametrize("frozen", [False, True])
def test_every_class_is_trained_or_none(frozen):
    condition = ClassCondition(4, 8, 16, frozen=frozen)
    condition(torch.tensor([0, 1, 2, 3, 4])).sum().backward()
    grad = condition.table.weight.grad
    assert grad is None if frozen else (grad.abs().sum(1) > 0).all()
    assert condition.linear_1.weight.grad.any()


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_prototypes_are_the_same_points_and_none_stays(seed):
    given = prototypes()
    shuffled = shuffled_prototypes(given, seed)
    assert sorted(map(tuple, shuffled.tolist())) == sorted(map(tuple, given.tolist()))
    assert not (shuffled == given).all(1).any()
    with pytest.raises(ValueError, match="at least 2"):
        shuffled_prototypes(given[:1])


def test_scaled_prototypes_are_as_long_as_random_rows_and_point_where_they_did():
    given = 0.1 * prototypes()
    scaled = scaled_prototypes(given)
    assert float(scaled.norm(dim=1).mean()) == pytest.approx(given.shape[1] ** 0.5, rel=1e-5)
    torch.testing.assert_close(torch.cosine_similarity(scaled, given), torch.ones(len(given)))
    rows = torch.nn.Embedding(200, given.shape[1]).weight
    assert float(scaled.norm(dim=1).mean() / rows.norm(dim=1).mean()) == pytest.approx(1, abs=0.1)
    with pytest.raises(ValueError, match="of length 0"):
        scaled_prototypes(torch.zeros(3, 4))


def test_random_prototypes_have_the_norms_and_in_the_mean_the_covariance():
    given = prototypes()
    drawn = torch.stack([matched_random_prototypes(given, seed) for seed in range(400)])
    torch.testing.assert_close(drawn.norm(dim=2), given.norm(dim=1).expand(400, -1), rtol=1e-4, atol=1e-5)
    centred = given - given.mean(0)
    # they lie in the space that the prototypes span about their mean, and nowhere else
    basis = torch.linalg.svd(torch.cat([centred, given.mean(0)[None]]).double())[2][:10]
    outside = drawn.double() - drawn.double() @ basis.T @ basis
    assert outside.abs().max() < 1e-4
    direction = torch.linalg.svd(centred.double())[2][0]
    along = (drawn.double() @ direction).std() / (centred.double() @ direction).std()
    assert 0.7 < along < 1.4
    assert not torch.equal(drawn[0], drawn[1])
