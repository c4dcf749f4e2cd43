"""Graph convolution's neighbourhood sums."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkit.nn.mixing import Mixing
from ntkit.nn.windows import check_spatial
from ntkit.numerics.dtypes import is_concrete
from ntkit.numerics.trees import pytree


@pytree()
@dataclass(frozen=True, eq=False)
class Aggregate(Mixing):
    """Weighted sums over neighbours in one graph, `y_p = sum_q A_pq x_q`, for inputs of shape (n, nodes, c).

    With `Dense` before or after it is a graph convolution (Kipf and Welling 2017); both kernels become
    `A K A^T` (Du et al. 2019, "Graph neural tangent kernel", section 3).

    Args:
        adjacency: the matrix A, shape (nodes, nodes), normalised as one likes.

    Raises:
        ValueError: for a matrix that is not square, not finite, or does not fit the inputs.
    """

    adjacency: Any

    def __post_init__(self) -> None:
        adjacency = self.adjacency
        if not isinstance(adjacency, jax.Array):
            adjacency = np.asarray(adjacency, dtype=float)
        if adjacency.ndim != 2 or adjacency.shape[0] != adjacency.shape[1] or adjacency.size == 0:
            raise ValueError(
                f"Aggregate needs an adjacency of shape (nodes, nodes), got shape {adjacency.shape}."
            )
        if is_concrete(adjacency) and not np.isfinite(np.asarray(adjacency)).all():
            raise ValueError("Aggregate needs a finite adjacency, got a NaN or an infinity.")
        object.__setattr__(self, "adjacency", adjacency)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        (nodes,) = check_spatial("Aggregate", input_shape, 1)
        if nodes != self.adjacency.shape[0]:
            raise ValueError(
                f"Aggregate needs inputs of {self.adjacency.shape[0]} nodes, as many as its adjacency has, got {nodes}."
            )
        return input_shape

    def _mix(self, array: jax.Array, axes: Sequence[int]) -> jax.Array:
        adjacency = jnp.asarray(self.adjacency, array.dtype)
        moved = jnp.moveaxis(array, axes[0], -1)
        return jnp.moveaxis(jnp.matmul(moved, adjacency.T, precision="highest"), -1, axes[0])
