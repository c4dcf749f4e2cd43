"""Test points a block at a time, so that asking at many of them never needs memory for all at once."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from ntkit.numerics.dtypes import is_concrete, is_numpy
from ntkit.numerics.points import number_of_points, points_of

LARGEST_BLOCK = 2**25
"""Entries of a block of test points against training points: 256 MiB in float64."""


def in_blocks(function: Callable[[Any], Any], x: Any, width: int) -> Any:
    """`function(x)`, whose leading axis follows that of `x`, evaluated so that blocks hold `width` columns.

    Traced values go through in one piece: under `jit` the compiler plans the memory.
    """
    rows, count = max(1, LARGEST_BLOCK // width), number_of_points(x)
    if count <= rows or not is_concrete(x):
        return function(x)
    pieces = [function(points_of(x, slice(start, start + rows))) for start in range(0, count, rows)]
    return np.concatenate(pieces) if is_numpy(*pieces) else jnp.concatenate(pieces)
