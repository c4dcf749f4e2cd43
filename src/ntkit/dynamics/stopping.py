"""When to stop training: the held-out loss in closed form over time, by folds, leave-one-out or a validation set."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize_scalar

from ntkit.dynamics.arguments import as_learning_rate, as_times
from ntkit.dynamics.gradient_flow import GradientFlow, gradient_flow
from ntkit.dynamics.leave_one_out import leave_one_out_means
from ntkit.dynamics.squared_loss import Reduction, loss_weight
from ntkit.dynamics.trained import project
from ntkit.kernels.base import Kernel
from ntkit.numerics.dtypes import as_targets
from ntkit.numerics.host import on_host
from ntkit.numerics.points import number_of_points, point_shape, points_of

FINITE_TIMES = 40

LONGEST_SPAN = 1e9
"""Times beyond this multiple of the first change nothing that the last, infinite one does not show."""

TIME_TOLERANCE = 1e-3
"""The best time is refined to this in its logarithm: around a minimum the loss is flat to its square."""

Curve = Callable[[np.ndarray], np.ndarray]
"""Times (t,) to mean squared errors on parts of the data (parts, t)."""


@dataclass(frozen=True, eq=False)
class StoppingTime:
    """A stopping time and the evidence for it.

    Attributes:
        time: the time with the smallest held-out loss, possibly infinite: the best of the grid, the earliest
            among equals, refined between its neighbours when the grid was chosen here.
        times: the grid, shape (t,).
        losses: mean squared error of the ensemble's mean on held-out targets, over all points and
            outputs, shape (t,).
        fold_losses: the same for each part alone, shape (parts, t): folds, points, or the one validation set.
    """

    time: float
    times: Float[np.ndarray, " t"]
    losses: Float[np.ndarray, " t"]
    fold_losses: Float[np.ndarray, "folds t"]


def best_stopping_time(
    ntk: Kernel,
    x: Any,
    y: Float[np.ndarray, "n k"],
    *,
    times: Float[np.ndarray, " t"] | None = None,
    folds: int | Literal["leave-one-out"] = 5,
    validation: tuple[Any, Float[np.ndarray, "m k"]] | None = None,
    learning_rate: float | int = 1.0,
    reduction: Reduction = "sum",
    seed: int = 0,
) -> StoppingTime:
    """Choose the training time of an infinitely wide network by its loss on held-out data, in closed form over time.

    Every gradient flow, started from the ensemble's mean 0, is diagonalised once and then known at all times (see
    `gradient_flow`): the whole loss curve costs one eigendecomposition per fold, and one in all for a
    validation set or for leaving out every point in turn.

    With the summed loss, stopping at t acts like a ridge of about `1 / (learning_rate t)` (each direction
    is learnt to `1 - exp(-learning_rate eigenvalue t)`), and the right ridge, the noise variance, does not
    depend on the number of points. So with every reduction the folds train at the rate that the *full*
    data would have, and the time found is meant for training on all of x.

    Args:
        ntk: the tangent kernel.
        x: n training points, as the kernel takes them: an array, or a pytree of arrays.
        y: targets, shape (n, k).
        times: increasing times to compare, from 0 to infinity; None takes 40 logarithmic times around the
            time scales of the kernel's eigenvalues, and infinity, and then refines the best.
        folds: number of folds, at least 2 and at most n, points being assigned at random; or "leave-one-out".
        validation: other points and targets to measure the loss on, instead of folds.
        learning_rate: learning rate of the flow.
        reduction: reduction of the loss, as in `gradient_flow`.
        seed: seed of the assignment to folds.

    Raises:
        ValueError: for arguments that do not fit.
        NotPositiveDefiniteError: for an infinite time with leave-one-out and a singular kernel.

    Example:
        >>> import numpy as np
        >>> from ntkit.kernels.stationary import RBF
        >>> x = np.linspace(0.0, 6.0, 30)[:, None]
        >>> noisy = np.sin(x) + 0.5 * np.random.default_rng(0).normal(size=x.shape)
        >>> stopping = best_stopping_time(RBF(), x, noisy, folds="leave-one-out")
        >>> bool(stopping.losses.min() < stopping.losses[-1])   # stopping beats training to convergence
        True
    """
    who = "best_stopping_time"
    x = ntk.as_inputs(who, jax.tree_util.tree_map(np.asarray, x))
    n = number_of_points(x)
    y = np.asarray(as_targets(who, np.asarray(y), n))
    rate = as_learning_rate(who, learning_rate) * loss_weight(who, reduction, *y.shape)
    grid = None if times is None else np.atleast_1d(as_times(who, times))
    if validation is not None:
        flow, curve, sizes = _validation(who, ntk, x, y, validation, rate)
    elif folds == "leave-one-out":
        if n < 2:
            raise ValueError(f"{who} needs at least two points, got n_samples = {n}.")
        flow, curve, sizes = _leave_one_out(ntk, x, y, rate)
    else:
        flow, curve, sizes = _folds(who, ntk, x, y, folds, rate, seed)
    chosen = _default_times(flow) if grid is None else grid
    if grid is None and validation is None and folds == "leave-one-out" and flow.rank < n:
        chosen = chosen[:-1]  # infinity, where a singular kernel has no leave-one-out prediction
    errors = curve(chosen)
    losses = sizes @ errors / sizes.sum()
    best = int(np.argmin(losses))
    time = float(chosen[best])
    if grid is None and 0 < best < FINITE_TIMES - 1:
        refined = minimize_scalar(
            lambda s: float(sizes @ curve(np.exp([s]))[:, 0] / sizes.sum()),
            bounds=(np.log(chosen[best - 1]), np.log(chosen[best + 1])),
            method="bounded",
            options={"xatol": TIME_TOLERANCE},
        )
        time = float(np.exp(refined.x)) if refined.fun < losses[best] else time
    return StoppingTime(time, chosen, losses, errors)


def _validation(
    who: str, ntk: Kernel, x: Any, y: np.ndarray, validation: tuple, rate: float
) -> tuple[GradientFlow, Curve, np.ndarray]:
    points = ntk.as_inputs(who, jax.tree_util.tree_map(np.asarray, validation[0]), "validation x")
    targets = np.asarray(as_targets(who, np.asarray(validation[1]), number_of_points(points)))
    if point_shape(points) != point_shape(x) or targets.shape[1] != y.shape[1]:
        raise ValueError(
            f"{who} needs validation data like the training data, got points of shape {point_shape(points)} and "
            f"{point_shape(x)}, outputs {targets.shape[1]} and {y.shape[1]}."
        )
    flow = gradient_flow(ntk, x, y, learning_rate=rate)
    curve = _held_out(flow, points, targets)
    return flow, lambda times: curve(times)[None, :], np.ones(1)


def _folds(
    who: str, ntk: Kernel, x: Any, y: np.ndarray, folds: int | str, rate: float, seed: int
) -> tuple[GradientFlow, Curve, np.ndarray]:
    n = len(y)
    if not isinstance(folds, int) or not 2 <= folds <= n:
        raise ValueError(
            f"{who} needs between 2 and {n} folds (n_samples = {n}), got {folds!r}. "
            'Use a whole number or "leave-one-out".'
        )
    held_out = np.array_split(np.random.default_rng(seed).permutation(n), folds)
    flows, curves = [], []
    for fold in held_out:
        training = np.setdiff1d(np.arange(n), fold)
        flows.append(gradient_flow(ntk, points_of(x, training), y[training], learning_rate=rate))
        curves.append(_held_out(flows[-1], points_of(x, fold), y[fold]))
    sizes = np.array([float(fold.size) for fold in held_out])
    return flows[0], lambda times: np.stack([curve(times) for curve in curves]), sizes


def _held_out(flow: GradientFlow, x: Any, y: np.ndarray) -> Curve:
    """The mean squared error at points outside of training, whose kernel is evaluated here, once."""
    training = flow.training
    projection, targets = on_host(project(training, x).tangent), on_host(y)

    def curve(times: np.ndarray) -> np.ndarray:
        weights = flow.weights(times)
        means = np.matmul(projection[None, :, :], weights[:, :, None] * training.error[None, :, :])
        return ((means - targets[None, :, :]) ** 2).mean(axis=(1, 2))

    return curve


def _leave_one_out(ntk: Kernel, x: Any, y: np.ndarray, rate: float) -> tuple[GradientFlow, Curve, np.ndarray]:
    flow = gradient_flow(ntk, x, y, learning_rate=rate)

    def curve(times: np.ndarray) -> np.ndarray:
        means = leave_one_out_means(flow.training, rate * times)
        return ((means - y[None, :, :]) ** 2).mean(axis=2).T

    return flow, curve, np.ones(len(y))


def _default_times(flow: GradientFlow) -> Float[np.ndarray, " t"]:
    """From a tenth of the shortest time scale to ten times the longest, then infinity."""
    scales = flow.timescales[np.isfinite(flow.timescales)]
    if not len(scales):
        raise ValueError(
            "best_stopping_time needs a kernel that is not zero on the data, got no positive eigenvalue."
        )
    first, last = 0.1 * scales[0], 10.0 * scales[-1]
    finite = np.geomspace(first, min(last, LONGEST_SPAN * first), FINITE_TIMES)
    return np.append(finite, np.inf)
