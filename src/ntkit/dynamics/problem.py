"""One supervised problem for a finite network: checked data, compiled gradient steps, the largest stable rate."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkit.dynamics.arguments import as_learning_rate
from ntkit.dynamics.squared_loss import loss_weight
from ntkit.empirical.convolution import in_fast_order
from ntkit.empirical.function import (
    Function,
    Params,
    as_examples,
    as_params,
    check_function,
    count_outputs,
    in_precision,
    working_dtype,
)
from ntkit.errors import DivergenceError
from ntkit.numerics.dtypes import Array, as_targets, is_concrete, is_numpy, precision

SECONDS_PER_PORTION = 1.0
"""Steps are handed to the compiled loop in portions of up to this long, so that Ctrl-C is heard; every portion
allocates the weights anew, so that short ones would cost more than their steps."""

POWER_ITERATIONS = 100
"""Enough for three digits of the largest eigenvalue unless the second is within a few per cent of it."""


@dataclass(frozen=True, eq=False)
class Problem:
    """Full-batch gradient descent on `L = c · ½ Σ ‖f(x; θ) − y‖²`, at the precision of the data.

    That is the dtype of the inputs' floating arrays, and where there are none (tokens) of the targets.

    `c` (`weight`) is the reduction's; `record` the sorted numbers of steps to stop at, the last of which
    is the end of training. Use it inside `precision(problem.dtype)` when `numpy`.
    """

    who: str
    f: Function
    x: Any
    y: jax.Array
    learning_rate: float
    weight: float
    record: tuple[int, ...]
    dtype: Any
    numpy: bool

    def start(self, params: Params) -> Params:
        """The parameters in the problem's dtype, checked against the data."""
        params = as_params(self.who, params, self.dtype)
        outputs = count_outputs(self.who, self.f, params, self.x)
        if outputs != self.y.shape[1]:
            raise ValueError(
                f"{self.who} needs as many targets as outputs, got {self.y.shape[1]} and {outputs}."
            )
        return params

    def path(self, params: Params) -> Iterator[tuple[int, bool, Params]]:
        """Descend from `params`; yields (steps taken, whether they are to be recorded, parameters).

        Raises:
            DivergenceError: when the loss is no longer finite.
        """
        origin, taken, portion = params, 0, 1
        for goal in self.record:
            while taken < goal:
                count = min(portion, goal - taken)
                began = time.perf_counter()
                params = _descend(self.f, params, self.x, self.y, self.learning_rate * self.weight, count)
                finite = np.isfinite(self.loss(params))
                if count == portion and time.perf_counter() - began < SECONDS_PER_PORTION / 2:
                    portion *= 2
                taken += count
                if not finite:
                    raise self._divergence(origin, taken)
                if taken < goal:
                    yield taken, False, params
            yield taken, True, params

    def loss(self, params: Params) -> float:
        """The training loss in the problem's reduction."""
        return self.weight * float(squared_error(self.f, params, self.x, self.y))

    def _divergence(self, params: Params, steps: int) -> DivergenceError:
        stable = 2.0 / (self.weight * largest_eigenvalue(self.f, params, self.x))
        return DivergenceError(
            f"{self.who} needs a learning rate at which the loss stays finite, got {self.learning_rate}: it diverged "
            f"within {steps} steps. Stay below about {stable:.3g} (2 / largest eigenvalue of the tangent kernel at the "
            "start, in this reduction)."
        )


