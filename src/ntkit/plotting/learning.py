"""The course of training: losses over time, infinitely wide and finite, and the choice of the stopping time."""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from ntkit.plotting.style import BLACK, BLUE, GREY, ORANGE, legend_above, picture


def plot_losses(
    times: Float[np.ndarray, " t"],
    train_loss: Float[np.ndarray, " t"],
    test_loss: Float[np.ndarray, " t"],
    finite_times: Float[np.ndarray, " r"] | None = None,
    finite_train_loss: Float[np.ndarray, "r networks"] | None = None,
    finite_test_loss: Float[np.ndarray, "r networks"] | None = None,
    width: int = 0,
) -> Figure:
    """Training and test loss over training time: the infinite ensemble as lines, finite networks as marks."""
    with picture("training time  t = steps × learning rate", "loss  ½ ⟨|f − y|²⟩") as (figure, axes):
        axes.loglog(times, train_loss, color=BLUE, label="training, infinite width (predicted)")
        axes.loglog(times, test_loss, color=ORANGE, label="test, infinite width (predicted)")
        if finite_times is not None and finite_train_loss is not None and finite_test_loss is not None:
            later = finite_times > 0
            for loss, colour, mark, name in (
                (finite_train_loss, BLUE, "o", "training"),
                (finite_test_loss, ORANGE, "s", "test"),
            ):
                for number, column in enumerate(loss.T):
                    label = f"{name}, trained networks of width {width}" if number == 0 else None
                    axes.loglog(
                        finite_times[later],
                        column[later],
                        mark,
                        color=colour,
                        markersize=3.4,
                        alpha=0.55,
                        label=label,
                    )
        floor = max(float(train_loss.min()), 1e-4 * float(train_loss.max()))
        axes.set_ylim(bottom=0.7 * min(floor, float(test_loss.min())))
        legend_above(axes)
    return figure


def plot_stopping(
    times: Float[np.ndarray, " t"],
    losses: Float[np.ndarray, " t"],
    best: int,
    test_times: Float[np.ndarray, " u"],
    test_loss: Float[np.ndarray, " u"],
) -> Figure:
    """Loss of the ensemble's mean over time: cross-validated, which chose the stopping time, and on the test rows."""
    with picture("training time  t", "loss of the mean  ½ ⟨|mean − y|²⟩") as (figure, axes):
        finite = np.isfinite(times)
        axes.semilogx(times[finite], losses[finite], color=GREY, label="cross-validation (training rows)")
        axes.semilogx(test_times, test_loss, color=ORANGE, label="test rows")
        last = times[finite][-1]
        axes.plot([last * 3.0], [losses[-1]], "*", color=GREY, markersize=10, label="cross-validation, t = ∞")
        where = times[best] if finite[best] else last * 3.0
        label = f"stopping time {times[best]:.3g}" if finite[best] else "stopping time: ∞ (never stop)"
        axes.axvline(where, color=BLACK, linestyle="--", linewidth=1.2, label=label)
        legend_above(axes)
    return figure
