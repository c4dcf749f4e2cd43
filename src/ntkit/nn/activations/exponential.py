"""Exponentials of the pre-activation and of its square."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ntkit.nn.activations.base import Activation
from ntkit.numerics.gaussian_pair import GaussianPair
from ntkit.numerics.trees import as_leaf, pytree


@pytree()
@dataclass(frozen=True, eq=False)
class Exp(Activation):
    """`phi(x) = a exp(b x)`; `C = a^2 exp(b^2 (var1 + var2 + 2 cov) / 2)` (moments of the log-normal)."""

    a: Any = 1.0
    b: Any = 1.0

    def __post_init__(self) -> None:
        for name in ("a", "b"):
            object.__setattr__(self, name, as_leaf("Exp", name, getattr(self, name)))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.a * jnp.exp(self.b * x)

    def mean(self, var: jax.Array) -> jax.Array:
        return self.a * jnp.exp(self.b**2 * var / 2.0)

    def dual(self, pair: GaussianPair) -> jax.Array:
        return self.a**2 * jnp.exp(self.b**2 * pair.sum_of_squares / 2.0)

    def dual_derivative(self, pair: GaussianPair) -> jax.Array:
        return self.b**2 * self.dual(pair)

    def dual_shape(
        self, pair: GaussianPair, dual: jax.Array, var1: jax.Array, var2: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        defect = -jnp.expm1(-(self.b**2) * pair.distance / 2.0)
        return defect, 2.0 - defect


@pytree()
@dataclass(frozen=True, eq=False)
class Gaussian(Activation):
    """`phi(x) = a exp(b x^2)`; `C = a^2 / sqrt(det(1 - 2 b Lambda))`, `Lambda` the pair's covariance matrix.

    For `b > 0` the expectation is infinite from a variance of `1 / (4 b)` on: an infinity, which the
    kernels report as an error.
    """

    a: Any = 1.0
    b: Any = -1.0

    def __post_init__(self) -> None:
        for name in ("a", "b"):
            object.__setattr__(self, name, as_leaf("Gaussian", name, getattr(self, name)))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.a * jnp.exp(self.b * jnp.square(x))

    def mean(self, var: jax.Array) -> jax.Array:
        return self.a / jnp.sqrt(jnp.maximum(1.0 - 2.0 * self.b * var, 0.0))

    def _determinant(self, pair: GaussianPair) -> jax.Array:
        b = self.b
        value: jax.Array = 1.0 - 2.0 * b * (pair.var1 + pair.var2) + 4.0 * b**2 * pair.determinant
        finite = 2.0 * b * jnp.maximum(pair.var1, pair.var2) < 1.0
        return jnp.where(finite & (value > 0), value, 0.0)

    def dual(self, pair: GaussianPair) -> jax.Array:
        return self.a**2 / jnp.sqrt(self._determinant(pair))

    def dual_derivative(self, pair: GaussianPair) -> jax.Array:
        return 4.0 * (self.a * self.b) ** 2 * pair.cov / self._determinant(pair) ** 1.5
