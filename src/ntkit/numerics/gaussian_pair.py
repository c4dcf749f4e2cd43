"""Two centred, correlated Gaussian variables: what the dual of an activation is a function of."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ntkit.numerics import safe


class GaussianPair(NamedTuple):
    """`(u, v) ~ N(0, [[var1, cov], [cov, var2]])`, for arrays of pairs that broadcast together.

    `defect` is `1 - cov / sqrt(var1 var2)`, carried beside `cov` because it keeps its relative
    accuracy where the correlation is nearly 1. It is 0 exactly for a variable paired with itself,
    and 1 where a variance vanishes.
    """

    cov: jax.Array
    var1: jax.Array
    var2: jax.Array
    defect: jax.Array

    @classmethod
    def of(cls, cov: jax.Array, var1: jax.Array, var2: jax.Array) -> "GaussianPair":
        """The pair with these (co)variances; its defect has the absolute accuracy of `cov`."""
        scale = safe.safe_sqrt(var1) * safe.safe_sqrt(var2)
        defect = safe.safe_divide(scale - cov, scale, 1.0)
        return cls(cov, var1, var2, jnp.clip(defect, 0.0, 2.0))

    @classmethod
    def same(cls, var: jax.Array) -> "GaussianPair":
        """A variable of variance `var` paired with itself."""
        return cls(var, var, var, jnp.zeros_like(var))

    @property
    def scale(self) -> jax.Array:
        """`sqrt(var1 var2)`; the roots are taken first, so that no product overflows."""
        return safe.safe_sqrt(self.var1) * safe.safe_sqrt(self.var2)

    @property
    def correlation(self) -> jax.Array:
        """`rho`, in [-1, 1] exactly."""
        return 1.0 - self.defect

    @property
    def determinant(self) -> jax.Array:
        """`var1 var2 - cov^2 >= 0`, without cancellation."""
        return self.scale * self.scale * self.defect * (2.0 - self.defect)

    @property
    def distance(self) -> jax.Array:
        """`E[(u - v)^2] = var1 + var2 - 2 cov >= 0`, without cancellation."""
        gap = safe.safe_sqrt(self.var1) - safe.safe_sqrt(self.var2)
        return gap * gap + 2.0 * self.scale * self.defect

    @property
    def sum_of_squares(self) -> jax.Array:
        """`E[(u + v)^2] = var1 + var2 + 2 cov >= 0`, 0 exactly for `v = -u`."""
        gap = safe.safe_sqrt(self.var1) - safe.safe_sqrt(self.var2)
        return gap * gap + 2.0 * self.scale * (2.0 - self.defect)

    @property
    def coincide(self) -> jax.Array:
        """Where `u = v`: no defect and variances equal to rounding."""
        tolerance = 16.0 * jnp.finfo(self.defect.dtype).eps
        equal = jnp.abs(self.var1 - self.var2) <= tolerance * jnp.maximum(self.var1, self.var2)
        return (self.defect == 0) & equal
