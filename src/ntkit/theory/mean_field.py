"""The maps by which one layer of infinite width changes the variance and the correlation of its inputs."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

from ntkit.nn.activations.base import Activation
from ntkit.nn.dense import Dense
from ntkit.nn.serial import Serial
from ntkit.nn.state import KernelState
from ntkit.numerics.dtypes import precision
from ntkit.numerics.gaussian_pair import GaussianPair

Outcome = Literal["converged", "collapsed", "diverged", "kept"]
"""What becomes of the variance with depth: it reaches a positive fixed point; goes to 0; grows without bound; or
stays whatever it was (ReLU at `w_std = √2` without biases).

It cannot oscillate: `d log E[φ(√q z)²] / d log q = E[(z² − 1) φ²] / (2 E[φ²]) >= −1/2`, so where the map falls it
contracts."""

VARIANCES = np.geomspace(1e-12, 1e12, 385)
"""Where fixed points are looked for, before a root is found between two neighbours."""

KEPT = 1e-12
"""A variance that one layer changes by less than this fraction is not changed."""

VANISHING = 1e-30
"""Stands for the limit of no variance; at exactly 0 the slopes of a kinked activation would be a convention's."""

NEAREST = 1e-11
"""The smallest `1 − c*` that subtraction can tell from 0 in float64."""


CORRELATION_ACCURACY = 1e-7
"""Relative accuracy of the dual of an expanded activation in the correlation map; a warning tells if it is missed."""


PADDING = 48
"""Correlations are mapped this many at a time."""


class FixedVariance(NamedTuple):
    """Where the variance goes, and how: `variance` is 0 when collapsed and infinite when diverged."""

    outcome: Outcome
    variance: float


@dataclass(frozen=True, eq=False)
class MeanField:
    """One activation's expectations, compiled once, in float64 on the host.

    Attributes:
        activation: φ.
        moments: `E[φ(√q z)²]` for q in `VARIANCES`; infinite where it overflows.
        moment_at_zero: `φ(0)²`.
    """

    activation: Activation
    moments: Float[np.ndarray, " grid"]
    moment_at_zero: float

    @classmethod
    def of(cls, activation: Activation) -> "MeanField":
        """Tabulate the second moment of an activation."""
        with precision(np.float64):
            moments = np.array(_second_moment(activation, VARIANCES))
            at_zero = float(_second_moment(activation, np.float64(0.0)))
        return cls(activation, np.where(np.isfinite(moments), moments, np.inf), at_zero)

    def second_moment(self, variance: float) -> float:
        """`E[φ(√q z)²]`."""
        with precision(np.float64):
            return float(_second_moment(self.activation, np.float64(variance)))

    def slopes(self, variance: float) -> tuple[float, float]:
        """`dE[φ(√q z)²]/dq` and `E[φ'(√q z)²]`; in the limit of q = 0 both are the same where `φ(0) = 0`."""
        with precision(np.float64):
            of_moment, of_dual = _slopes(self.activation, np.float64(max(variance, VANISHING)))
        slope = float(of_dual)
        return (float(of_moment) if variance > 0.0 else slope), slope

    def fixed_variance(self, w_std: float, b_std: float, initial: float) -> FixedVariance:
        """The variance that layers `q -> w_std² E[φ(√q z)²] + b_std²` lead to from an initial one.

        The nearest fixed point in the direction in which the first layer moves, found as a root, so that it is exact
        however slowly layers approach it. (Where the moment both grows and falls with q, a layer could leap over it.)
        """

        def change(variance: float) -> float:
            return w_std**2 * self.second_moment(variance) + b_std**2 - variance

        with np.errstate(invalid="ignore"):
            changes = w_std**2 * self.moments + b_std**2 - VARIANCES
        changes = np.where(np.isnan(changes), b_std**2 - VARIANCES, changes)  # w_std = 0 times an overflow
        first = change(initial)
        if abs(first) <= KEPT * initial:
            near = np.abs(np.log(VARIANCES / initial)) < 0.2
            kept = np.abs(changes[near]) <= KEPT * VARIANCES[near]
            return FixedVariance("kept" if kept.all() else "converged", initial)
        if first > 0:
            beyond = initial < VARIANCES
            ends = np.concatenate([[initial], VARIANCES[beyond]])
            passed = changes[beyond] <= 0
        else:
            beyond = initial > VARIANCES
            ends = np.concatenate([[initial], VARIANCES[beyond][::-1]])
            passed = changes[beyond][::-1] >= 0
        if passed.any():
            position = int(np.argmax(passed))
            low, high = sorted((float(ends[position]), float(ends[position + 1])))
            return FixedVariance("converged", _root(change, low, high))
        if first > 0:
            return FixedVariance("diverged", np.inf)
        floor = w_std**2 * self.moment_at_zero + b_std**2
        if floor == 0.0:
            return FixedVariance("collapsed", 0.0)
        return FixedVariance("converged", _root(change, min(floor, float(ends[-1])) / 2.0, float(ends[-1])))

    def correlations(self, w_std: float, b_std: float, variance: float) -> "CorrelationMap":
        """The map of correlations at a fixed variance."""
        with precision(np.float64):
            var = jnp.full(1, variance, jnp.float64)
            activation = cast(
                Activation, self.activation.adapt(KernelState.diagonal(var, 1), CORRELATION_ACCURACY)
            )
        return CorrelationMap(activation, w_std, b_std, variance)


