"""Discontinuous activations: their NNGP exists, their NTK does not."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ntkit.errors import KernelUndefinedError
from ntkit.nn.activations.base import Activation
from ntkit.numerics.gaussian_pair import GaussianPair
from ntkit.numerics.trees import pytree


def undefined_ntk(name: str) -> KernelUndefinedError:
    """The error of a tangent kernel through a jump: phi' is a Dirac delta and E[phi'(u)^2] infinite."""
    return KernelUndefinedError(
        f"The NTK needs an activation with a square-integrable derivative, got {name}. "
        "Use NNGP(network), or a smooth activation such as Erf."
    )


@pytree()
@dataclass(frozen=True, eq=False)
class Step(Activation):
    """Heaviside step, `phi(x) = 1` for x > 0 else 0; `C = (pi - t) / (2 pi)` (Cho and Saul 2009, degree 0)."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return (x > 0).astype(x.dtype)

    def dual(self, pair: GaussianPair) -> jax.Array:
        # An input of variance 0 is always 0, and the step there is 0.
        alive = (pair.var1 > 0) & (pair.var2 > 0)
        return jnp.where(alive, 0.5 - pair.angle / (2.0 * jnp.pi), 0.0)

    def mean(self, var: jax.Array) -> jax.Array:
        return jnp.where(var > 0, 0.5, jnp.zeros_like(var))

    def dual_derivative(self, pair: GaussianPair) -> jax.Array:
        raise undefined_ntk("Step")


@pytree()
@dataclass(frozen=True, eq=False)
class Sign(Activation):
    """Sign, `phi(x) = -1, 0, 1`; `C = (2/pi) arcsin(rho) = 1 - 2 t / pi` (Williams 1997, limit of erf)."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.sign(x)

    def dual(self, pair: GaussianPair) -> jax.Array:
        alive = (pair.var1 > 0) & (pair.var2 > 0)
        return jnp.where(alive, 1.0 - 2.0 * pair.angle / jnp.pi, 0.0)

    def mean(self, var: jax.Array) -> jax.Array:
        return jnp.zeros_like(var)

    def dual_derivative(self, pair: GaussianPair) -> jax.Array:
        raise undefined_ntk("Sign")
