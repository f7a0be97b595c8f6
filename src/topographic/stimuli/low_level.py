"""Low-level properties of images: brought to one frame, matched in mean and contrast, scrambled, measured."""

import numpy as np
from jaxtyping import Float, UInt8

__all__ = ["gray", "matched_contrast", "phase_scrambled", "radial_power", "resized"]

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_LEVELS = 255
_MAX_ROUNDS = 500

Pixels = UInt8[np.ndarray, "images height width channels"]


def gray(pixels: Pixels) -> UInt8[np.ndarray, "images height width 1"]:
    """Luma of images, ``0.299 R + 0.587 G + 0.114 B``; gray ones are left as they are.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (images, height, width, channels)
        1 or 3 channels.

    Returns
    -------
    ndarray of uint8, shape (images, height, width, 1)
        Rounded luma.
    """
    if pixels.shape[3] == 1:
        return pixels
    return np.rint(pixels @ np.asarray(_LUMA))[..., None].astype(np.uint8)


def resized(pixels: Pixels, height: int, width: int) -> UInt8[np.ndarray, "images new_height new_width channels"]:
    """Images of another size, by linear interpolation that takes in every pixel when it shrinks.

    ``out = A_rows in A_columns^T`` with ``A[i, j]`` a triangle over the distance of pixel centres, as wide as the
    shrinking factor or, when enlarging, as one pixel.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (images, height, width, channels)
        The images.
    height, width : int
        Pixels of the new images.

    Returns
    -------
    ndarray of uint8, shape (images, height, width, channels)
        The new images.

    Raises
    ------
    ValueError
        If a side is shorter than one pixel.
    """
    if height < 1 or width < 1:
        raise ValueError(f"images of {height} x {width} pixels asked for; expected at least 1 x 1")
    rows, columns = _triangles(pixels.shape[1], height), _triangles(pixels.shape[2], width)
    tall = np.einsum("oh,nhwc->nowc", rows, pixels, optimize=True)
    return np.rint(np.einsum("pw,nowc->nopc", columns, tall, optimize=True)).clip(0, _LEVELS).astype(np.uint8)


def matched_contrast(pixels: Pixels, mean: float = 96.0, sd: float = 32.0) -> Pixels:
    """Every image brought to the same mean and the same standard deviation over its pixels.

    ``y = clip(a x + b)`` with ``a > 0`` and ``b`` chosen for each image so that they hold after the clipping.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (images, height, width, channels)
        The images.
    mean, sd : float
        Gray levels from 0 to 255. A sparse image, such as a thin digit, reaches a high contrast only at a low mean.

    Returns
    -------
    ndarray of uint8, shape (images, height, width, channels)
        The matched images; mean and sd hold to half a gray level, because levels are whole numbers.

    Raises
    ------
    ValueError
        If an image has one gray level only, or cannot have this mean and sd within 256 levels.
    """
    flat = pixels.reshape(len(pixels), -1).astype(np.float64)
    spread = flat.std(axis=1, keepdims=True)
    if not spread.all():
        raise ValueError(
            f"image {int(np.flatnonzero(spread == 0)[0])} has one gray level only; contrast needs two: leave it out"
        )
    standard = (flat - flat.mean(axis=1, keepdims=True)) / spread
    gain, offset = np.full_like(spread, sd), np.full_like(spread, mean)
    for _ in range(_MAX_ROUNDS):
        seen = np.clip(gain * standard + offset, 0, _LEVELS)
        means, sds = seen.mean(axis=1, keepdims=True), seen.std(axis=1, keepdims=True)
        if np.abs(means - mean).max() < 1e-3 and np.abs(sds - sd).max() < 1e-3:
            break
        gain *= sd / np.maximum(sds, 1e-6)
        offset += mean - means
    seen = np.rint(seen)
    off = np.maximum(np.abs(seen.mean(axis=1) - mean), np.abs(seen.std(axis=1) - sd))
    if off.max() > 0.5:
        raise ValueError(
            f"image {int(off.argmax())} cannot have mean {mean:g} and sd {sd:g} within 256 gray levels; "
            "ask for a lower sd, or a mean nearer to the middle of what it shows"
        )
    return seen.astype(np.uint8).reshape(pixels.shape)


def phase_scrambled(pixels: Pixels, seed: int = 0) -> Float[np.ndarray, "images height width channels"]:
    """Images with their amplitude spectra and random phases: all contrast of every scale, and no shape.

    ``y = F^-1( |F x| exp(i phi) )`` with ``phi`` the phases of white noise, the same for all channels of an image.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (images, height, width, channels)
        The images.
    seed : int
        Decides the phases, different ones for every image.

    Returns
    -------
    ndarray of float64, shape (images, height, width, channels)
        Scrambled images of the same mean and sd, not rounded and not clipped.
    """
    draw = np.random.default_rng(seed)
    noise = draw.standard_normal((*pixels.shape[:3], 1))
    spectrum, phases = np.fft.fft2(pixels, axes=(1, 2)), np.exp(1j * np.angle(np.fft.fft2(noise, axes=(1, 2))))
    # the phase of the mean is 0 or pi and must not turn the picture into its negative
    phases[:, 0, 0] = 1
    return np.fft.ifft2(np.abs(spectrum) * phases, axes=(1, 2)).real


def radial_power(pixels: Pixels) -> Float[np.ndarray, "images bands"]:
    """Power of every spatial frequency, whatever its direction.

    ``p(k) = sum of |F x|^2 / N^2 over k - 1/2 <= |frequency| < k + 1/2``, in cycles per image, of the luma.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (images, side, side, channels)
        Square images.

    Returns
    -------
    ndarray of float64, shape (images, bands)
        Bands of 1 to side / 2 cycles per image; the corners of the spectrum beyond belong to the last. Their sum
        is the variance of the image.

    Raises
    ------
    ValueError
        If the images are not square.
    """
    side = pixels.shape[1]
    if pixels.shape[2] != side:
        raise ValueError(
            f"images are {side} x {pixels.shape[2]}; cycles per image need square ones: crop or resize them"
        )
    power = np.abs(np.fft.fft2(gray(pixels)[..., 0]) / side**2) ** 2
    frequency = np.fft.fftfreq(side, 1 / side)
    band = np.clip(np.rint(np.hypot(frequency[:, None], frequency)).astype(int), 0, side // 2)
    return np.stack([power[:, band == number].sum(axis=1) for number in range(1, side // 2 + 1)], axis=1)


def _triangles(n_pixels: int, n_new: int) -> Float[np.ndarray, "new old"]:
    scale = n_pixels / n_new
    centres = (np.arange(n_new) + 0.5) * scale - 0.5
    weights = np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(n_pixels)) / max(scale, 1))
    return weights / weights.sum(axis=1, keepdims=True)
