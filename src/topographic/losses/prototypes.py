"""Classes as points: cross-entropy of squared distances to learned prototypes."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

__all__ = ["prototype_loss", "squared_distances"]


def squared_distances(
    features: Float[Tensor, "batch width"], prototypes: Float[Tensor, "classes others"]
) -> Float[Tensor, "batch classes"]:
    """``||f||^2 + ||m||^2 - 2 f m``; rounding never makes one negative."""
    products = features @ prototypes.T
    sums = features.square().sum(1, keepdim=True) + prototypes.square().sum(1)
    return (sums - 2 * products).clamp_min(0)


def prototype_loss(
    features: Float[Tensor, "batch width"],
    prototypes: Float[Tensor, "classes others"],
    labels: Int64[Tensor, " batch"],
    *,
    scale: float = 2.0,
    pull: float = 0.0,
) -> tuple[Float[Tensor, ""], Float[Tensor, "batch classes"]]:
    r"""Distance-based cross-entropy, and what pulls features to the prototype of their class.

    .. math:: \ell_{bk} = -s \lVert f_b - m_k \rVert^2, \qquad
              L = \tfrac1B \sum_b (p \lVert f_b - m_{y_b} \rVert^2 - \log \mathrm{softmax}(\ell_b)_{y_b})

    Parameters
    ----------
    features : Tensor, shape (batch, width)
        What a network makes of its inputs.
    prototypes : Tensor, shape (classes, width)
        One point per class, however many classes.
    labels : Tensor of int64, shape (batch,)
        Classes from 0.
    scale : float
        ``s``, by which distances become logits.
    pull : float
        ``p``, the weight of the pull; 0 leaves it out.

    Returns
    -------
    loss : Tensor, scalar
        Mean over the batch, in float32 or better.
    logits : Tensor, shape (batch, classes)
        ``l``, largest for the nearest prototype.

    Raises
    ------
    ValueError
        If widths differ, a label names no prototype, the scale is not above 0, or the pull is negative.

    References
    ----------
    Yang, H.-M. et al. (2018). Robust classification with convolutional prototype learning. CVPR.
    Baykal, G. et al. (2023). ProtoDiffusion. ACML; its published code fixes ten classes, which here are as many as
    there are prototypes.

    Examples
    --------
    >>> features, prototypes = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    >>> loss, logits = prototype_loss(features, prototypes, torch.tensor([0]))
    >>> logits.tolist(), round(loss.item(), 4)
    ([[-0.0, -2.0]], 0.1269)
    """
    if features.shape[1] != prototypes.shape[1]:
        raise ValueError(
            f"features of {features.shape[1]} numbers and prototypes of {prototypes.shape[1]}; give both the same width"
        )
    if scale <= 0 or pull < 0:
        raise ValueError(f"scale={scale:g}, pull={pull:g}; expected a scale above 0 and a pull of 0 or more")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(prototypes):
        raise ValueError(
            f"labels from {int(labels.min())} to {int(labels.max())} and {len(prototypes)} prototypes; number the "
            f"classes from 0 to {len(prototypes) - 1}"
        )
    at_least_single = torch.promote_types(features.dtype, torch.float32)
    distances = squared_distances(features.to(at_least_single), prototypes.to(at_least_single))
    logits = -scale * distances
    loss = functional.cross_entropy(logits, labels)
    if pull > 0:
        loss = loss + pull * distances.gather(1, labels[:, None]).mean()
    return loss, logits
