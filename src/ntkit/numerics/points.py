"""Sets of points: an array, or a pytree of arrays with one first axis, an entry of which is a point."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from ntkit.numerics.dtypes import Array


def number_of_points(x: Any) -> int:
    """The length of the first axis of an array, or of every array of a pytree."""
    return len(jax.tree_util.tree_leaves(x)[0])


def points_of(x: Any, chosen: slice | Int[np.ndarray, " chosen"]) -> Any:
    """Some of the points, by a slice or by their numbers."""
    return jax.tree_util.tree_map(lambda leaf: leaf[chosen], x)


def point_shape(x: Any) -> Any:
    """The shape of a single point; for a pytree, of each of its arrays."""
    return jax.tree_util.tree_map(lambda leaf: leaf.shape[1:], x)


def is_floating(x: Any) -> bool:
    """Whether the points are a floating array, the library and dtype of which answers have."""
    return isinstance(x, jax.Array | np.ndarray) and jnp.issubdtype(x.dtype, jnp.floating)


def template(x: Any, computed: Array) -> Array:
    """The array whose library and dtype an answer at the points `x` has: `x`, where it is a floating array.

    Tokens and pytrees do not say: then it is that of what was `computed` from them, a Gram matrix.
    """
    return x if is_floating(x) else computed
