"""When to stop training: cross-validation of the infinitely wide ensemble over a grid of times, in closed form."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from sklearn.model_selection import KFold

from ntkit.analysis.noise import class_noise, regression_noise
from ntkit.analysis.threads import suited_to
from ntkit.dynamics import GradientFlow, gradient_flow
from ntkit.kernels import Kernel, evaluate
from ntkit.kernels.row_kernel import RowKernel
from ntkit.tables.split import limit_rows

MOST_ROWS = 1500
"""Rows used to choose the stopping time."""

FINITE_TIMES = 40
LONGEST_SPAN = 1e9

NOISE_STRIDE = 4
"""The observation noise varies slowly with time: it is estimated at every fourth time and at the best."""

WORTHWHILE = 1e-3
"""Stopping has to lower the cross-validated loss by this share; otherwise training goes on to infinity."""


@dataclass(frozen=True)
class Stopping:
    """Cross-validated loss of the trained ensemble over time.

    Attributes:
        times: Training times, increasing, the last infinite, shape (t,).
        losses: Mean over held-out rows of `1/2 |mean prediction - target|^2`, encoded units, shape (t,).
        noise_times: Some of these times, the last infinite, shape (u,).
        noises: Estimated noise variance of an observation about the ensemble at `noise_times`, shape (u,).
        best: Number of the best time: the smallest loss, or the last where stopping gains nothing to speak of.
        rows: Rows used.
    """

    times: Float[np.ndarray, " t"]
    losses: Float[np.ndarray, " t"]
    noise_times: Float[np.ndarray, " u"]
    noises: Float[np.ndarray, " u"]
    best: int
    rows: int

    @property
    def best_time(self) -> float:
        """The best stopping time, possibly infinite."""
        return float(self.times[self.best])


def training_times(flow: GradientFlow) -> Float[np.ndarray, " t"]:
    """Logarithmic times from a tenth of the fastest time scale to ten times the slowest, then infinity."""
    scales = flow.timescales[np.isfinite(flow.timescales)]
    first, last = 0.1 * scales[0], 10.0 * scales[-1]
    return np.append(np.geomspace(first, min(last, first * LONGEST_SPAN), FINITE_TIMES), np.inf)


def choose_stopping(
    ntk: Kernel,
    nngp: Kernel,
    x: Float[np.ndarray, "n *d"],
    y: Float[np.ndarray, "n k"],
    times: Float[np.ndarray, " t"],
    *,
    class_frequencies: Float[np.ndarray, " k"] | None,
    folds: int,
    seed: int,
) -> Stopping:
    """Predict every fold from the others at all times; choose the time with the smallest squared error.

    Args:
        ntk: The tangent kernel of the network that is trained.
        nngp: Its covariance at initialisation.
        x: Training points.
        y: Encoded training targets.
        times: The grid of times.
        class_frequencies: What was subtracted from one-hot targets; None for regression.
        folds: Number of folds.
        seed: Seed of subsample and folds.
    """
    # The mean loss over all rows is the summed loss at rate 1/n. Stopping the latter at time t acts like a ridge of
    # n/t, and the right ridge does not depend on the number of rows: so folds keep the rate of the full table.
    rate = 1.0 / len(x)
    rows = limit_rows(len(x), MOST_ROWS, seed)
    x, y = x[rows], y[rows]
    means = np.zeros((len(times), *y.shape))
    variances = np.zeros((len(times), len(y)))
    grams = zip(evaluate((ntk, nngp), x), ("NTK", "NNGP"), strict=True)
    ntk, nngp = (RowKernel(np.asarray(gram), name) for gram, name in grams)
    numbers = np.arange(len(y), dtype=np.float64)[:, None]
    splits = KFold(min(folds, len(y)), shuffle=True, random_state=seed)
    with suited_to(len(y)):
        for train, held_out in splits.split(x):
            flow = gradient_flow(ntk, numbers[train], y[train], prior=nngp, learning_rate=rate)
            path = flow.trajectory(times, numbers[held_out])
            means[:, held_out], variances[:, held_out] = path.mean, path.variance
    losses = 0.5 * np.sum((means - y[None, :, :]) ** 2, axis=2).mean(axis=1)
    best = int(np.argmin(losses))
    if losses[-1] <= losses[best] * (1.0 + WORTHWHILE):
        best = len(losses) - 1
    chosen = sorted({*range(0, len(times), NOISE_STRIDE), best, len(times) - 1})
    noises = []
    for moment in chosen:
        mean, variance = means[moment], variances[moment]
        if class_frequencies is None:
            noises.append(regression_noise(y, mean, variance))
        else:
            codes = np.argmax(y + class_frequencies[None, :], axis=1)
            noises.append(class_noise(codes, mean + class_frequencies[None, :], variance))
    return Stopping(times, losses, times[chosen], np.array(noises), best, len(rows))
