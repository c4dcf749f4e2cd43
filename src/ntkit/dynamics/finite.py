"""Training a finite network for real: full-batch gradient descent on the squared loss."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ntkit.dynamics.problem import largest_eigenvalue, make_problem, outputs_of, squared_error
from ntkit.dynamics.progress import Bar
from ntkit.dynamics.squared_loss import Reduction, loss_weight
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
from ntkit.numerics.dtypes import Array, as_targets, is_numpy, precision, to_jax


@dataclass(frozen=True, eq=False)
class TrainingHistory:
    """What `train` saw: losses (and outputs) after each recorded number of steps, and the last parameters.

    Attributes:
        params: the parameters after `steps_taken` steps.
        steps: numbers of steps at which was recorded.
        loss: training loss there, in the reduction asked for.
        test_loss: loss on the test set there, in the same reduction over itself; None without a test set.
        outputs: outputs at the watched points there, (r, m, k); None when nothing was watched.
        steps_taken: how many steps were taken; fewer than asked for only when interrupted.
        interrupted: whether Ctrl-C ended the training.
    """

    params: Params = field(repr=False)
    steps: Int[np.ndarray, " r"]
    loss: Float[np.ndarray, " r"]
    test_loss: Float[np.ndarray, " r"] | None
    outputs: Float[Array, "r m k"] | None
    steps_taken: int
    interrupted: bool


def train(
    f: Function,
    params: Params,
    x: Any,
    y: Float[Array, "n k"],
    *,
    learning_rate: float | int,
    steps: int,
    reduction: Reduction = "sum",
    record: Sequence[int] | None = None,
    test: tuple[Any, Array] | None = None,
    watch: Any = None,
) -> TrainingHistory:
    """Train a finite network by plain full-batch gradient descent, `θ ← θ − η ∇L(θ)`.

    The loss is `L = ½ Σ ‖f(x) − y‖²` for `reduction="sum"`; "mean" divides it by points x outputs,
    "mean_points" by points. The wide-network limit after k steps is `gradient_descent(...).after(k)`,
    and for small η that is `gradient_flow(...).at(k)`, both at this learning rate and reduction.

    Computes in the dtype of the floating arrays of `x`, and where it has none (tokens) in that of `y`: NumPy
    inputs give NumPy parameters and outputs back. Ctrl-C ends the training and returns what was recorded; a bar
    on a terminal's standard error shows the progress.

    Args:
        f: `f(params, x)`, inputs (n, ...) to outputs (n, k).
        params: pytree of floating-point arrays to start from; left as it is.
        x: training inputs (n, ...), tokens included, or a pytree of such arrays.
        y: training targets (n, k).
        learning_rate: η, positive.
        steps: number of gradient steps, at least 1.
        reduction: "sum", "mean" or "mean_points".
        record: after which numbers of steps to record; the last is added. By default 0 and about a
            hundred more, evenly spaced on a logarithmic scale.
        test: inputs and targets of a test set, whose loss is recorded.
        watch: inputs (m, ...) whose outputs are recorded.

    Raises:
        ValueError: for arguments that do not fit together.
        DivergenceError: when the loss is no longer finite; the text estimates the largest stable rate.

    >>> import numpy as np
    >>> x, y = np.array([[1.0], [2.0]]), np.array([[3.0], [6.0]])
    >>> history = train(lambda w, x: x @ w, np.zeros((1, 1)), x, y, learning_rate=0.1, steps=50)
    >>> history.params.round(6)
    array([[3.]])
    """
    problem = make_problem("train", f, x, y, learning_rate, steps, reduction, record)
    with precision(problem.dtype) if problem.numpy else nullcontext():
        origin = current = problem.start(params)
        test_set = None if test is None else _as_test_set(test, problem.dtype)
        watched = None if watch is None else _as_watched(watch, problem.dtype)
        recorded: list[tuple[int, float, float, Any]] = []
        taken, interrupted = 0, False
        bar = Bar("training", steps)
        try:
            for taken, wanted, current in problem.path(origin):
                bar.advance_to(taken)
                if wanted:
                    test_loss, outputs = np.nan, None
                    if test_set is not None:
                        weight = loss_weight("train", reduction, *test_set[1].shape)
                        test_loss = weight * float(squared_error(f, current, *test_set))
                    if watched is not None:
                        outputs = outputs_of(f, current, watched)
                        outputs = np.array(outputs) if problem.numpy else outputs
                    recorded.append((taken, problem.loss(current), test_loss, outputs))
        except KeyboardInterrupt:
            interrupted = True
        finally:
            bar.close()
        stack = np.stack if problem.numpy else jnp.stack
        return TrainingHistory(
            params=jax.tree_util.tree_map(np.array, current) if problem.numpy else current,
            steps=np.array([row[0] for row in recorded], dtype=np.int64),
            loss=np.array([row[1] for row in recorded], dtype=problem.dtype),
            test_loss=None if test is None else np.array([row[2] for row in recorded], dtype=problem.dtype),
            outputs=None if watched is None or not recorded else stack([row[3] for row in recorded]),
            steps_taken=taken,
            interrupted=interrupted,
        )


def max_learning_rate(f: Function, params: Params, x: Any, reduction: Reduction = "sum") -> float:
    """The largest stable learning rate at `params`, `2 / (c λ_max)` of the tangent kernel on the data.

    Gradient descent on the linearised network converges if and only if it is below (c is the weight of
    the reduction). `λ_max` is approached from below by power iteration, so this from above, typically
    to three digits: stay a few per cent under it. Inputs are as for `train`.
    """
    check_function("max_learning_rate", f)
    n = as_examples("max_learning_rate", x)
    dtype = working_dtype(params, x)
    with precision(dtype) if is_numpy(x) else nullcontext():
        points = to_jax(x)
        origin = as_params("max_learning_rate", params, dtype)
        outputs = count_outputs("max_learning_rate", f, origin, points)
        largest = largest_eigenvalue(f, origin, points)
    weight = loss_weight("max_learning_rate", reduction, n, outputs)
    return 2.0 / (weight * largest) if largest > 0 else float("inf")


def _as_watched(watch: Any, dtype: Any) -> Any:
    as_examples("train", watch, "watch")
    return in_precision(watch, dtype)


def _as_test_set(test: tuple[Any, Array], dtype: Any) -> tuple[Any, jax.Array]:
    y = as_targets("train", test[1], as_examples("train", test[0], "test inputs"))
    return in_precision(test[0], dtype), jnp.asarray(y, dtype)