@dataclass(frozen=True, eq=False)
class CorrelationMap:
    """`c -> (σ_w² E[φ(u) φ(v)] + σ_b²) / q` for u, v of variance q (a fixed point) and correlation c.

    In terms of the defects `1 − c`, which keep their digits where correlations approach 1.
    """

    activation: Activation
    w_std: float
    b_std: float
    variance: float

    def __call__(self, defects: Float[np.ndarray, " c"]) -> Float[np.ndarray, " c"]:
        """`1 − c` after a layer."""
        return self._evaluate(defects)[0]

    def slopes(self, defects: Float[np.ndarray, " c"]) -> Float[np.ndarray, " c"]:
        """The derivative `dc'/dc = σ_w² E[φ'(u) φ'(v)]`."""
        return self._evaluate(defects)[1]

    def fixed_defect(self) -> float:
        """The stable fixed point `1 − c*` in (0, 1] of a map whose slope at c = 1 exceeds 1; 0 if too close to tell.

        The map is `c -> Σ_n a_n² c^n`. No coefficient is negative, so it is convex on [0, 1] and meets the diagonal
        once below 1.
        """
        grid = np.geomspace(1.0, NEAREST, PADDING)
        gains = self(grid) - grid
        if abs(gains[0]) <= KEPT:
            return 1.0  # uncorrelated inputs stay so
        grows = gains > 0
        if not grows.any():
            return 0.0
        position = int(np.argmax(grows))
        low, high = float(grid[position]), float(grid[position - 1])
        return _root(lambda defect: float(self(np.array([defect]))[0]) - defect, low, high)

    def _evaluate(self, defects: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        layers = Serial(self.activation, Dense(1, self.w_std, self.b_std))
        size = len(defects)
        padded = np.concatenate(
            [defects, np.full(-size % PADDING, 1.0)]
        )  # one compiled program for few defects
        with precision(np.float64):
            after, slope = _correlate(layers, self.activation, np.float64(self.variance), padded)
            return np.array(after)[:size], self.w_std**2 * np.array(slope)[:size]


def _root(function, low: float, high: float) -> float:
    """A zero between two positive numbers, to rounding relative to itself."""
    at_low, at_high = function(low), function(high)
    # The table that bracketed the root was compiled for another shape: an end may be the root to rounding.
    if at_low == 0.0 or at_high == 0.0 or (at_low > 0) == (at_high > 0):
        return low if abs(at_low) <= abs(at_high) else high
    found = brentq(
        lambda log: function(float(np.exp(log))), np.log(low), np.log(high), xtol=1e-15, rtol=1e-15
    )
    return float(np.exp(found))


@jax.jit
def _second_moment(activation: Activation, variance: Any) -> jax.Array:
    return activation.second_moment(variance)


@jax.jit
def _slopes(activation: Activation, variance: Any) -> tuple[jax.Array, jax.Array]:
    _, of_moment = jax.jvp(activation.second_moment, (variance,), (jnp.ones_like(variance),))
    return of_moment, activation.dual_derivative(GaussianPair.same(variance))


@jax.jit
def _correlate(
    layers: Serial, activation: Activation, variance: Any, defects: Any
) -> tuple[jax.Array, jax.Array]:
    var = jnp.full(1, variance)
    state = KernelState(var * (1.0 - defects), None, var, var, defects, 2.0 - defects, 1)
    return layers.propagate(state).defect, activation.dual_derivative(state.pair)
