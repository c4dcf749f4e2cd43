"""Finite networks: their kernel along training, their distance to the linearisation, and both figures of the circle."""

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ntkit.plotting.style import BLACK, BLUE, ORANGE, SKY, legend_above, panels, picture
from ntkit.theory import FunctionsOnCircle, KernelOnCircle, KernelTrack, LinearizationGap

PANEL_WIDTH, PANEL_HEIGHT = 3.9, 3.0
"""Inches of one of several panels."""

MOST_LABELS = 6
"""Moments named along an axis of the heat map."""

MOST_EIGENVALUES = 12
"""Eigenvalues drawn as lines; smaller ones would run into each other."""

WIDE_RANGE = 30.0
"""Steps that span more than this factor are shown on a logarithmic axis."""

SMALLEST_SHOWN = 1e-7
"""Eigenvalues below this share of the largest are rounding in float32 and not shown."""


def plot_kernel_track(track: KernelTrack) -> Figure:
    """A kernel along training: its change, its alignment with the targets, its eigenvalues, and its distances in time.

    Without targets the second panel shows the effective rank.
    """
    with panels(2, 2, width=PANEL_WIDTH, height=PANEL_HEIGHT) as (figure, axes):
        change, second, spectrum, distances = axes
        change.plot(track.steps, track.relative_change, ".-", color=BLUE)
        change.set_ylabel("‖Θₜ − Θ₀‖ / ‖Θ₀‖")
        change.set_ylim(bottom=0.0)
        values, title = track.alignment, "alignment with the targets"
        if values is None:
            values, title = track.effective_rank, "effective rank"
        second.plot(track.steps, values, ".-", color=ORANGE)
        second.set_ylabel(title)
        shown = track.eigenvalues[:, :MOST_EIGENVALUES]
        floor = SMALLEST_SHOWN * float(track.eigenvalues.max())
        shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, shown.shape[1]))
        for column, colour in zip(shown.T, shades, strict=True):
            spectrum.plot(track.steps, np.where(column > floor, column, np.nan), color=colour, linewidth=1.3)
        spectrum.set_yscale("log")
        spectrum.set_ylabel(f"{shown.shape[1]} largest eigenvalues")
        for panel in (change, second, spectrum):
            panel.set_xlabel("step")
            _stretch(panel, track.steps)
        _heat_map(figure, distances, track)
    return figure


def plot_linearization_gap(gap: LinearizationGap) -> Figure:
    """The distance of networks to their linearisation over the steps of training, the mean at each width."""
    with picture("step", "RMS of  f − f_lin") as (figure, axes):
        steps = np.arange(gap.paths.shape[2])
        shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.85, len(gap.widths)))
        for width, paths, colour in zip(gap.widths, gap.paths, shades, strict=True):
            axes.plot(steps[1:], paths.mean(axis=0)[1:], color=colour, label=f"width {width:g}")
        axes.set_xscale("log")
        axes.set_yscale("log")
        legend_above(axes, columns=3)
    return figure


def plot_kernel_on_circle(found: KernelOnCircle) -> Figure:
    """The tangent kernel on the unit circle before and after training, a panel for each width, and its limit."""
    with panels(1, len(found.widths), width=PANEL_WIDTH, height=3.6, sharey=True) as (figure, axes):
        for panel, width, before, after in zip(axes, found.widths, found.before, found.after, strict=True):
            panel.plot(found.angles, before.T, color=SKY, linewidth=1.0)
            panel.plot(found.angles, after.T, color=ORANGE, linewidth=1.0, alpha=0.8)
            panel.plot(found.angles, found.limit, "--", color=BLACK, linewidth=1.4)
            panel.set_title(f"width {width:g}")
            _angles(panel)
        axes[0].set_ylabel("Θ(x₀, x)")
        _name(
            axes[0],
            [
                (SKY, "-", "at initialisation"),
                (ORANGE, "-", f"after {found.steps} steps"),
                (BLACK, "--", "infinite width"),
            ],
        )
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def plot_functions_on_circle(found: FunctionsOnCircle) -> Figure:
    """Trained networks on the unit circle, a panel for each width, over the 10, 50 and 90 % quantiles of the limit."""
    with panels(1, len(found.widths), width=PANEL_WIDTH, height=3.6, sharey=True) as (figure, axes):
        for panel, width, outputs in zip(axes, found.widths, found.outputs, strict=True):
            panel.plot(found.angles, outputs.T, color=SKY, linewidth=1.0)
            panel.plot(found.angles, found.mean, color=BLACK, linewidth=1.6)
            for share in (0.1, 0.9):
                panel.plot(found.angles, found.quantile(share), "--", color=BLACK, linewidth=1.3)
            panel.plot(found.train_angles, found.targets, "o", color=ORANGE, markersize=6, zorder=5)
            panel.set_title(f"width {width:g}")
            _angles(panel)
        axes[0].set_ylabel("f(x)")
        _name(
            axes[0],
            [
                (SKY, "-", "trained networks"),
                (BLACK, "-", "infinite width: median"),
                (BLACK, "--", "10 % and 90 %"),
            ],
        )
        axes[0].plot([], [], "o", color=ORANGE, label="training points")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def _heat_map(figure: Figure, axes: Axes, track: KernelTrack) -> None:
    """Kernel distances of all pairs of moments, one cell each, named at some of them."""
    image = axes.imshow(track.distance, cmap="viridis", origin="lower", vmin=0.0)
    axes.grid(False)
    places = np.unique(np.linspace(0, len(track.steps) - 1, MOST_LABELS).round().astype(int))
    names = [f"{track.steps[place]:g}" for place in places]
    axes.set_xticks(places, names, rotation=45)
    axes.set_yticks(places, names)
    axes.set_xlabel("step")
    axes.set_ylabel("step")
    figure.colorbar(image, ax=axes, label="kernel distance")


def _stretch(axes: Axes, steps: np.ndarray) -> None:
    """A logarithmic axis for steps that span orders of magnitude, with room for step 0."""
    positive = steps[steps > 0]
    if len(positive) and positive[-1] > WIDE_RANGE * positive[0] and steps[0] >= 0:
        axes.set_xscale("symlog", linthresh=float(positive[0]))
        axes.set_xlim(left=float(steps[0]))


def _angles(axes: Axes) -> None:
    axes.set_xlabel("angle γ of x")
    axes.set_xticks([-np.pi, -np.pi / 2, 0.0, np.pi / 2, np.pi], ["−π", "−π/2", "0", "π/2", "π"])


def _name(axes: Axes, entries: list[tuple[str, str, str]]) -> None:
    """Entries of the legend: one for many lines."""
    for colour, line, label in entries:
        axes.plot([], [], line, color=colour, label=label)
