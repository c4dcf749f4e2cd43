"""When to stop training: cross-validation over a grid of times, each fold solved once for all times."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ntkit.dynamics.arguments import as_learning_rate, as_times
from ntkit.dynamics.gradient_flow import GradientFlow, gradient_flow
from ntkit.dynamics.squared_loss import Reduction, loss_weight
from ntkit.kernels.base import Kernel
from ntkit.numerics.dtypes import as_points, as_targets

FINITE_TIMES = 40

LONGEST_SPAN = 1e9
"""Times beyond this multiple of the first change nothing that the last, infinite one does not show."""


@dataclass(frozen=True, eq=False)
class StoppingTime:
    """A cross-validated stopping time and the evidence for it.

    Attributes:
        time: the time of the grid with the smallest loss, possibly infinite; the earliest among equals.
        times: the grid, shape (t,).
        losses: mean squared error of the ensemble's mean on held-out targets, over all points and
            outputs, shape (t,).
        fold_losses: the same for each fold alone, shape (folds, t).
    """

    time: float
    times: Float[np.ndarray, " t"]
    losses: Float[np.ndarray, " t"]
    fold_losses: Float[np.ndarray, "folds t"]


def best_stopping_time(
    ntk: Kernel,
    x: Float[np.ndarray, "n d"],
    y: Float[np.ndarray, "n k"],
    *,
    times: Float[np.ndarray, " t"] | None = None,
    folds: int = 5,
    learning_rate: float | int = 1.0,
    reduction: Reduction = "sum",
    seed: int = 0,
) -> StoppingTime:
    """Choose the training time of an infinitely wide network by k-fold cross-validation, in closed form.

    Every fold's gradient flow, started from the ensemble's mean 0, is diagonalised once and then known at
    all times (see `gradient_flow`), so the whole loss curve costs `folds` eigendecompositions.

    With the summed loss, stopping at t acts like a ridge of about `1 / (learning_rate t)` (each direction
    is learnt to `1 - exp(-learning_rate eigenvalue t)`), and the right ridge, the noise variance, does not
    depend on the number of points. So with every reduction the folds train at the rate that the *full*
    data would have, and the time found is meant for training on all of x.

    Args:
        ntk: the tangent kernel.
        x: training points, shape (n, d).
        y: targets, shape (n, k).
        times: increasing times to compare, from 0 to infinity; None takes 40 logarithmic times around the
            time scales of the kernel's eigenvalues, and infinity.
        folds: number of folds, at least 2 and at most n; points are assigned at random.
        learning_rate: learning rate of the flow.
        reduction: reduction of the loss, as in `gradient_flow`.
        seed: seed of the assignment to folds.

    Raises:
        ValueError: for arguments that do not fit.

    Example:
        >>> import numpy as np
        >>> from ntkit.kernels.stationary import RBF
        >>> x = np.linspace(0.0, 6.0, 30)[:, None]
        >>> noisy = np.sin(x) + 0.5 * np.random.default_rng(0).normal(size=x.shape)
        >>> stopping = best_stopping_time(RBF(), x, noisy)
        >>> stopping.losses.min() < stopping.losses[-1]   # stopping beats training to convergence
        np.True_
    """
    who = "best_stopping_time"
    x = np.asarray(as_points(who, np.asarray(x)))
    y = np.asarray(as_targets(who, np.asarray(y), len(x)))
    if not 2 <= folds <= len(x):
        raise ValueError(f"{who} needs between 2 and {len(x)} folds (the number of points), got {folds}.")
    rate = as_learning_rate(who, learning_rate) * loss_weight(who, reduction, *y.shape)
    held_out = np.array_split(np.random.default_rng(seed).permutation(len(x)), folds)
    errors = []
    for fold in held_out:
        training = np.setdiff1d(np.arange(len(x)), fold)
        flow = gradient_flow(ntk, x[training], y[training], learning_rate=rate)
        times = _default_times(flow) if times is None else np.atleast_1d(as_times(who, times))
        means = flow.trajectory(times, x[fold]).mean
        errors.append(np.sum((means - y[fold][None, :, :]) ** 2, axis=(1, 2)))
    assert times is not None
    sizes = np.array([fold.size * y.shape[1] for fold in held_out])
    losses = np.sum(errors, axis=0) / y.size
    return StoppingTime(float(times[np.argmin(losses)]), times, losses, np.array(errors) / sizes[:, None])


def _default_times(flow: GradientFlow) -> Float[np.ndarray, " t"]:
    """From a tenth of the shortest time scale to ten times the longest, then infinity."""
    scales = flow.timescales[np.isfinite(flow.timescales)]
    if not len(scales):
        raise ValueError(
            "best_stopping_time needs a kernel that is not zero on the data, got no positive eigenvalue."
        )
    first, last = 0.1 * scales[0], 10.0 * scales[-1]
    return np.append(np.geomspace(first, min(last, LONGEST_SPAN * first), FINITE_TIMES), np.inf)
