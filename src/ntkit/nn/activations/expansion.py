"""Activations without an elementary dual: Mehler's expansion, of certified accuracy."""

import warnings
from abc import abstractmethod
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntkit.errors import AccuracyWarning
from ntkit.nn.activations.base import Activation
from ntkit.nn.base import Layer
from ntkit.nn.serial import Serial
from ntkit.nn.state import KernelState
from ntkit.numerics import hermite
from ntkit.numerics.dtypes import precision
from ntkit.numerics.gaussian_pair import GaussianPair

DEGREES = (16, 32, 64, 128, 256, 512)
"""The numbers of terms to choose from: few, because each compiles its own program."""


class ExpansionBound(NamedTuple):
    """What truncating an expansion costs at most, relative to the natural scale of the dual.

    Attributes:
        layer: the activation.
        degree: number of terms.
        dual: bound on the error of `E[phi(u) phi(v)]`, relative to `sqrt(E[phi(u)^2] E[phi(v)^2])`.
        dual_derivative: the same for `E[phi'(u) phi'(v)]`.
    """

    layer: str
    degree: int
    dual: float
    dual_derivative: float


class Expansion(Activation):
    """An activation whose duals are sums `sum_n a_n(var1) a_n(var2) rho^n` over Hermite coefficients.

    `a_n(q) = E[phi(sqrt(q) z) h_n(z)]` costs one quadrature a point, the sum one polynomial in rho a
    pair. Cutting it after K terms errs by at most `sqrt(R(var1) R(var2))`,
    `R(q) = E[phi(sqrt(q) z)^2] - sum_{n<K} a_n(q)^2` (Cauchy-Schwarz), which `bound` computes. Called on
    numbers, kernels choose the smallest K in `DEGREES` whose bound is below `tolerance` for every input;
    under `jit` the inputs are unknown and K is `degree`, or 128.

    Subclasses are dataclasses with the static fields `degree` (None: choose) and `tolerance`.
    """

    degree: int | None
    tolerance: float

    @abstractmethod
    def __call__(self, x: jax.Array) -> jax.Array:
        """`phi(x)`, entry by entry."""

    def derivative(self, x: jax.Array) -> jax.Array:
        """`phi'(x)`, entry by entry."""
        return jax.jvp(self.__call__, (x,), (jnp.ones_like(x),))[1]

    def dual(self, pair: GaussianPair) -> jax.Array:
        return self._expectation(self.__call__, pair)

    def dual_derivative(self, pair: GaussianPair) -> jax.Array:
        return self._expectation(self.derivative, pair)

    def second_moment(self, var: jax.Array) -> jax.Array:
        return hermite.second_moment(self.__call__, var)

    def _expectation(self, function, pair: GaussianPair) -> jax.Array:
        degree = self.degree or 128
        left = hermite.coefficients(function, pair.var1, degree)
        right = hermite.coefficients(function, pair.var2, degree)
        series = hermite.mehler(left, right, pair.correlation)
        # Where u = v the series would stop short of its known sum, the second moment.
        sizes = hermite.second_moment(function, pair.var1) + hermite.second_moment(function, pair.var2)
        return jnp.where(pair.coincide, sizes / 2.0, series)

    def bound(self, var: jax.Array, degree: int, ntk: bool = True) -> ExpansionBound:
        """The relative error of `degree` terms, at worst over the variances `var`, shape (n,).

        What the quadrature's finite range leaves out counts as error too.
        """
        dual = _missing(self.__call__, var, degree)
        return ExpansionBound(
            repr(self), degree, dual, _missing(self.derivative, var, degree) if ntk else float("nan")
        )

    def adapt(self, state: KernelState, resolution: float) -> "Expansion":
        if self.degree is not None:
            return self
        var = jnp.unique(state.var1)
        tolerance = max(self.tolerance, resolution)
        ntk = state.ntk is not None
        for degree in DEGREES:
            bound = self.bound(var, degree, ntk)
            worst = float(np.nanmax([bound.dual, bound.dual_derivative]))
            if worst <= tolerance:
                return replace(self, degree=degree)  # type: ignore[type-var]
        warnings.warn(
            f"{type(self).__name__} reaches a relative error of {worst:.1e} with {degree} terms, not the tolerance "
            f"{tolerance:.1e}, at variances up to {float(var[-1]):.3g}. Smaller w_std, standardised inputs or "
            f"{type(self).__name__}(tolerance=...) help; the kernel's bounds() tells what was reached.",
            AccuracyWarning,
            stacklevel=2,
        )
        return replace(self, degree=degree)  # type: ignore[type-var]


def _missing(function, var: jax.Array, degree: int) -> float:
    """The largest share of `E[f^2]` that `degree` coefficients, or the nodes' range, leave out."""

    z, weight = hermite.nodes()
    far = np.abs(z) > hermite.HALF_RANGE - 1.0

    @jax.jit
    def share(part: jax.Array) -> jax.Array:
        total = hermite.second_moment(function, part)
        kept = jnp.sum(jnp.square(hermite.coefficients(function, part, degree)), axis=0)
        edge_values = function(jnp.sqrt(part)[:, None] * jnp.asarray(z[far], part.dtype)[None, :])
        outside = jnp.matmul(jnp.square(edge_values), jnp.asarray(weight[far], part.dtype))
        positive = total > 0
        return jnp.where(positive, (jnp.abs(total - kept) + outside) / jnp.where(positive, total, 1.0), 0.0)

    return max(float(jnp.max(share(part))) for part in jnp.split(var, list(range(2048, len(var), 2048))))


def expansion_bounds(network: Layer, x: np.ndarray, ntk: bool) -> tuple[ExpansionBound, ...]:
    """The bound of every expansion in `network` for concrete inputs, shape (n, d), in order."""
    bounds = []
    with precision(np.float64):
        var = jnp.asarray(np.unique(np.mean(np.square(np.asarray(network.prepare(x), np.float64)), axis=1)))
        state = KernelState.diagonal(var, x.shape[1], ntk)
        for layer in network.layers if isinstance(network, Serial) else (network,):
            if isinstance(layer, Expansion):
                layer = layer.adapt(state, 0.0)
                bounds.append(layer.bound(jnp.unique(state.var1), layer.degree or 128, ntk))
            state = layer.propagate(state)
    return tuple(bounds)
