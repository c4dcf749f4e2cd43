"""The picture of `gram.py`: seconds per case and library, and the growth with depth and with the number of points."""

import statistics
from pathlib import Path

COLOURS = {
    "ntkit fused": "#0072B2",
    "ntkit reference": "#56B4E9",
    "neural-tangents": "#D55E00",
    "product": "#999999",
    "rbf": "#CCBB44",
}


def draw(measured: dict, path: Path) -> None:
    """Write the picture as SVG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (cases, depths, sizes) = plt.subplots(
        1, 3, figsize=(15, 0.34 * max(12, len(measured)) + 1), width_ratios=(2.2, 1, 1), layout="constrained"
    )
    names = list(measured)[::-1]
    for library, colour in COLOURS.items():
        found = [(place, middle(measured[name], library)) for place, name in enumerate(names)]
        kept = [(place, seconds) for place, seconds in found if seconds is not None]
        if kept:
            cases.plot([s for _, s in kept], [p for p, _ in kept], "o", color=colour, label=library)
    cases.set(
        xscale="log", xlabel="seconds (median of wall time)", yticks=range(len(names)), yticklabels=names
    )
    cases.grid(axis="x", alpha=0.3)
    cases.legend(loc="lower right", fontsize="small")
    growth(depths, measured, {d: f"ReLU, depth {d}, float32" for d in (1, 3, 10, 50)}, "depth (N = 4000)")
    by_size = {1000: "ReLU, depth 3, N = 1000, float32", 4000: "ReLU, depth 3, float32"}
    growth(sizes, measured, by_size | {10_000: "ReLU, depth 3, N = 10000, float32"}, "points (depth 3)")
    figure.savefig(path)


def middle(times: dict, library: str) -> float | None:
    return statistics.median(times[library]["wall"]) if library in times else None


def growth(axes, measured: dict, names: dict[int, str], label: str) -> None:
    """Seconds against depth or size, on logarithmic scales; the legend gives the slope of the last step."""
    import math

    for library, colour in COLOURS.items():
        known = [
            (x, middle(measured[name], library))
            for x, name in names.items()
            if name in measured and library in measured[name]
        ]
        if len(known) < 2:
            continue
        (x1, y1), (x2, y2) = known[-2:]
        slope = math.log(y2 / y1) / math.log(x2 / x1)
        axes.plot(*zip(*known, strict=True), "o-", color=colour, label=f"{library}, slope {slope:.2f}")
    axes.set(xscale="log", yscale="log", xlabel=label, ylabel="seconds")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")
