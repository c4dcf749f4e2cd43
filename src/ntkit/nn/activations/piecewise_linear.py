"""Activations that are linear on either side of zero: identity, ReLU, leaky ReLU, absolute value."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ntkit.nn.activations.base import Activation
from ntkit.nn.law import Law
from ntkit.nn.state import KernelState
from ntkit.numerics.gaussian_pair import GaussianPair
from ntkit.numerics.safe import arc_excess, safe_sqrt
from ntkit.numerics.trees import as_leaf, pytree


class _TwoSlopes(Activation):
    """`phi(x) = s x` with one slope for x < 0, another for x > 0: a straight line plus a multiple of |x|.

    With `even = (positive + negative) / 2`, `odd = (positive - negative) / 2`,
    `phi(x) = even x + odd |x|`, and parity removes the cross term:
    `C = even^2 cov + odd^2 E|u||v|`, `E|u||v| = scale (2/pi) (sin t + (pi/2 - t) cos t)`
    (Cho and Saul 2009, arc-cosine kernel of degree 1). Written in the defect, whose terms do not cancel:
    `E|u||v| = scale (1 - defect + (2/pi) (sin t - t cos t))`, of the nearer of v and -v.
    """

    @abstractmethod
    def _slopes(self) -> tuple[Any, Any]:
        """The slopes left and right of zero."""

    def _energies(self) -> tuple[Any, Any]:
        """The squared weights of the straight and of the folded part."""
        negative, positive = self._slopes()
        return ((positive + negative) / 2.0) ** 2, ((positive - negative) / 2.0) ** 2

    def __call__(self, x: jax.Array) -> jax.Array:
        negative, positive = self._slopes()
        return jnp.where(x > 0, positive * x, negative * x).astype(x.dtype)

    @property
    def homogeneity(self) -> float:
        return 1.0

    def dual(self, pair: GaussianPair) -> jax.Array:
        straight, folded = self._energies()
        return straight * pair.cov + folded * pair.scale * (1.0 - _fold_defect(pair))

    def dual_derivative(self, pair: GaussianPair) -> jax.Array:
        straight, folded = self._energies()
        return straight + folded * (1.0 - (2.0 / jnp.pi) * pair.angle)

    def mean(self, var: jax.Array) -> jax.Array:
        negative, positive = self._slopes()
        return (positive - negative) / (2.0 * jnp.pi) ** 0.5 * safe_sqrt(var)

    def second_moment(self, var: jax.Array) -> jax.Array:
        straight, folded = self._energies()
        return (straight + folded) * var

    def dual_shape(
        self, pair: GaussianPair, dual: jax.Array, var1: jax.Array, var2: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        straight, folded = (jnp.asarray(energy, dual.dtype) for energy in self._energies())
        total = straight + folded
        share = jnp.where(total > 0, folded / jnp.where(total > 0, total, 1.0), 0.0)
        fold = _fold_defect(pair)
        alive = (pair.var1 > 0) & (pair.var2 > 0)
        defect = (1.0 - share) * pair.defect + share * fold
        surplus = jnp.minimum((1.0 - share) * pair.surplus + share * (2.0 - fold), 2.0)
        return jnp.where(alive, defect, 1.0), jnp.where(alive, surplus, 1.0)


def _fold_defect(pair: GaussianPair) -> jax.Array:
    """`1 - E|u||v| / scale`, which no sign of u or v changes."""
    nearer = pair.nearer
    return nearer.defect - (2.0 / jnp.pi) * arc_excess(nearer.defect, nearer.surplus)


@pytree()
@dataclass(frozen=True, eq=False)
class PiecewiseLinear(_TwoSlopes):
    """`phi(x) = negative_slope min(x, 0) + positive_slope max(x, 0)`.

    Args:
        negative_slope: slope for x < 0.
        positive_slope: slope for x > 0.
    """

    negative_slope: Any
    positive_slope: Any

    def __post_init__(self) -> None:
        for name in ("negative_slope", "positive_slope"):
            object.__setattr__(self, name, as_leaf("PiecewiseLinear", name, getattr(self, name)))

    def _slopes(self) -> tuple[Any, Any]:
        return self.negative_slope, self.positive_slope


@pytree()
@dataclass(frozen=True, eq=False)
class LeakyRelu(_TwoSlopes):
    """`phi(x) = max(x, 0) + negative_slope min(x, 0)`."""

    negative_slope: Any = 0.01

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "negative_slope", as_leaf("LeakyRelu", "negative_slope", self.negative_slope)
        )

    def _slopes(self) -> tuple[Any, Any]:
        return self.negative_slope, 1.0


@pytree()
@dataclass(frozen=True, eq=False)
class Relu(_TwoSlopes):
    """Rectified linear unit, `phi(x) = max(x, 0)`."""

    def _slopes(self) -> tuple[float, float]:
        return 0.0, 1.0


@pytree()
@dataclass(frozen=True, eq=False)
class Abs(_TwoSlopes):
    """Absolute value, `phi(x) = |x|`."""

    def _slopes(self) -> tuple[float, float]:
        return -1.0, 1.0


@pytree()
@dataclass(frozen=True, eq=False)
class Identity(Activation):
    """`phi(x) = x`: both kernels pass unchanged."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return x

    @property
    def homogeneity(self) -> float:
        return 1.0

    def law(self, before: Law) -> Law:
        return before

    @property
    def needs_variances(self) -> bool:
        return False

    def propagate(self, state: KernelState) -> KernelState:
        return state

    def mean(self, var: jax.Array) -> jax.Array:
        return jnp.zeros_like(var)

    def dual(self, pair: GaussianPair) -> jax.Array:
        return pair.cov

    def dual_derivative(self, pair: GaussianPair) -> jax.Array:
        return jnp.ones_like(pair.cov)

    def dual_shape(
        self, pair: GaussianPair, dual: jax.Array, var1: jax.Array, var2: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        return pair.defect, pair.surplus
