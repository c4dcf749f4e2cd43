"""The course of training at chosen points: means, variances and test losses at many moments in one pass."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ntkit.dynamics.filters import SpectralFilter
from ntkit.dynamics.spectral import SpectralTraining
from ntkit.dynamics.squared_loss import loss_weight
from ntkit.dynamics.trained import project, start_at
from ntkit.inference.blocks import in_blocks
from ntkit.inference.variances import nonnegative
from ntkit.numerics.dtypes import Array, as_targets, is_concrete
from ntkit.numerics.host import like, on_host, working
from ntkit.numerics.points import number_of_points


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The expected outputs at some points over T moments of training, and their variance over the ensemble.

    Attributes:
        mean: shape (t, m, k).
        variance: shape (t, m), of each output; None without a prior.
    """

    mean: Float[Array, "t m k"]
    variance: Float[Array, "t m"] | None


def trajectory(who: str, training: SpectralTraining, moments: SpectralFilter, x: Any) -> Trajectory:
    """Mean and variance at several moments, the kernels at `x` being evaluated once.

    Raises:
        ValueError: for points traced by JAX.
    """
    x = training.as_inputs(who, x)
    if not is_concrete(x):
        raise ValueError(
            f"{who} needs points that hold numbers, got values traced by JAX. Use .at(t).mean(x) instead."
        )
    learnt = moments.learnt(training.spectrum)
    amounts = learnt[:, :, None] * training.error[None, :, :]

    answer = training.template(x)

    def block(points: Any) -> np.ndarray:
        projection = project(training, points)
        (start,) = working(start_at(training, points))
        means = start[None, :, :] + np.matmul(projection.tangent[None, :, :], amounts)
        if training.prior is None:
            return np.moveaxis(means, 0, 1)
        (prior,) = working(training.prior.diag(points))
        variances = np.empty(means.shape[:2])
        for moment, weights in enumerate(learnt):
            raised, lowered = projection.reduction(weights)
            variance = prior - 2.0 * (raised * lowered).sum(axis=1)
            variances[moment] = nonnegative(variance, prior, answer.dtype, who)
        # The variance rides along as one more output, so that blocks are put together once.
        return np.moveaxis(np.concatenate([means, variances[:, :, None]], axis=2), 0, 1)

    moved = np.moveaxis(in_blocks(block, x, training.points), 1, 0)
    outputs = training.error.shape[1]
    variance = None if training.prior is None else like(moved[:, :, outputs], answer)
    return Trajectory(like(moved[:, :, :outputs], answer), variance)


def test_losses(
    who: str, training: SpectralTraining, moments: SpectralFilter, x: Any, y: Any
) -> Float[np.ndarray, " t"]:
    """The loss at other points, reduced over them; averaged over the ensemble when there is one."""
    x = training.as_inputs(who, x)
    y = on_host(as_targets(who, y, number_of_points(x)))
    outputs = training.error.shape[1]
    if y.shape[1] != outputs:
        raise ValueError(f"{who} needs {outputs} outputs as in training, got y of shape {y.shape}.")
    path = trajectory(who, training, moments, x)
    squares = ((on_host(path.mean) - y[None, :, :]) ** 2).sum(axis=(1, 2))
    if path.variance is not None:
        squares = squares + outputs * on_host(path.variance).sum(axis=1)
    return 0.5 * loss_weight(who, training.reduction, *y.shape) * squares
