"""Two centred, correlated Gaussian variables: what the dual of an activation is a function of."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ntkit.numerics import safe


class GaussianPair(NamedTuple):
    """`(u, v) ~ N(0, [[var1, cov], [cov, var2]])`, for arrays of pairs that broadcast together.

    `defect` is `1 - rho` and `surplus` `1 + rho`, with `rho = cov / sqrt(var1 var2)`. They are carried
    beside `cov` because they keep their relative accuracy where the correlation is nearly 1 or -1. The
    defect is 0 exactly for a variable paired with itself, the surplus for one paired with its negative;
    both are 1 where a variance vanishes.
    """

    cov: jax.Array
    var1: jax.Array
    var2: jax.Array
    defect: jax.Array
    surplus: jax.Array

    @classmethod
    def of(cls, cov: jax.Array, var1: jax.Array, var2: jax.Array) -> "GaussianPair":
        """The pair with these (co)variances; its defect and surplus have the absolute accuracy of `cov`."""
        scale = safe.safe_sqrt(var1) * safe.safe_sqrt(var2)
        defect, surplus = (safe.safe_divide(scale + sign * cov, scale, 1.0) for sign in (-1.0, 1.0))
        return cls(cov, var1, var2, jnp.clip(defect, 0.0, 2.0), jnp.clip(surplus, 0.0, 2.0))

    @classmethod
    def same(cls, var: jax.Array) -> "GaussianPair":
        """A variable of variance `var` paired with itself."""
        return cls(var, var, var, jnp.zeros_like(var), jnp.full_like(var, 2.0))

    @property
    def mirrored(self) -> "GaussianPair":
        """The pair `(u, -v)`."""
        return GaussianPair(-self.cov, self.var1, self.var2, self.surplus, self.defect)

    @property
    def nearer(self) -> "GaussianPair":
        """Of `(u, v)` and `(u, -v)` the pair of positive correlation."""
        smaller, larger = jnp.minimum(self.defect, self.surplus), jnp.maximum(self.defect, self.surplus)
        return GaussianPair(jnp.abs(self.cov), self.var1, self.var2, smaller, larger)

    @property
    def angle(self) -> jax.Array:
        """`arccos(rho)`, in [0, pi]."""
        return safe.angle(self.defect, self.surplus)

    @property
    def scale(self) -> jax.Array:
        """`sqrt(var1 var2)`; the roots are taken first, so that no product overflows."""
        return safe.safe_sqrt(self.var1) * safe.safe_sqrt(self.var2)

    @property
    def correlation(self) -> jax.Array:
        """`rho`, in [-1, 1] exactly."""
        return jnp.where(self.cov > 0, 1.0 - self.defect, self.surplus - 1.0)

    @property
    def determinant(self) -> jax.Array:
        """`var1 var2 - cov^2 >= 0`, without cancellation."""
        return self.scale * self.scale * self.defect * self.surplus

    @property
    def distance(self) -> jax.Array:
        """`E[(u - v)^2] = var1 + var2 - 2 cov >= 0`, without cancellation."""
        gap = safe.safe_sqrt(self.var1) - safe.safe_sqrt(self.var2)
        return gap * gap + 2.0 * self.scale * self.defect

    @property
    def sum_of_squares(self) -> jax.Array:
        """`E[(u + v)^2] = var1 + var2 + 2 cov >= 0`, 0 exactly for `v = -u`."""
        gap = safe.safe_sqrt(self.var1) - safe.safe_sqrt(self.var2)
        return gap * gap + 2.0 * self.scale * self.surplus

    @property
    def coincide(self) -> jax.Array:
        """Where `u = v`: no defect and variances equal to rounding."""
        tolerance = 16.0 * jnp.finfo(self.defect.dtype).eps
        equal = jnp.abs(self.var1 - self.var2) <= tolerance * jnp.maximum(self.var1, self.var2)
        return (self.defect == 0) & equal
