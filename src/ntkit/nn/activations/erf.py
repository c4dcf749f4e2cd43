"""Sigmoids with an elementary dual: the error function and the Gaussian error linear unit."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ntkit.nn.activations.base import Activation
from ntkit.numerics.gaussian_pair import GaussianPair
from ntkit.numerics.trees import as_leaf, pytree


@pytree()
@dataclass(frozen=True, eq=False)
class Erf(Activation):
    """`phi(x) = a erf(b x) + c` (Williams 1997, eq. 11).

    `C = a^2 (2/pi) arcsin(2 b^2 cov / sqrt((1 + 2 b^2 var1)(1 + 2 b^2 var2))) + c^2`.
    """

    a: Any = 1.0
    b: Any = 1.0
    c: Any = 0.0

    def __post_init__(self) -> None:
        for name in ("a", "b", "c"):
            object.__setattr__(self, name, as_leaf("Erf", name, getattr(self, name)))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.a * jax.scipy.special.erf(self.b * x) + self.c

    def _opposite(self, pair: GaussianPair) -> jax.Array:
        """`sqrt((1 + 2 b^2 var1)(1 + 2 b^2 var2) - 4 b^4 cov^2)`, a sum of positive terms.

        Each root is taken of a quotient by `1 + 2 b^2 var`, so that nothing overflows.
        """
        p = 2.0 * self.b**2
        return jnp.sqrt(1.0 + p * (pair.var1 + pair.var2) + p**2 * pair.determinant)

    def dual(self, pair: GaussianPair) -> jax.Array:
        # arcsin by its two legs: near 1 the quotient alone has lost half its digits.
        arcsine = jnp.arctan2(2.0 * self.b**2 * pair.cov, self._opposite(pair))
        return self.a**2 * (2.0 / jnp.pi) * arcsine + self.c**2

    def mean(self, var: jax.Array) -> jax.Array:
        return jnp.zeros_like(var) + self.c

    def dual_derivative(self, pair: GaussianPair) -> jax.Array:
        return self.a**2 * self.b**2 * (4.0 / jnp.pi) / self._opposite(pair)


@pytree()
@dataclass(frozen=True, eq=False)
class Gelu(Activation):
    """Gaussian error linear unit, `phi(x) = x Phi(x)` with the normal distribution function `Phi`.

    By Stein's identity, with `D^2 = (1 + var1)(1 + var2) - cov^2`:
    `C = cov (1/4 + arcsin(cov / sqrt((1 + var1)(1 + var2))) / (2 pi))
    + (var1 var2 - cov^2 + cov^2 / (1 + var1) + cov^2 / (1 + var2)) / (2 pi D)`
    (Tsuchida et al. 2021; Han et al. 2022).
    """

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.gelu(x, approximate=False)

    def mean(self, var: jax.Array) -> jax.Array:
        return var / jnp.sqrt(2.0 * jnp.pi * (1.0 + var))

    def _root(self, pair: GaussianPair) -> jax.Array:
        return jnp.sqrt(1.0 + pair.var1 + pair.var2 + pair.determinant)

    def _both_positive(self, pair: GaussianPair) -> jax.Array:
        """`E[Phi(u) Phi(v)]`."""
        return 0.25 + jnp.arctan2(pair.cov, self._root(pair)) / (2.0 * jnp.pi)

    def dual(self, pair: GaussianPair) -> jax.Array:
        cov, root = pair.cov, self._root(pair)
        rest = pair.determinant + cov * (cov / (1.0 + pair.var1) + cov / (1.0 + pair.var2))
        return cov * self._both_positive(pair) + rest / (2.0 * jnp.pi * root)

    def dual_derivative(self, pair: GaussianPair) -> jax.Array:
        cov, root = pair.cov, self._root(pair)
        edges = cov / (1.0 + pair.var1) + cov / (1.0 + pair.var2) + cov / (root * root)
        return self._both_positive(pair) + edges / (2.0 * jnp.pi * root)
