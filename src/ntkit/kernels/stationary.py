"""The squared-exponential kernel, kept for comparison with the kernels of networks."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkit.kernels.base import Kernel
from ntkit.numerics.dtypes import Array, as_point_pair, as_points, evaluate
from ntkit.numerics.trees import as_leaf, pytree


@pytree()
@dataclass(frozen=True, eq=False)
class RBF(Kernel):
    """Squared-exponential kernel `variance exp(-sum_i (x_i - x'_i)^2 / (2 length_scale_i^2))`.

    Args:
        length_scale: one positive number, or one per feature, shape (d,).
        variance: the kernel's value at coinciding points, at least 0.
    """

    length_scale: Any = 1.0
    variance: Any = 1.0

    def __post_init__(self) -> None:
        scale = self.length_scale
        if isinstance(scale, list | tuple | np.ndarray):
            scale = np.asarray(scale, dtype=float)
            if not (scale > 0).all():
                raise ValueError(f"RBF needs positive length scales, got {scale}.")
        else:
            scale = as_leaf("RBF", "length_scale", scale)
            if isinstance(scale, float) and scale <= 0:
                raise ValueError(f"RBF needs a positive length_scale, got {scale}.")
        object.__setattr__(self, "length_scale", scale)
        object.__setattr__(self, "variance", as_leaf("RBF", "variance", self.variance, 0.0))

    def __call__(
        self, x1: Float[Array, "n1 d"], x2: Float[Array, "n2 d"] | None = None
    ) -> Float[Array, "n1 n2"]:
        x1, x2 = as_point_pair("RBF", x1, x2)
        points = (x1,) if x2 is None else (x1, x2)
        return evaluate(partial(_gram, self), *points)

    def diag(self, x: Float[Array, "n d"]) -> Float[Array, " n"]:
        x = as_points("RBF", x)
        return evaluate(lambda a: jnp.full(len(a), self.variance, a.dtype), x)


@jax.jit
def _gram(kernel: RBF, x1: jax.Array, x2: jax.Array | None = None) -> jax.Array:
    """One compiled program for each shape, where its operations one by one would be two dozen."""
    scale = jnp.asarray(kernel.length_scale, x1.dtype)
    scale = scale if scale.ndim == 0 else scale[None, :]
    a, b = x1 / scale, (x1 if x2 is None else x2) / scale
    # Subtracting a common point changes no distance and keeps digits for clustered data.
    centre = a[:1]
    a, b = a - centre, b - centre
    norms = jnp.sum(a * a, axis=1)[:, None] + jnp.sum(b * b, axis=1)[None, :]
    distance = jnp.maximum(norms - 2.0 * jnp.matmul(a, b.T, precision="highest"), 0.0)
    if x2 is None:
        distance = jnp.where(jnp.eye(len(a), dtype=bool), 0.0, (distance + distance.T) / 2.0)
    return jnp.asarray(kernel.variance, a.dtype) * jnp.exp(-distance / 2.0)