def make_problem(
    who: str,
    f: Function,
    x: Any,
    y: Array,
    learning_rate: float,
    steps: int,
    reduction: str,
    record: Sequence[int] | None,
) -> Problem:
    """Check everything that does not need parameters.

    Raises:
        ValueError: naming `who`, the argument and the remedy.
    """
    check_function(who, f)
    if not is_concrete((x, y)):
        raise ValueError(
            f"{who} needs concrete arrays, got values traced by JAX. Call it outside jit, grad and vmap."
        )
    y = as_targets(who, y, as_examples(who, x))
    if not any(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree_util.tree_leaves((x, y))):
        raise ValueError(
            f"{who} needs y in floating point where x is not, got {y.dtype}. Use y.astype('float32')."
        )
    dtype = working_dtype(y, x)
    rate = as_learning_rate(who, learning_rate)
    if steps < 1:
        raise ValueError(f"{who} needs at least one step, got {steps}.")
    if record is None:
        record = [0, *np.geomspace(1, steps, 100).round().astype(int).tolist()]
    stops = sorted({int(step) for step in record} | {int(steps)})
    if stops[0] < 0 or stops[-1] > steps:
        wrong = stops[0] if stops[0] < 0 else stops[-1]
        raise ValueError(f"{who} needs record between 0 and steps={steps}, got {wrong}.")
    numpy = is_numpy(x, y)
    with precision(dtype if numpy else np.float32):
        kept = jax.dtypes.canonicalize_dtype(dtype)
        return Problem(
            who=who,
            f=f,
            x=in_precision(x, kept),
            y=jnp.asarray(y, kept),
            learning_rate=rate,
            weight=loss_weight(who, reduction, *y.shape),
            record=tuple(stops),
            dtype=kept,
            numpy=numpy,
        )


@partial(jax.jit, static_argnums=0)
def outputs_of(f: Function, params: Params, x: Any) -> jax.Array:
    """`f(params, x)`, compiled, at full precision."""
    with jax.default_matmul_precision("highest"):
        return f(params, x)


@partial(jax.jit, static_argnums=0)
def squared_error(f: Function, params: Params, x: Any, y: jax.Array) -> jax.Array:
    """`½ Σ ‖f(x) − y‖²`."""
    with jax.default_matmul_precision("highest"):
        return 0.5 * jnp.sum(jnp.square(f(params, x) - y))


@partial(jax.jit, static_argnums=0)
def _descend(f: Function, params: Params, x: Any, y: jax.Array, rate: Any, count: Any) -> Params:
    """`count` steps `θ ← θ − rate Jᵀ(f(x) − y)`; the count is data, so one compilation serves all."""
    pulled = in_fast_order(f, reverse=True)

    def step(_, current):
        outputs, pull_back = jax.vjp(lambda parameters: pulled(parameters, x), current)
        (gradient,) = pull_back(outputs - y)
        return jax.tree_util.tree_map(lambda value, slope: value - rate * slope, current, gradient)

    with jax.default_matmul_precision("highest"):
        return jax.lax.fori_loop(0, count, step, params)


def largest_eigenvalue(f: Function, params: Params, x: Any) -> float:
    """`λ_max` of `J Jᵀ` on all points and outputs, by power iteration, without a matrix.

    The Rayleigh quotient approaches from below; its error is the square of the vector's.
    """
    return float(_power_iteration(f, params, x))


@partial(jax.jit, static_argnums=0)
def _power_iteration(f: Function, params: Params, x: Any) -> jax.Array:
    pushed, pulled = (in_fast_order(f, reverse=reverse) for reverse in (False, True))
    with jax.default_matmul_precision("highest"):
        outputs, push_forward = jax.linearize(lambda parameters: pushed(parameters, x), params)
        pull_back = jax.vjp(lambda parameters: pulled(parameters, x), params)[1]

        def step(_, state):
            vector, _ = state
            image = push_forward(*pull_back(vector))
            norm = jnp.sqrt(jnp.sum(jnp.square(image)))
            return image / jnp.where(norm > 0, norm, 1.0), jnp.sum(vector * image)

        start = jax.random.normal(jax.random.key(0), outputs.shape, outputs.dtype)
        start = start / jnp.sqrt(jnp.sum(jnp.square(start)))
        return jax.lax.fori_loop(0, POWER_ITERATIONS, step, (start, jnp.zeros((), outputs.dtype)))[1]
