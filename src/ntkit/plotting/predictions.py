"""Predictions against the truth: points with intervals, or a confusion matrix."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from ntkit.plotting.style import BLACK, BLUE, ORANGE, SKY, legend_above, picture

MOST_NAMED_CLASSES = 20


def plot_predictions(
    truth: Float[np.ndarray, " m"],
    mean: Float[np.ndarray, " m"],
    lower: Float[np.ndarray, " m"],
    upper: Float[np.ndarray, " m"],
    name: str,
    level: float,
) -> Figure:
    """Predicted against true target, each with its interval; those that miss the truth stand out."""
    with picture(f"true {name}", f"predicted {name}") as (figure, axes):
        inside = (lower <= truth) & (truth <= upper)
        for chosen, colour, label in (
            (inside, BLUE, f"truth inside the {level:.0%} interval"),
            (~inside, ORANGE, "truth outside"),
        ):
            axes.vlines(truth[chosen], lower[chosen], upper[chosen], color=colour, alpha=0.25, linewidth=1.2)
            label = f"{label} ({int(chosen.sum())})"
            axes.plot(truth[chosen], mean[chosen], ".", color=colour, markersize=5, label=label)
        ends = [min(truth.min(), mean.min()), max(truth.max(), mean.max())]
        axes.plot(ends, ends, color=BLACK, linewidth=1.0, linestyle="--", label="prediction = truth")
        legend_above(axes)
    return figure


def plot_confusion(counts: Int[np.ndarray, "k k"], classes: Sequence[str]) -> Figure:
    """How often each class (rows) was predicted as each class (columns); mistakes are shaded most strongly."""
    with picture("predicted class", "true class", height=4.4) as (figure, axes):
        size = len(classes)
        right = np.eye(size, dtype=bool)
        mistakes = np.where(right, 0, counts)
        shade = np.ones((size, size, 3))
        strength = np.sqrt(mistakes / max(int(mistakes.max()), 1))[:, :, None]
        shade = shade * (1.0 - strength) + strength * np.array([0.90, 0.55, 0.25])[None, None, :]
        shade[right] = np.array([0.85, 0.92, 0.97])
        axes.imshow(shade)
        axes.grid(visible=False)
        if size <= MOST_NAMED_CLASSES:
            names = [str(name)[:12] for name in classes]
            slanted = max(len(name) for name in names) > 3
            axes.set_xticks(range(size), names, rotation=45 if slanted else 0)
            axes.set_yticks(range(size), names)
            for row in range(size):
                for column in range(size):
                    if counts[row, column]:
                        text = str(int(counts[row, column]))
                        axes.text(column, row, text, ha="center", va="center", fontsize=9, color=BLACK)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title("right (diagonal) and mistaken (shaded)", color=BLACK, loc="left")
        axes.set_facecolor(SKY)
    return figure
