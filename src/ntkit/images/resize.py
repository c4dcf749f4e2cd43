"""Give images another size: the mean over what a new pixel covers when shrinking, linear interpolation when growing."""

import numpy as np
from jaxtyping import Float


def resized(pixels: np.ndarray, height: int, width: int) -> Float[np.ndarray, "*n height width c"]:
    """Images of shape (..., h, w, c) with another height and width, float64 and in the same units.

    Each axis is a weighted mean with a triangle as wide as two pixels of the coarser grid, so that small detail is
    averaged, not skipped: what picture libraries call bilinear resampling with antialiasing.

    >>> resized(np.array([[[0.0], [2.0], [4.0], [6.0]]]), 1, 2)[0, :, 0].round(3).tolist()
    [1.429, 4.571]
    """
    rows, columns = _weights(pixels.shape[-3], height), _weights(pixels.shape[-2], width)
    return np.einsum("ih,...hwc,jw->...ijc", rows, pixels.astype(np.float64), columns, optimize=True)


def _weights(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """The weight of every old pixel in every new one; rows sum to 1."""
    ratio = old / new
    centres = (np.arange(new) + 0.5) * ratio - 0.5
    distance = np.abs(centres[:, None] - np.arange(old)[None, :]) / max(ratio, 1.0)
    weights = np.maximum(1.0 - distance, 0.0)
    return weights / weights.sum(axis=1, keepdims=True)
