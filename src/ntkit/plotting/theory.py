"""What the spectrum predicts, and what was measured: decay, learning curves, order and chaos, growing widths."""

import numpy as np
from jaxtyping import Float, Shaped
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator, ScalarFormatter

from ntkit.plotting.style import BLACK, BLUE, GREY, ORANGE, SKY, legend_above, picture

DECADE = 10.0

MOST_TICKS = 9
"""More numbers than this would run into each other along an axis."""

PHASES = {
    "ordered": ("#cfe3f2", "ordered"),
    "critical": (BLACK, "critical"),
    "chaotic": ("#f6d2bd", "chaotic"),
    "divergent": ("#d9d9d9", "divergent"),
}


def plot_mercer_spectrum(
    numbers: Float[np.ndarray, " n"],
    eigenvalues: Float[np.ndarray, " n"],
    fitted_numbers: Float[np.ndarray, " m"] | None = None,
    fitted: Float[np.ndarray, " m"] | None = None,
    exponent: float = 0.0,
    standard_error: float = 0.0,
    xlabel: str = "number of the eigenvalue",
) -> Figure:
    """Positive eigenvalues in Mercer's normalisation, and the power law fitted to a part of them."""
    with picture(xlabel, "eigenvalue λ") as (figure, axes):
        positive = eigenvalues > 0.0
        axes.loglog(
            numbers[positive], eigenvalues[positive], ".", color=BLUE, markersize=4, label="eigenvalues"
        )
        if fitted_numbers is not None and fitted is not None:
            label = f"fitted decay, exponent {exponent:.2f} ± {standard_error:.2f}"
            axes.loglog(fitted_numbers, fitted, color=ORANGE, label=label)
        axes.xaxis.set_minor_formatter(NullFormatter())
        legend_above(axes)
    return figure


def plot_learning_curve(
    samples: Float[np.ndarray, " s"],
    predicted: Float[np.ndarray, " s"],
    measured_samples: Float[np.ndarray, " t"] | None = None,
    measured: Float[np.ndarray, " t"] | None = None,
    standard_error: Float[np.ndarray, " t"] | None = None,
) -> Figure:
    """Test error against the number of samples: the spectrum's prediction as a line, measurements with their errors."""
    with picture("number of training points", "test error  ⟨(f − y)²⟩") as (figure, axes):
        axes.loglog(samples, predicted, color=BLUE, label="predicted from the spectrum")
        if measured_samples is not None and measured is not None:
            axes.errorbar(
                measured_samples,
                measured,
                yerr=None if standard_error is None else 2.0 * standard_error,
                fmt="o",
                color=ORANGE,
                markersize=4.5,
                capsize=2.5,
                label="kernel regression, measured (± 2 standard errors)",
            )
        low, high = axes.get_ylim()
        if high < DECADE * low:  # powers of ten alone would leave hardly a label
            axes.yaxis.set_major_formatter(ScalarFormatter())
            axes.yaxis.set_minor_formatter(ScalarFormatter())
        if measured_samples is not None and len(measured_samples) <= MOST_TICKS:
            _ticks_at(axes, measured_samples)
        else:
            axes.xaxis.set_minor_formatter(NullFormatter())
        legend_above(axes)
    return figure


def plot_phase_diagram(
    w_stds: Float[np.ndarray, " w"],
    b_stds: Float[np.ndarray, " b"],
    labels: Shaped[np.ndarray, "b w"],
    critical: Float[np.ndarray, "points 2"],
    point: tuple[float, float] | None = None,
) -> Figure:
    """The phases over both scales as areas, the edge of chaos as a line of pairs (w_std, b_std), and one network."""
    with picture("standard deviation of the weights  σ_w", "… of the biases  σ_b") as (figure, axes):
        names = list(PHASES)
        numbers = np.array(
            [[names.index(label) for label in row] for row in labels.tolist()], dtype=np.float64
        )
        axes.pcolormesh(
            w_stds,
            b_stds,
            numbers,
            cmap=ListedColormap([colour for colour, _ in PHASES.values()]),
            vmin=-0.5,
            vmax=len(names) - 0.5,
            shading="nearest",
            rasterized=True,
        )
        axes.grid(False)
        shown = [name for name in names if (labels == name).any()]
        for name in shown:
            colour, title = PHASES[name]
            axes.plot([], [], "s", color=colour, markersize=9, label=title)
        if len(critical):
            mark = "-" if len(critical) > 1 else "*"
            axes.plot(
                critical[:, 0], critical[:, 1], mark, color=BLACK, markersize=9, label="edge of chaos, χ₁ = 1"
            )
        if point is not None:
            axes.plot(*point, "D", color=ORANGE, markersize=8, label="this network", clip_on=False)
        if len(w_stds) > 1:
            axes.set_xlim(w_stds.min(), w_stds.max())
        if len(b_stds) > 1:  # an interrupted diagram may have a single row
            axes.set_ylim(b_stds.min(), b_stds.max())
        legend_above(axes, columns=2)
    return figure


def plot_width_decay(
    widths: Float[np.ndarray, " w"],
    values: Float[np.ndarray, " w"],
    standard_errors: Float[np.ndarray, " w"],
    fitted: Float[np.ndarray, " w"],
    exponent: float,
    exponent_error: float,
    ylabel: str,
) -> Figure:
    """A deviation from the infinite-width limit against width, with its standard errors and the fitted power law."""
    with picture("width of the hidden layers", ylabel) as (figure, axes):
        shown = values > 0.0
        axes.errorbar(
            widths[shown],
            values[shown],
            yerr=2.0 * standard_errors[shown],
            fmt="o",
            color=BLUE,
            markersize=4.5,
            capsize=2.5,
            label="random networks (± 2 standard errors)",
        )
        label = f"fitted slope {exponent:.2f} ± {exponent_error:.2f}"
        axes.plot(widths, fitted, color=ORANGE, label=label)
        axes.set_xscale("log")
        axes.set_yscale("log")
        _ticks_at(axes, widths)
        legend_above(axes)
    return figure


def plot_output_distribution(
    widths: Float[np.ndarray, " w"], outputs: Float[np.ndarray, "w networks"]
) -> Figure:
    """Histograms of one output over random networks, scaled by the limiting deviation, over the Gaussian limit."""
    with picture("output / infinite-width standard deviation", "density") as (figure, axes):
        chosen = sorted({0, len(widths) - 1})
        for position, colour in zip(chosen, (SKY, BLUE), strict=False):
            axes.hist(
                outputs[position],
                bins=np.linspace(-5.0, 5.0, 81).tolist(),
                density=True,
                histtype="step",
                color=colour,
                linewidth=1.6,
                label=f"width {widths[position]:.0f}",
            )
        z = np.linspace(-5.0, 5.0, 201)
        density = np.exp(-(z**2) / 2.0) / np.sqrt(2.0 * np.pi)
        axes.plot(z, density, color=GREY, linestyle="--", label="Gaussian limit")
        axes.set_yscale("log")
        axes.set_ylim(1e-5, 3.0)
        legend_above(axes, columns=3)
    return figure


def _ticks_at(axes: Axes, numbers: Float[np.ndarray, " w"]) -> None:
    """Label a logarithmic axis at these numbers only."""
    axes.set_xticks(numbers, [f"{number:g}" for number in numbers])
    axes.xaxis.set_minor_locator(NullLocator())
