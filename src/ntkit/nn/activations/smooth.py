"""Smooth activations whose duals are expansions, and `Elementwise` for any scalar function."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from ntkit.nn.activations.expansion import Expansion
from ntkit.numerics.trees import pytree


@pytree("degree", "tolerance")
@dataclass(frozen=True, eq=False)
class Tanh(Expansion):
    """Hyperbolic tangent."""

    degree: int | None = None
    tolerance: float = 1e-9
    odd: ClassVar[bool] = True

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.tanh(x)


@pytree("degree", "tolerance")
@dataclass(frozen=True, eq=False)
class Sigmoid(Expansion):
    """Logistic sigmoid, `phi(x) = 1 / (1 + exp(-x))`."""

    degree: int | None = None
    tolerance: float = 1e-9
    odd: ClassVar[bool] = True

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(x)


@pytree("degree", "tolerance")
@dataclass(frozen=True, eq=False)
class Silu(Expansion):
    """Sigmoid linear unit (swish), `phi(x) = x / (1 + exp(-x))`."""

    degree: int | None = None
    tolerance: float = 1e-9

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.silu(x)


@pytree("degree", "tolerance")
@dataclass(frozen=True, eq=False)
class Softplus(Expansion):
    """`phi(x) = log(1 + exp(x))`."""

    degree: int | None = None
    tolerance: float = 1e-9

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.softplus(x)


@pytree("degree", "tolerance")
@dataclass(frozen=True, eq=False)
class Mish(Expansion):
    """`phi(x) = x tanh(log(1 + exp(x)))` (Misra 2019)."""

    degree: int | None = None
    tolerance: float = 1e-9

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * jnp.tanh(jax.nn.softplus(x))


@pytree("function", "degree", "tolerance")
@dataclass(frozen=True, eq=False)
class Elementwise(Expansion):
    """Any scalar function as an activation.

    Args:
        function: a JAX function that acts entry by entry, e.g. `jnp.arctan`. It is part of the network's
            structure: define it once (a new lambda a call compiles anew).
        degree: number of terms of the expansion; None lets the kernel choose from the inputs.
        tolerance: relative accuracy asked for; kinks need a looser one (a warning says what is reached).
    """

    function: Callable[[jax.Array], jax.Array]
    degree: int | None = None
    tolerance: float = 1e-9

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.function(x)
