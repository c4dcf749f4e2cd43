"""A Gram matrix as a function of a parameter vector, with its reverse-mode derivative, tile by tile.

Differentiating one large program would keep every intermediate of every pair of points; here each
tile is computed, and pulled back, on its own. Tiles below the diagonal are not computed, and since
all tiles have one shape, one compilation serves data of every size, and every later search too.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkit.engines.plan import usable_cores
from ntkit.kernels.base import Kernel
from ntkit.numerics.dtypes import Array, precision

TILE = 128
"""Side of a tile: its float64 arrays of 128 KiB stay in cache, and 256 points make three tiles."""


class DifferentiableGram:
    """`K(p)_ij = k_p(x_i, x_j)` and its pullback `S -> sum_ij S_ij dK_ij/dp`, in float64.

    Args:
        kernel_at: the kernel of a parameter vector, a pure JAX function. Equal ones share a compilation.
    """

    def __init__(self, kernel_at: Callable[[Float[Array, " p"]], Kernel]) -> None:
        self.kernel_at = kernel_at

    def gram(
        self, parameters: Float[np.ndarray, " p"], x: Float[np.ndarray, "n d"]
    ) -> Float[np.ndarray, "n n"]:
        """The symmetric Gram matrix at the parameters."""
        padded, tiles = _padded(x), list(_tiles(len(x)))
        gram = np.empty((len(padded), len(padded)))

        def compute(tile: tuple[slice, slice]) -> None:
            rows, columns = tile
            with precision(np.float64):
                block = np.asarray(
                    _tile(self.kernel_at, *map(jnp.asarray, (parameters, padded[rows], padded[columns])))
                )
            gram[rows, columns] = block
            gram[columns, rows] = block.T

        _in_threads(compute, tiles)
        gram = gram[: len(x), : len(x)]
        # Tiles on the diagonal are symmetric up to rounding only.
        return (gram + gram.T) / 2.0

    def pullback(
        self,
        parameters: Float[np.ndarray, " p"],
        x: Float[np.ndarray, "n d"],
        sensitivity: Float[np.ndarray, "n n"],
    ) -> Float[np.ndarray, " p"]:
        """The derivative in the parameters of `sum_ij S_ij K_ij`, for a symmetric S."""
        padded, tiles = _padded(x), list(_tiles(len(x)))
        # Points that only fill the last tile have no influence.
        weights = np.zeros((len(padded), len(padded)))
        weights[: len(x), : len(x)] = sensitivity

        def compute(tile: tuple[slice, slice]) -> np.ndarray:
            rows, columns = tile
            weight = weights[rows, columns] * (1.0 if rows == columns else 2.0)
            with precision(np.float64):
                arguments = map(jnp.asarray, (parameters, padded[rows], padded[columns], weight))
                return np.asarray(_pullback(self.kernel_at, *arguments))

        return np.sum(_in_threads(compute, tiles), axis=0)


@partial(jax.jit, static_argnums=0)
def _tile(kernel_at, parameters, x1, x2):
    return kernel_at(parameters)(x1, x2)


@partial(jax.jit, static_argnums=0)
def _pullback(kernel_at, parameters, x1, x2, sensitivity):
    return jax.vjp(lambda p: kernel_at(p)(x1, x2), parameters)[1](sensitivity)[0]


def _padded(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "m d"]:
    """The points, the first repeated until the last tile is full."""
    missing = -len(x) % TILE
    return np.concatenate([x, np.repeat(x[:1], missing, axis=0)]).astype(np.float64)


def _tiles(points: int) -> Iterator[tuple[slice, slice]]:
    """The tiles on and above the diagonal."""
    for top in range(0, points, TILE):
        for left in range(top, points, TILE):
            yield slice(top, top + TILE), slice(left, left + TILE)


def _in_threads(compute: Callable, tiles: list[tuple[slice, slice]]) -> list:
    """Run all tiles, the first alone so that it compiles once; the order of results is that of the tiles."""
    first = compute(tiles[0])
    if len(tiles) == 1:
        return [first]
    with ThreadPoolExecutor(usable_cores()) as pool:
        return [first, *pool.map(compute, tiles[1:])]
