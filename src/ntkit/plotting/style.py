"""One look for all pictures: small enough for a phone, dark enough for print, safe for colour-blind readers."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito (2008): told apart by colour-blind readers, and by their lightness in grey print.
BLUE, ORANGE, GREEN, SKY, RED, BLACK, GREY = (
    "#0072B2", "#D55E00", "#009E73", "#56B4E9", "#CC3311", "#222222", "#777777",
)  # fmt: skip

WIDTH, HEIGHT = 4.8, 3.7
"""Inches. A phone shows the width in about 4 inches, so 11 point stays legible."""

STYLE: dict[Any, Any] = {
    "font.size": 11.0,
    "axes.titlesize": 11.5,
    "axes.labelsize": 11.0,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": BLACK,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.7,
    "lines.linewidth": 1.8,
    "svg.fonttype": "path",
    "svg.hashsalt": "ntkit",
}


@contextmanager
def picture(
    xlabel: str, ylabel: str, *, width: float = WIDTH, height: float = HEIGHT
) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one set of axes in the common look; what is drawn inside the context keeps it."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        yield figure, axes


@contextmanager
def panels(
    rows: int, columns: int, *, width: float = WIDTH, height: float = HEIGHT, sharey: bool = False
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with several sets of axes in the common look, row by row; width and height are those of one."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
        yield figure, list(figure.subplots(rows, columns, sharey=sharey, squeeze=False).ravel())


def legend_above(axes: Axes, columns: int = 1) -> None:
    """A legend above the axes, where it hides no data."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns, borderaxespad=0.2, handlelength=1.6
    )


def as_svg(figure: Figure) -> str:
    """The picture as SVG text: letters as outlines, no date, no reference to anything outside."""
    stream = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()
