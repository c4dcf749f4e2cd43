"""Activations without an elementary dual: Mehler's expansion, of certified accuracy."""

import warnings
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntkit.errors import AccuracyWarning
from ntkit.nn.activations.base import Activation
from ntkit.nn.base import Layer, propagate_compiled
from ntkit.nn.images import own_image_state, representative
from ntkit.nn.serial import Serial
from ntkit.nn.state import KernelState
from ntkit.numerics import hermite
from ntkit.numerics.dtypes import precision
from ntkit.numerics.gaussian_pair import GaussianPair

DEGREES = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
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
    `R(q) = E[phi(sqrt(q) z)^2] - sum_{n<K} a_n(q)^2` (Cauchy-Schwarz), which `bounds` computes. Called on
    numbers, kernels choose the smallest K in `DEGREES` whose bound is below `tolerance` for every input;
    under `jit` the inputs are unknown and K is `degree`, or 128.

    Of a function that is `odd` up to a constant, like a sigmoid, every second coefficient vanishes and is left out.

    Subclasses are dataclasses with the static fields `degree` (None: choose) and `tolerance`.
    """

    degree: int | None
    tolerance: float
    odd: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, x: jax.Array) -> jax.Array:
        """`phi(x)`, entry by entry."""

    def derivative(self, x: jax.Array) -> jax.Array:
        """`phi'(x)`, entry by entry."""
        return jax.jvp(self.__call__, (x,), (jnp.ones_like(x),))[1]

    def dual(self, pair: GaussianPair) -> jax.Array:
        return self._expectation(self.__call__, pair, "odd" if self.odd else None)

    def dual_derivative(self, pair: GaussianPair) -> jax.Array:
        return self._expectation(self.derivative, pair, "even" if self.odd else None)

    def mean(self, var: jax.Array) -> jax.Array:
        return self(jnp.zeros_like(var)) if self.odd else super().mean(var)

    def second_moment(self, var: jax.Array) -> jax.Array:
        return hermite.second_moment(self.__call__, var)

    def derivative_moment(self, var: jax.Array) -> jax.Array:
        return hermite.second_moment(self.derivative, var)

    def _expectation(
        self,
        function: Callable[[jax.Array], jax.Array],
        pair: GaussianPair,
        parity: Literal["odd", "even"] | None = None,
    ) -> jax.Array:
        """`E[f(u) f(v)]` of a function that is odd up to a constant, even, or neither."""
        degree, rho = self.degree or 128, pair.correlation
        left = hermite.coefficients(function, pair.var1, degree)
        right = hermite.coefficients(function, pair.var2, degree)
        series: jax.Array
        if parity is None:
            series = hermite.mehler(left, right, rho)
        elif parity == "even":
            series = hermite.mehler(left[::2], right[::2], rho * rho)
        else:
            series = left[0] * right[0] + rho * hermite.mehler(left[1::2], right[1::2], rho * rho)
        # Where u = v the series would stop short of its known sum, the second moment.
        sizes = hermite.second_moment(function, pair.var1) + hermite.second_moment(function, pair.var2)
        return jnp.where(pair.coincide, sizes / 2.0, series)

    def missing(self, function: Callable[[jax.Array], jax.Array], var: jax.Array) -> jax.Array:
        """The share of `E[f^2]` that each order in `DEGREES` leaves out, with f this activation or its derivative.

        What lies beyond the quadrature's range counts as left out. Shape (orders, *var.shape).
        """
        total = hermite.second_moment(function, var)[None]
        energies = jnp.cumsum(jnp.square(hermite.coefficients(function, var, DEGREES[-1])), axis=0)
        kept = energies[np.asarray(DEGREES) - 1]
        outside = hermite.outer_moment(function, var)[None]
        positive = total > 0
        share = (jnp.abs(total - kept) + outside) / jnp.where(positive, total, 1.0)
        return jnp.where(positive, share, 0.0)

    def bounds(self, var: jax.Array | np.ndarray, ntk: bool) -> tuple[ExpansionBound, ...]:
        """The relative error of every order in `DEGREES`, at worst over the variances `var`, shape (n,)."""
        # Padding to a few sizes keeps the number of compiled programs small.
        padded = np.pad(np.asarray(var), (0, -len(var) % 64), mode="edge")
        worst = np.zeros((2, len(DEGREES)))
        for part in np.split(padded, range(1024, len(padded), 1024)):
            worst = np.maximum(worst, np.asarray(_worst_shares(self, part, ntk=ntk)))
        return tuple(
            ExpansionBound(type(self).__name__, degree, float(dual), float(derivative))
            for degree, dual, derivative in zip(DEGREES, *worst, strict=True)
        )

    @property
    def adaptable(self) -> bool:
        return self.degree is None

    def adapt(self, state: KernelState, resolution: float) -> "Expansion":
        if self.degree is not None:
            return self
        tolerance = max(self.tolerance, resolution)
        var, worst = np.unique(np.asarray(state.var1)), np.inf
        for bound in self.bounds(var, state.ntk is not None):
            worst = max(bound.dual, bound.dual_derivative)
            if worst <= tolerance:
                return replace(self, degree=bound.degree)  # type: ignore[type-var]
        name = type(self).__name__
        warnings.warn(
            f"{name} reaches a relative error of {worst:.1e} with {DEGREES[-1]} terms, not the tolerance "
            f"{tolerance:.1e}, at variances up to {float(var[-1]):.3g}. Smaller w_std, standardised inputs or "
            f"{name}(tolerance=...) help; the kernel's bounds() tells what was reached.",
            AccuracyWarning,
            stacklevel=2,
        )
        return replace(self, degree=DEGREES[-1])  # type: ignore[type-var]


@partial(jax.jit, static_argnames="ntk")
def _worst_shares(activation: Expansion, var: jax.Array, *, ntk: bool) -> jax.Array:
    shares = [activation.missing(activation.__call__, var)]
    shares.append(activation.missing(activation.derivative, var) if ntk else jnp.zeros_like(shares[0]))
    return jnp.max(jnp.stack(shares), axis=-1)


def expansion_bounds(network: Layer, x: np.ndarray, ntk: bool) -> tuple[ExpansionBound, ...]:
    """The bound of every expansion in `network` for concrete inputs, shape (n, d), in order of the layers.

    For an activation of fixed degree: the bound of the largest order in `DEGREES` not above it.
    """
    reached = []
    with precision(np.float64):
        present = network.present(x)
        x, network = np.asarray(network.prepare(x), np.float64), network.prepared
        if x.ndim > 2:
            some = representative(x)
            state = own_image_state(
                network, jnp.asarray(x[some]), ntk, None if present is None else present[some]
            )
        else:
            state = KernelState.diagonal(jnp.asarray(np.unique(np.mean(x * x, axis=1))), x.shape[1], ntk)
        for layer in network.layers if isinstance(network, Serial) else (network,):
            if isinstance(layer, Expansion):
                layer = layer.adapt(state, 0.0)
                bounds = layer.bounds(np.unique(np.asarray(state.var1)), ntk)
                reached.append([bound for bound in bounds if bound.degree <= (layer.degree or 128)][-1])
            state = propagate_compiled(layer, state)
    return tuple(reached)
