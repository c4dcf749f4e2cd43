"""The course of training on any loss: what is predicted, what is proved, and when to stop."""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from ntkit.plotting.style import BLACK, BLUE, GREY, ORANGE, legend_above, picture

DEEPEST = 1e-3
"""Losses below this share of the first are not shown."""


def plot_course(
    times: Float[np.ndarray, " t"],
    train_loss: Float[np.ndarray, " t"],
    test_loss: Float[np.ndarray, " t"],
    ylabel: str,
    bound: Float[np.ndarray, " t"] | None = None,
    stopping_time: float | None = None,
) -> Figure:
    """Training and test loss over positive times, the proved bound of the former, and the best stopping time."""
    with picture("training time  t = steps × learning rate", ylabel, height=4.2) as (figure, axes):
        later = times > 0.0
        axes.loglog(times[later], train_loss[later], color=BLUE, label="training rows")
        axes.loglog(times[later], test_loss[later], color=ORANGE, label="test rows")
        if bound is not None:
            axes.loglog(times[later], bound[later], "--", color=GREY, label="proved bound, training rows")
        if stopping_time is not None and np.isfinite(stopping_time):
            label = f"best stopping time {stopping_time:.3g} (leave-one-out)"
            axes.axvline(stopping_time, color=BLACK, linestyle=":", linewidth=1.4, label=label)
        shown = np.concatenate([train_loss, test_loss])
        largest = float(shown.max())
        smallest = max(float(shown[shown > 0.0].min(initial=largest)), DEEPEST * largest)
        if largest > 0.0:
            axes.set_ylim(0.7 * smallest, 1.4 * largest)
        legend_above(axes)
    return figure
