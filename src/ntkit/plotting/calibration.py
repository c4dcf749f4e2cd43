"""Calibration: what was promised against what came true."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ntkit.analysis.metrics import Calibration
from ntkit.plotting.style import BLACK, BLUE, GREEN, ORANGE, legend_above, picture

LOOKS = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"))


def plot_interval_calibration(curves: Mapping[str, Calibration]) -> Figure:
    """Observed against nominal coverage of the intervals; under the diagonal the intervals are too narrow."""
    with picture("nominal probability of the interval", "fraction of test rows inside") as (figure, axes):
        _curves(axes, curves)
        axes.annotate("too wide", (0.07, 0.72), color=BLACK)
        axes.annotate("too narrow", (0.62, 0.2), color=BLACK)
    return figure


def plot_reliability(curves: Mapping[str, Calibration]) -> Figure:
    """How often the predicted class was right against its probability; marks grow with the number of rows."""
    with picture("probability of the predicted class", "fraction right") as (figure, axes):
        _curves(axes, curves)
        axes.annotate("too cautious", (0.05, 0.85), color=BLACK)
        axes.annotate("too sure", (0.65, 0.2), color=BLACK)
    return figure


def _curves(axes: Axes, curves: Mapping[str, Calibration]) -> None:
    axes.plot([0, 1], [0, 1], color=BLACK, linewidth=1.0, linestyle="--", label="perfect")
    for (name, curve), (colour, mark) in zip(curves.items(), LOOKS, strict=False):
        varying = len(np.unique(curve.counts)) > 1
        sizes = (
            12.0 + 90.0 * curve.counts / curve.counts.max() if varying else np.full(len(curve.counts), 16.0)
        )
        if not varying:  # bins of few rows jump, and a line through them would suggest more than they say
            axes.plot(curve.nominal, curve.observed, color=colour, linewidth=1.4, alpha=0.8)
        axes.scatter(curve.nominal, curve.observed, s=sizes, color=colour, marker=mark, alpha=0.8, label=name)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.04)
    legend_above(axes)
