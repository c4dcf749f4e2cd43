"""Test points a block at a time, so that asking at many of them never needs memory for all at once."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from ntkit.numerics.dtypes import Array, is_concrete, is_numpy

LARGEST_BLOCK = 2**25
"""Entries of a block of test points against training points: 256 MiB in float64."""


def in_blocks(function: Callable[[Any], Any], x: Array, width: int) -> Any:
    """`function(x)`, whose leading axis follows that of `x`, evaluated so that blocks hold `width` columns.

    Traced values go through in one piece: under `jit` the compiler plans the memory.
    """
    rows = max(1, LARGEST_BLOCK // width)
    if len(x) <= rows or not is_concrete(x):
        return function(x)
    pieces = [function(x[start : start + rows]) for start in range(0, len(x), rows)]
    return np.concatenate(pieces) if is_numpy(*pieces) else jnp.concatenate(pieces)
