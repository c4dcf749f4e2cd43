"""A given matrix along one spatial axis: filters, transforms, subsampling, any contraction that is not learned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkit.nn.mixing import Mixing
from ntkit.numerics.dtypes import is_concrete
from ntkit.numerics.trees import pytree


@pytree("axis")
@dataclass(frozen=True, eq=False)
class LinearMap(Mixing):
    """`y_p = sum_q M_pq x_q` along one spatial axis of inputs (n, *S, c): both kernels become `M K M^T` along it.

    The matrix is fixed, not learned, and may change the number of pixels: a cosine transform, a blur, every other
    pixel. Along several axes put one after another.

    Args:
        matrix: M, shape (pixels after, pixels before).
        axis: which axis of the inputs, 1 for the first spatial one.

    Raises:
        ValueError: for a matrix that is not finite or does not fit the inputs, or an axis that is not spatial.

    >>> import numpy as np
    >>> from ntkit import NNGP, nn
    >>> NNGP(nn.Serial(nn.Conv(8, (1,)), nn.LinearMap([[0.5, 0.5]]), nn.Flatten()))(np.ones((1, 2, 1)))
    array([[1.]])
    """

    matrix: Any
    axis: int = 1

    def __post_init__(self) -> None:
        matrix = self.matrix if isinstance(self.matrix, jax.Array) else np.asarray(self.matrix, dtype=float)
        if matrix.ndim != 2 or matrix.size == 0:
            raise ValueError(
                f"LinearMap needs a matrix (pixels after, pixels before), got shape {matrix.shape}."
            )
        if is_concrete(matrix) and not np.isfinite(np.asarray(matrix)).all():
            raise ValueError("LinearMap needs a finite matrix, got a NaN or an infinity.")
        if not isinstance(self.axis, int) or not 1 <= self.axis <= 3:
            raise ValueError(f"LinearMap needs a spatial axis, 1 to 3, got axis {self.axis!r}.")
        object.__setattr__(self, "matrix", matrix)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.axis > len(input_shape) - 2:
            raise ValueError(
                f"LinearMap needs inputs with a spatial axis {self.axis}, got shape {tuple(input_shape)}. Give another "
                "axis, and leave out Flatten and pooling before it."
            )
        after, before = self.matrix.shape
        if input_shape[self.axis] != before:
            raise ValueError(
                f"LinearMap needs {before} pixels along axis {self.axis}, as many as its matrix has columns, got "
                f"{input_shape[self.axis]}."
            )
        return (*input_shape[: self.axis], after, *input_shape[self.axis + 1 :])

    def presence(self, present: Any) -> Any:
        """A pixel exists if one does that it is made of."""
        if present is None:
            return None
        linked = jnp.asarray(self.matrix != 0, int)
        return jnp.moveaxis(
            jnp.matmul(jnp.moveaxis(present.astype(int), self.axis, -1), linked.T) > 0, -1, self.axis
        )

    def _mix(self, array: jax.Array, axes: Sequence[int]) -> jax.Array:
        place = axes[self.axis - 1]
        moved = jnp.moveaxis(array, place, -1)
        matrix = jnp.asarray(self.matrix, array.dtype)
        return jnp.moveaxis(jnp.matmul(moved, matrix.T, precision="highest"), -1, place)
