"""Sine and cosine of any frequency and phase, and the random Fourier feature of the RBF kernel."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ntkit.nn.activations.base import Activation
from ntkit.numerics.gaussian_pair import GaussianPair
from ntkit.numerics.trees import as_leaf, pytree


def _odd_part(pair: GaussianPair, b: Any) -> jax.Array:
    """`E[sin(b u) sin(b v)] = exp(-b^2 (var1 + var2) / 2) sinh(b^2 cov)`, without overflow or cancellation."""
    size = b**2 * jnp.abs(pair.cov)
    smaller = jnp.where(pair.cov > 0, pair.distance, pair.sum_of_squares)
    return jnp.sign(pair.cov) * jnp.exp(-(b**2) * smaller / 2.0) * (-jnp.expm1(-2.0 * size)) / 2.0


def _total(pair: GaussianPair, b: Any) -> jax.Array:
    """`E[cos(b (u + v))]`."""
    return jnp.exp(-(b**2) * pair.sum_of_squares / 2.0)


def _dual(pair: GaussianPair, a: Any, b: Any, phase: Any) -> jax.Array:
    """`E[a sin(b u + phase) a sin(b v + phase)]`."""
    return a**2 * (_odd_part(pair, b) + jnp.sin(phase) ** 2 * _total(pair, b))


def _derivative(pair: GaussianPair, a: Any, b: Any, phase: Any) -> jax.Array:
    """`(a b)^2 E[cos(b u + phase) cos(b v + phase)]`: the same expectation a quarter turn on."""
    return (a * b) ** 2 * (_odd_part(pair, b) + jnp.cos(phase) ** 2 * _total(pair, b))


@pytree()
@dataclass(frozen=True, eq=False)
class Sin(Activation):
    """`phi(x) = a sin(b x + c)`; `C = a^2 (E[cos b(u-v)] - cos(2c) E[cos b(u+v)]) / 2`."""

    a: Any = 1.0
    b: Any = 1.0
    c: Any = 0.0

    def __post_init__(self) -> None:
        for name in ("a", "b", "c"):
            object.__setattr__(self, name, as_leaf("Sin", name, getattr(self, name)))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.a * jnp.sin(self.b * x + self.c)

    def mean(self, var: jax.Array) -> jax.Array:
        return self.a * jnp.sin(self.c) * jnp.exp(-(self.b**2) * var / 2.0)

    def dual(self, pair: GaussianPair) -> jax.Array:
        return _dual(pair, self.a, self.b, self.c)

    def dual_derivative(self, pair: GaussianPair) -> jax.Array:
        return _derivative(pair, self.a, self.b, self.c)


@pytree()
@dataclass(frozen=True, eq=False)
class Cos(Activation):
    """`phi(x) = a cos(b x + c)`, the sine a quarter turn ahead."""

    a: Any = 1.0
    b: Any = 1.0
    c: Any = 0.0

    def __post_init__(self) -> None:
        for name in ("a", "b", "c"):
            object.__setattr__(self, name, as_leaf("Cos", name, getattr(self, name)))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.a * jnp.cos(self.b * x + self.c)

    def mean(self, var: jax.Array) -> jax.Array:
        return self.a * jnp.cos(self.c) * jnp.exp(-(self.b**2) * var / 2.0)

    def dual(self, pair: GaussianPair) -> jax.Array:
        return _dual(pair, self.a, self.b, self.c + jnp.pi / 2.0)

    def dual_derivative(self, pair: GaussianPair) -> jax.Array:
        return _derivative(pair, self.a, self.b, self.c + jnp.pi / 2.0)


@pytree()
@dataclass(frozen=True, eq=False)
class Rbf(Activation):
    """Random Fourier feature `phi(x) = sqrt(2) sin(sqrt(2 gamma) x + pi/4)`, whose dual is the RBF kernel.

    `C = exp(-gamma E[(u - v)^2])` (Rahimi and Recht 2007).

    Args:
        gamma: inverse squared length, at least 0.
    """

    gamma: Any = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "gamma", as_leaf("Rbf", "gamma", self.gamma, 0.0))

    def __call__(self, x: jax.Array) -> jax.Array:
        return 2.0**0.5 * jnp.sin(jnp.sqrt(2.0 * self.gamma) * x + jnp.pi / 4.0)

    def mean(self, var: jax.Array) -> jax.Array:
        return jnp.exp(-self.gamma * var)

    def dual(self, pair: GaussianPair) -> jax.Array:
        return jnp.exp(-self.gamma * pair.distance)

    def dual_derivative(self, pair: GaussianPair) -> jax.Array:
        return 2.0 * self.gamma * self.dual(pair)

    def dual_shape(
        self, pair: GaussianPair, dual: jax.Array, var1: jax.Array, var2: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        defect = -jnp.expm1(-self.gamma * pair.distance)
        return defect, 2.0 - defect
