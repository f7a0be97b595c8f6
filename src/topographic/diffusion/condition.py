"""The class as a vector that is added to a U-Net's time embedding."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

__all__ = [
    "PROTOTYPES_AS",
    "ClassCondition",
    "given_prototypes",
    "matched_random_prototypes",
    "scaled_prototypes",
    "shuffled_prototypes",
]


class ClassCondition(nn.Module):
    """``c = W_2 silu(W_1 m_k)``, and zero for no class, whose number is the number of classes.

    Parameters
    ----------
    n_classes : int
        Classes; every one of them is trained (the published table blocks the gradient of the first).
    width : int
        Numbers of a prototype.
    out : int
        Width of the U-Net's time embedding.
    frozen : bool
        Whether the table of prototypes keeps its values; the two layers are trained in any case.
    """

    def __init__(self, n_classes: int, width: int, out: int, *, frozen: bool = False) -> None:
        super().__init__()
        self.n_classes = n_classes
        self.table = nn.Embedding(n_classes, width)
        self.table.weight.requires_grad_(not frozen)
        self.linear_1 = nn.Linear(width, out)
        self.act = nn.SiLU()
        self.linear_2 = nn.Linear(out, out)

    def forward(self, labels: Int64[Tensor, " batch"]) -> Float[Tensor, "batch out"]:
        """One vector per label."""
        is_class = labels < self.n_classes
        rows = self.table(torch.where(is_class, labels, 0))
        return self.linear_2(self.act(self.linear_1(rows))) * is_class[:, None]

    def as_table(self) -> Float[Tensor, "rows out"]:
        """What every class adds, and in the last row no class: all that sampling needs to know."""
        device = self.table.weight.device
        with torch.no_grad():
            return self(torch.arange(self.n_classes + 1, device=device))


def given_prototypes(prototypes: Float[Tensor, "classes width"], seed: int = 0) -> Float[Tensor, "classes width"]:
    """As they are."""
    return prototypes.clone()


def shuffled_prototypes(prototypes: Float[Tensor, "classes width"], seed: int = 0) -> Float[Tensor, "classes width"]:
    """Every class with the prototype of another: the same geometry without its meaning."""
    n_classes = len(prototypes)
    if n_classes < 2:
        raise ValueError("prototypes of 1 class cannot be shuffled over classes; give at least 2")
    order = torch.randperm(n_classes, generator=torch.Generator().manual_seed(seed))
    return prototypes[order[(torch.argsort(order) + 1) % n_classes]]  # along one random cycle: none stays


def matched_random_prototypes(
    prototypes: Float[Tensor, "classes width"], seed: int = 0
) -> Float[Tensor, "classes width"]:
    """Gaussian vectors with the prototypes' mean and covariance, each scaled to the norm of a prototype."""
    generator = torch.Generator().manual_seed(seed)
    mean = prototypes.mean(0)
    centred = (prototypes - mean).double()
    weights = torch.randn(len(prototypes), len(prototypes), generator=generator, dtype=torch.float64)
    # sums of the centred prototypes with Gaussian weights have their covariance, whatever its rank
    drawn = mean.double() + weights @ centred / max(len(prototypes) - 1, 1) ** 0.5
    norms = prototypes.double().norm(dim=1, keepdim=True) / drawn.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return (drawn * norms).to(prototypes.dtype)


def scaled_prototypes(prototypes: Float[Tensor, "classes width"]) -> Float[Tensor, "classes width"]:
    """Prototypes as long, in the mean, as rows of a random table: ``sqrt(width)``.

    A classifier's are shorter, and then say the class less loudly than a random table does, whatever they mean.
    """
    length = prototypes.norm(dim=1).mean()
    if not length > 0:
        raise ValueError("prototypes of length 0 cannot be made longer; train the classifier that they are of")
    return prototypes * (prototypes.shape[1] ** 0.5 / length)


PROTOTYPES_AS = {
    "given": given_prototypes,
    "shuffled": shuffled_prototypes,
    "random": matched_random_prototypes,
}
