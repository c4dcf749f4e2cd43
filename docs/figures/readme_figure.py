"""Draws docs/assets/training.png: the infinitely wide ensemble in training, beside finite networks.

Run it as `python docs/figures/readme_figure.py`; it takes about a minute. Nothing is fitted or tuned between the two:
the band is computed from the kernels alone, the lines are networks trained by gradient descent.
"""

from pathlib import Path

import jax
import matplotlib
import numpy as np

from ntkit.dynamics import gradient_descent
from ntkit.dynamics.ensemble import train_ensemble
from ntkit.kernels import NNGP, NTK
from ntkit.nn import Dense, Erf, Serial

matplotlib.use("Agg")
from matplotlib import pyplot

WIDTH = 512
MEMBERS = 16
STEPS = (0, 20, 200, 2000)
INK, BAND, LINE, POINT = "#1b2a41", "#3d6fb6", "#8a8f98", "#c8553d"


def network(width: int) -> Serial:
    return Serial(
        Dense(width, w_std=2.0, b_std=0.5),
        Erf(),
        Dense(width, w_std=2.0, b_std=0.5),
        Erf(),
        Dense(1, w_std=1.5),
    )


def main() -> None:
    x = np.array([[-1.6], [-1.1], [-0.3], [0.5], [0.7], [1.5]])
    y = np.array([[0.7], [-0.4], [-1.0], [0.6], [0.9], [-0.5]])
    grid = np.linspace(-2.2, 2.2, 121)[:, None]
    net = network(WIDTH)

    probe = gradient_descent(NTK(net), x, y, learning_rate=1e-6)
    learning_rate = 0.1 * probe.max_learning_rate
    descent = gradient_descent(NTK(net), x, y, prior=NNGP(net), learning_rate=learning_rate)
    finite = train_ensemble(
        net.apply,
        lambda key: net.init(key, x.shape),
        jax.random.key(0),
        MEMBERS,
        x,
        y,
        watch=grid,
        learning_rate=learning_rate,
        steps=STEPS[-1],
        record=STEPS,
    )

    figure, panels = pyplot.subplots(1, len(STEPS), figsize=(12, 3.4), sharey=True, layout="constrained")
    for panel, steps, outputs in zip(panels, STEPS, finite.outputs, strict=True):
        predicted = descent.after(steps)
        mean, std = predicted.mean(grid)[:, 0], predicted.std(grid)
        band = panel.fill_between(
            grid[:, 0], mean - 2 * std, mean + 2 * std, color=BAND, alpha=0.22, linewidth=0
        )
        for member in outputs[:, :, 0]:
            (line,) = panel.plot(grid[:, 0], member, color=LINE, linewidth=0.7, alpha=0.8)
        (curve,) = panel.plot(grid[:, 0], mean, color=BAND, linewidth=2.2)
        dots = panel.scatter(x, y, color=POINT, zorder=5, s=28)
        panel.set_title("at initialisation" if steps == 0 else f"after {steps:,} steps", color=INK)
        panel.set_xlabel("input")
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_xlim(grid[0, 0], grid[-1, 0])
    panels[0].set_ylabel("output")
    panels[0].set_ylim(-3.5, 3.5)
    figure.legend(
        [(band, curve), line, dots],
        [
            "infinite width: mean ± 2 std, computed",
            f"{MEMBERS} networks of width {WIDTH}, trained",
            "training data",
        ],
        loc="outside lower center",
        ncols=3,
        frameon=False,
    )
    assets = Path(__file__).parent.parent / "assets"
    assets.mkdir(exist_ok=True)
    figure.savefig(assets / "training.png", dpi=160)
    inside = np.abs(
        finite.outputs[..., 0] - np.stack([descent.after(k).mean(grid)[:, 0] for k in STEPS])[:, None]
    )
    spread = np.stack([descent.after(k).std(grid) for k in STEPS])[:, None]
    share = np.mean(inside <= 2 * np.maximum(spread, 1e-9), axis=(1, 2))
    for steps, fraction in zip(STEPS, share, strict=True):
        print(
            f"after {steps} steps {fraction:.0%} of the networks' outputs lie within two standard deviations"
        )


if __name__ == "__main__":
    main()
