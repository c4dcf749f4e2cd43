"""The kernel's spectrum, and what it means for training: how fast each direction of the targets is learnt."""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from ntkit.plotting.style import BLACK, BLUE, GREEN, ORANGE, legend_above, picture


def plot_eigenvalues(
    ntk: Float[np.ndarray, " n"],
    nngp: Float[np.ndarray, " n"] | None = None,
    fitted_numbers: Float[np.ndarray, " m"] | None = None,
    fitted: Float[np.ndarray, " m"] | None = None,
    decay: str = "",
) -> Figure:
    """Eigenvalues of the Gram matrices divided by the number of points, decreasing, and a decay fitted to a part."""
    with picture("number of the eigenvalue", "eigenvalue / n") as (figure, axes):
        for values, colour, name in ((ntk, BLUE, "NTK"), (nngp, GREEN, "NNGP")):
            if values is not None:
                positive = values > 0.0
                numbers = np.arange(1, len(values) + 1)
                axes.loglog(numbers[positive], values[positive], color=colour, label=name)
        if fitted_numbers is not None and fitted is not None:
            axes.loglog(fitted_numbers, fitted, "--", color=ORANGE, label=decay)
        legend_above(axes, columns=2 if fitted is None else 3)
    return figure


def plot_learning_times(
    timescales: Float[np.ndarray, " n"], projections: Float[np.ndarray, " n"], stopping_time: float
) -> Figure:
    """Share of the targets along each eigendirection at its learning time, and the share learnt by then."""
    with picture("learning time  1 / (η λ)", "share of the targets") as (figure, axes):
        finite = np.isfinite(timescales)
        times, shares = timescales[finite], projections[finite]
        axes.vlines(times, 0.0, shares, color=BLUE, linewidth=1.2, alpha=0.6)
        axes.plot(times, shares, ".", color=BLUE, markersize=4, label="one direction")
        axes.step(
            times, np.cumsum(shares), where="post", color=ORANGE, label="all directions at least as fast"
        )
        if np.isfinite(stopping_time):
            axes.axvline(stopping_time, color=BLACK, linestyle="--", linewidth=1.2, label="stopping time")
        axes.set_xscale("log")
        axes.set_ylim(0.0, 1.05)
        legend_above(axes)
    return figure
