"""How far a network in training is from its linearisation, against width."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkit.nn.base import Layer
from ntkit.numerics.dtypes import Array, as_points, as_targets
from ntkit.theory.experiments import Build
from ntkit.theory.power_law import PowerLaw, fit_power_law
from ntkit.theory.tangent_experiments import at_widths, stable_rate

COPIES = 6
"""How often the parameters are held: at the start, in training, as gradients, with room for what is between."""


@dataclass(frozen=True, eq=False)
class LinearizationGap:
    """Distances between networks and their linearisations, trained alike, over random networks of several widths.

    Attributes:
        widths: shape (w,); fewer than asked for only when interrupted.
        paths: root mean square over points and outputs of `f_k(x) − f_lin,k(x)` after k = 0, 1, ... steps, shape
            (w, networks, steps + 1).
        learning_rate: of both, for the summed loss.
        interrupted: whether Ctrl-C ended the experiment early.
    """

    widths: Float[np.ndarray, " w"]
    paths: Float[np.ndarray, "w networks moments"]
    learning_rate: float
    interrupted: bool

    @property
    def supremum(self) -> Float[np.ndarray, "w networks"]:
        """The largest gap over the course of training."""
        return self.paths.max(axis=2)

    @property
    def mean(self) -> Float[np.ndarray, " w"]:
        """The mean of `supremum` over networks."""
        return self.supremum.mean(axis=1)

    @property
    def standard_error(self) -> Float[np.ndarray, " w"]:
        """The standard error of `mean`."""
        return self.supremum.std(axis=1, ddof=1) / self.supremum.shape[1] ** 0.5

    def decay(self) -> PowerLaw:
        """`mean` as a power of the width, weighted by the standard errors.

        Raises:
            ValueError: for fewer than 2 widths, or gaps of 0 (a network that is linear in its parameters).
        """
        return fit_power_law(self.widths, self.mean, self.standard_error, who="LinearizationGap.decay")


def linearization_gap(
    build: Build,
    x: Float[Array, "n d"],
    y: Float[Array, "n k"],
    widths: Sequence[int] = (32, 64, 128, 256),
    *,
    watch: Float[Array, "m p"] | None = None,
    steps: int = 100,
    learning_rate: float | int | None = None,
    networks: int = 20,
    key: jax.Array,
) -> LinearizationGap:
    """How far a network in training departs from its linearisation, `sup_k RMS_x (f_k(x) − f_lin,k(x))`.

    Both start from the same parameters and take the same steps of full-batch gradient descent on the summed loss
    `½ Σ ‖f(x) − y‖²`. Those of the linearisation are taken exactly, in its outputs: with the full tangent kernel Θ at
    the start, `f_lin ← f_lin − η Θ(·, X) (f_lin(X) − y)`. The gap is bounded by a multiple of `width^(-1/2)`; smooth
    networks come closer to 1/width.

    Args:
        build: the network of each width, in the NTK parametrisation.
        x: training inputs, shape (n, d).
        y: targets, shape (n, k), k as many as the network has outputs.
        widths: each compiles one program.
        watch: points at which both are compared, shape (m, d); by default the training inputs.
        steps: of gradient descent; the gap is measured after each.
        learning_rate: η; by default half of 1 / (largest eigenvalue of the infinite-width tangent kernel), a quarter
            of the largest that is stable, since narrow networks have larger eigenvalues.
        networks: random networks of each width, at least 2.
        key: split into one key per network.

    Raises:
        ValueError: also when a training diverges.

    Source:
        Lee et al. (2019), Wide neural networks of any depth evolve as linear models, theorem 2.1.

    >>> from ntkit import nn
    >>> result = linearization_gap(
    ...     lambda width: nn.Serial(nn.Dense(width), nn.Erf(), nn.Dense(1)),
    ...     np.eye(2, dtype=np.float32), np.ones((2, 1), np.float32), (8, 128), steps=20, key=jax.random.key(0))
    >>> result.decay().exponent < -0.5
    True
    """
    who = "linearization_gap"
    x = as_points(who, x)
    y = as_targets(who, y, len(x))
    watched = x if watch is None else as_points(who, watch, "watch")
    if watched.shape[1] != x.shape[1]:
        raise ValueError(
            f"{who} needs watch with the {x.shape[1]} features of x, got {watched.shape[1]} features."
        )
    if steps < 1:
        raise ValueError(f"{who} needs at least 1 step, got {steps}.")
    outputs = build(int(widths[0])).output_shape(x.shape)[-1] if len(widths) else y.shape[1]
    if outputs != y.shape[1]:
        raise ValueError(f"{who} needs as many targets as outputs, got {y.shape[1]} and {outputs}.")
    rate = stable_rate(who, build, x, widths, learning_rate, share=0.5)

    def measure(network: Layer, points: jax.Array) -> Callable[[Any], jax.Array]:
        targets, others = (jnp.asarray(np.asarray(array), points.dtype) for array in (y, watched))
        together = points if watch is None else jnp.concatenate([points, others])
        first = len(together) - len(others)  # of the rows at which both are compared

        def path(origin: Any) -> jax.Array:
            start, forward = jax.linearize(lambda params: network.apply(params, together), origin)
            backward = jax.linear_transpose(forward, origin)
            # Row j of the tangent kernel answers to a unit error in training output j.
            units = jnp.eye(targets.size, start.size, dtype=start.dtype).reshape(-1, *start.shape)
            rows = jax.lax.map(lambda unit: forward(*backward(unit)).ravel(), units)

            def step(state, _):
                params, linear = state
                found, pull_back = jax.vjp(lambda current: network.apply(current, points), params)
                there = found if watch is None else network.apply(params, others)
                gap = jnp.sqrt(jnp.mean(jnp.square(there - linear[first:])))
                (slope,) = pull_back(found - targets)
                moved = jax.tree_util.tree_map(lambda p, g: p - rate * g, params, slope)
                error = (linear[: len(targets)] - targets).ravel()
                return (moved, linear - rate * (error @ rows).reshape(linear.shape)), gap

            return jax.lax.scan(step, (origin, start), None, length=steps + 1)[1]

        return path

    found, paths, interrupted = at_widths(who, build, x, measure, widths, networks, key, COPIES)
    return LinearizationGap(found, paths, rate, interrupted)
