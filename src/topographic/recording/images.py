"""`record_images`: what the units of some sites do when a model sees images."""

import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from topographic.losses.wrappers import unwrapped
from topographic.recording.gathering import gather
from topographic.recording.placement import AnyLayout, chosen_sites, settled_layout
from topographic.recording.preparation import Preparation
from topographic.recording.reading import check_finite, model_provenance
from topographic.recording.responses import Responses
from topographic.sheets import grid
from topographic.sheets.expectations import expect_kind, expect_whole
from topographic.stimuli.image_stimuli import ImageStimuli
from topographic.stimuli.low_level import gray, radial_power

__all__ = ["IMAGE_POOLINGS", "low_level_responses", "record_images"]

Pooling = str | Callable[[Tensor], Tensor]


def record_images(
    model: nn.Module,
    images: ImageStimuli,
    sites: str | Sequence[str] | None = None,
    layout: AnyLayout = None,
    *,
    relayout: bool = False,
    pooling: Pooling = "mean",
    prepare: Callable[[np.ndarray], Any] | None = None,
    batch_size: int = 64,
    progress: bool = True,
) -> dict[str, Responses]:
    """Responses of every site's units to every image, pooled over the image.

    ``a(image, u) = mean or max over places of a_place(u)``. Units are the channels of feature maps
    (batch, channels, height, width), each pooled over its map, and the units of tokens (batch, tokens, units), pooled
    over the patches; what has one vector per image (batch, units) is taken as it is.

    Parameters
    ----------
    model : nn.Module
        Any torch or Hugging Face model that takes ``pixel_values``, or images as its first argument.
    images : ImageStimuli
        What to show.
    sites : str or sequence of str, optional
        Names or wildcards, as `find_sites` takes them: "resnet.encoder.*.convolution" for every convolution. By
        default the sites of the sheets that the model carries.
    layout, relayout
        As in `record`.
    pooling : {"mean", "max", "class"} or callable
        How the places of an image become one response: their mean, their largest, or the class token of a
        transformer. A function of what the site gives that returns (batch, units) does it any other way, for
        example for a model that keeps channels last.
    prepare : callable, optional
        From images (batch, height, width, channels) in uint8 to what the model takes: a `Preparation`, or
        ``lambda pixels: processor(list(pixels), return_tensors="pt")["pixel_values"]`` of an image processor. By
        default the images as they are, gray levels from -1 to 1.
    batch_size : int
        Images per forward pass. The responses do not depend on it.
    progress : bool
        Show a progress bar on stderr.

    Returns
    -------
    dict of str to Responses
        For each site values of shape (stimuli, units) in float32, in the order of the images, without ``n_tokens``:
        every image has as many places.

    Raises
    ------
    ValueError
        If a site's output has another shape, its tokens cannot be told from patches, a response is NaN or infinite,
        or sites or layout as in `record`.
    TypeError
        If the model is not loaded, or the images are no ImageStimuli.

    Notes
    -----
    TopoNets (Deb et al., ICLR 2025) puts the channels of a convolution on a sheet and does not say how a channel's
    map becomes one number; the code released with TDANN (Margalit et al. 2024, Neuron 112) takes the maximum.

    The model runs in evaluation mode without gradients and is given back as it was.
    """
    if isinstance(pooling, str) and pooling not in IMAGE_POOLINGS:
        raise ValueError(f"pooling={pooling!r}; expected one of {sorted(IMAGE_POOLINGS)}, or a function")
    expect_whole("batch_size", batch_size, 1)
    names = chosen_sites(model, sites)
    layout = settled_layout(model, names, layout, relayout=relayout)
    _expect_images(images)
    prepare = Preparation() if prepare is None else prepare

    def respond(batch: _ImageBatch, site: str, heard: Tensor | None) -> Tensor:
        return _pool(site, heard, pooling, len(batch.indices), _n_patches(model, batch.shown))

    def check(batch: _ImageBatch, site: str, response: Tensor) -> None:
        check_finite(site, response, images.stimuli, batch.indices)

    bar = tqdm(total=len(images), desc="record", disable=not progress)
    batches = _batches(model, images, prepare, batch_size)
    values, sheets = gather(model, names, layout, batches, respond, n_rows=len(images), bar=bar, check=check)
    provenance = model_provenance(model) | {
        "pooling": pooling if isinstance(pooling, str) else getattr(pooling, "__name__", repr(pooling)),
        "preparation": prepare.to_json() if isinstance(prepare, Preparation) else getattr(prepare, "__name__", "own"),
    }
    return {site: Responses(site, values[site], sheets[site], images.stimuli, provenance=provenance) for site in names}


