"""Images: tiles of pairs of images, whose size keeps all pairs of pixels in progress within a memory budget."""

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from ntkit.engines.plan import TILE, usable_cores
from ntkit.nn.base import Layer, through
from ntkit.nn.images import image_state, layout_for, own_image_state
from ntkit.nn.law import Law
from ntkit.nn.serial import Serial

BUDGET = 1 << 29
"""Bytes that the tiles in progress on all threads may take."""

TEMPORARIES = 16
"""Arrays over all pairs of a tile's pixels that XLA keeps while it computes one."""


class Images(NamedTuple):
    """Concrete images and what a plan needs of them.

    Attributes:
        x: the images, shape (n, *S, c).
        var: the mean square of each, shape (n,).
        present: which pixels exist, shape (n, *S); None for all.
    """

    x: np.ndarray
    var: np.ndarray
    present: np.ndarray | None

    @classmethod
    def of(cls, x: np.ndarray, present: np.ndarray | None) -> "Images":
        return cls(x, np.square(x).mean(axis=tuple(range(1, x.ndim))), present)

    def rows(self, block: slice) -> "Images":
        """A contiguous part of the images."""
        return Images(self.x[block], self.var[block], None if self.present is None else self.present[block])

    def followed_by(self, others: "Images") -> "Images":
        """These images and others of their kind."""
        present = None
        if self.present is not None and others.present is not None:
            present = np.concatenate([self.present, others.present])
        return Images.of(np.concatenate([self.x, others.x]), present)

    def enlarged(self, count: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Images with black ones behind them, so that tiles at the edge share the program of all others."""
        return enlarged(self.x, count), None if self.present is None else enlarged(self.present, count)


def check_network(network: Layer, shape: tuple[int, ...]) -> None:
    """Raise when inputs of this shape do not fit the network, or do not leave it as vectors, or have no limit in it.

    Raises:
        ValueError: naming the layer, or the remedy.
    """
    network.law(Law.inputs())
    after = network.output_shape(shape)
    if len(after) != 2:
        raise ValueError(
            f"A kernel needs a network whose outputs are vectors, got outputs of shape {after}. End it with Flatten() "
            "or GlobalAvgPool(), and a Dense layer."
        )


def bytes_per_pair(network: Layer, shape: tuple[int, ...], itemsize: int) -> int:
    """Memory that a pair of images takes while its kernel is computed, approximately."""
    pixels = most_pixels(network, shape)
    return TEMPORARIES * itemsize * (pixels**2 if layout_for(network) == "pairs" else pixels)


def most_pixels(network: Layer, shape: tuple[int, ...]) -> int:
    """The largest number of pixels before or after any layer of a chain."""
    most = int(np.prod(shape[1:-1]))
    for layer in network.layers if isinstance(network, Serial) else (network,):
        shape = layer.output_shape(shape)
        most = max(most, int(np.prod(shape[1:-1])))
    return most


def tile_side(network: Layer, shape: tuple[int, ...], itemsize: int, most: int) -> int:
    """Images along a side of a tile: as many as the budget allows, at most `most`."""
    pairs = BUDGET // (usable_cores() * bytes_per_pair(network, shape, itemsize))
    return max(1, min(TILE, most, int(pairs**0.5)))


@partial(jax.jit, static_argnames="ntk")
def tile(network: Layer, x1: jax.Array, x2: jax.Array, present1: Any, present2: Any, *, ntk: bool) -> tuple:
    """Both kernels of a block of pairs of images."""
    state = through(network, image_state(network, x1, x2, ntk, present1, present2))
    return state.nngp, state.ntk


@partial(jax.jit, static_argnames="ntk")
def _own(network: Layer, x: jax.Array, present: Any, *, ntk: bool) -> tuple:
    state = through(network, own_image_state(network, x, ntk, present))
    return state.nngp, state.ntk


def diagonals(network: Layer, images: Images, ntk: bool) -> list[np.ndarray | None]:
    """Both kernels of every image with itself, shape (n,), a block of images at a time."""
    x = images.x
    side = max(1, min(TILE, len(x), BUDGET // bytes_per_pair(network, x.shape, x.itemsize)))
    blocks = (images.rows(slice(start, start + side)).enlarged(side) for start in range(0, len(x), side))
    parts = [_own(network, *block, ntk=ntk) for block in blocks]
    return [
        None if gram[0] is None else np.concatenate([np.asarray(part) for part in gram])[: len(x)]
        for gram in zip(*parts, strict=True)
    ]


def enlarged(x: np.ndarray, count: int) -> np.ndarray:
    """The array with zeros behind it, to so many entries."""
    return np.pad(x, ((0, count - len(x)), *((0, 0),) * (x.ndim - 1)))