def low_level_responses(images: ImageStimuli) -> dict[str, Responses]:
    """What there is in the images before any model: as responses, so that every contrast can be made on them too.

    Parameters
    ----------
    images : ImageStimuli
        Square images.

    Returns
    -------
    dict of str to Responses
        "pixels": the luma of every pixel from 0 to 1, on a sheet of the image's rows and columns.
        "radial_power": log10 of the power of every spatial frequency (`radial_power`), on a line.

    Raises
    ------
    ValueError
        If the images are not square.
    """
    _expect_images(images)
    height, width = images.pixels.shape[1:3]
    power = np.log10(np.maximum(radial_power(images.pixels), 1e-6))
    luma = gray(images.pixels).reshape(len(images), -1) / 255
    sheets = {
        "pixels": grid((height, width), "pixels"),
        "radial_power": grid(power.shape[1], "radial_power", shape=(1, power.shape[1])),
    }
    measured = {"pixels": luma, "radial_power": power}
    return {
        name: Responses(name, values, sheets[name], images.stimuli, provenance={"measure": name})
        for name, values in measured.items()
    }


class _ImageBatch(NamedTuple):
    indices: range
    run: Callable[[], Any]
    shown: Tensor


def _batches(
    model: nn.Module, images: ImageStimuli, prepare: Callable[[np.ndarray], Any], batch_size: int
) -> Iterator[_ImageBatch]:
    takes_pixel_values = "pixel_values" in inspect.signature(unwrapped(model).forward).parameters
    like = next(model.parameters(), torch.zeros(0))
    for start in range(0, len(images), batch_size):
        indices = range(start, min(start + batch_size, len(images)))
        shown = torch.as_tensor(prepare(images.pixels[start : indices.stop]))
        given = shown.to(like)
        run = partial(model, pixel_values=given) if takes_pixel_values else partial(model, given)
        yield _ImageBatch(indices, run, shown)


def _expect_images(images: Any) -> None:
    remedy = "such as category_images(), or ImageStimuli(stimuli, pixels) of your own"
    expect_kind("images", images, ImageStimuli, remedy)


def _n_patches(model: nn.Module, shown: Tensor) -> int | None:
    """How many patches a transformer makes of the images, if its configuration says."""
    patch = getattr(getattr(unwrapped(model), "config", None), "patch_size", None)
    if patch is None or shown.ndim != 4:
        return None
    height, width = (patch, patch) if isinstance(patch, int) else patch
    return (shown.shape[2] // height) * (shown.shape[3] // width)


def _pool(
    site: str, heard: Tensor | None, pooling: Pooling, n_images: int, n_patches: int | None
) -> Float[Tensor, "batch units"]:
    if heard is None:
        raise ValueError(f"site {site!r} was not called while the model saw the images; choose another module")
    shape = tuple(heard.shape)
    if not isinstance(pooling, str):
        pooled = pooling(heard)
        if pooled.ndim != 2 or len(pooled) != n_images:
            raise ValueError(
                f"the pooling made {tuple(pooled.shape)} of {shape} at site {site!r}; expected (batch, units) with a "
                f"batch of {n_images}"
            )
        return pooled.float()
    if heard.ndim not in (2, 3, 4) or len(heard) != n_images:
        raise ValueError(
            f"site {site!r} gives shape {shape}; expected (batch, units), (batch, tokens, units) or (batch, channels, "
            f"height, width) with a batch of {n_images}: choose another module, or pass a function as pooling="
        )
    n_extra = 0
    if heard.ndim == 3:
        if n_patches is None or n_patches > heard.shape[1]:
            raise ValueError(
                f"site {site!r} gives {heard.shape[1]} tokens and the model's configuration "
                + ("says no patch_size" if n_patches is None else f"makes {n_patches} patches of an image")
                + "; say how tokens are pooled, for example pooling=lambda tokens: tokens[:, 1:].mean(1)"
            )
        n_extra = heard.shape[1] - n_patches
    places = heard.float().flatten(2).transpose(1, 2) if heard.ndim == 4 else heard.float()
    if pooling == "class" and (heard.ndim == 4 or (heard.ndim == 3 and not n_extra)):
        raise ValueError(f"site {site!r} gives shape {shape} without a class token; use pooling='mean' or 'max'")
    return IMAGE_POOLINGS[pooling](places[:, None] if heard.ndim == 2 else places, n_extra)


# what a site gives at every place (batch, places, units), and how many places at the start are no patches
IMAGE_POOLINGS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "mean": lambda places, n_extra: places[:, n_extra:].mean(1),
    "max": lambda places, n_extra: places[:, n_extra:].amax(1),
    "class": lambda places, _: places[:, 0],
}
