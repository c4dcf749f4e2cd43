"""Draws docs/assets/ensemble_proof.png: 200 trained networks of width 2048 on top of the closed form of their limit.

Run from the repository root: `python docs/figures/ensemble_proof.py` (about four minutes on two cores).
"""

from pathlib import Path

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from ntkit.dynamics import gradient_flow, train_ensemble
from ntkit.kernels import NNGP, NTK
from ntkit.nn import Dense, Relu, Serial

MEMBERS, WIDTH = 200, 2048
STEPS = (0, 2, 8, 80)
OUTPUT = Path(__file__).parent.parent / "assets" / "ensemble_proof.png"


def on_circle(angles):
    """Angles to points on the unit circle times √2, so that x·x/d = 1."""
    return (np.sqrt(2) * np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(np.float32)


def main():
    network = Serial(Dense(WIDTH, 1.4, 0.3), Relu(), Dense(WIDTH, 1.4, 0.3), Relu(), Dense(1, 1.0, 0.1))
    train_angles = np.array([-2.4, -1.3, 0.2, 1.2, 2.3])
    grid = np.linspace(-np.pi, np.pi, 81)
    x, y = on_circle(train_angles), np.array([[0.8], [-0.9], [0.6], [1.2], [-0.4]], dtype=np.float32)
    kernel, prior = NTK(network), NNGP(network)
    largest = np.linalg.eigvalsh(kernel(x))[-1]
    rate = 0.2 / float(largest)
    flow = gradient_flow(kernel, x, y, prior=prior, learning_rate=rate)
    ensemble = train_ensemble(
        network.apply,
        lambda key: network.init(key, x.shape),
        jax.random.key(0),
        MEMBERS,
        x,
        y,
        watch=on_circle(grid),
        learning_rate=rate,
        steps=STEPS[-1],
        record=STEPS,
    )
    figure, axes = plt.subplots(1, len(STEPS), figsize=(13, 3.6), sharey=True, layout="constrained")
    for row, (axis, steps) in enumerate(zip(axes, STEPS, strict=True)):
        state = flow.at(float(steps))
        mean, std = state.mean(on_circle(grid))[:, 0], state.std(on_circle(grid))
        axis.fill_between(grid, mean - 2 * std, mean + 2 * std, color="#9ecae1", label="closed form: ± 2 std")
        axis.plot(grid, mean, color="#08519c", lw=2.5, label="closed form: mean")
        for member in ensemble.outputs[row, :12, :, 0]:
            axis.plot(grid, member, color="0.35", lw=0.4, alpha=0.5)
        found, spread = ensemble.mean[row, :, 0], ensemble.std[row, :, 0]
        axis.plot(grid, found, "--", color="#d94801", lw=2, label=f"{ensemble.members} networks: mean")
        axis.plot(
            grid,
            found - 2 * spread,
            ":",
            color="#d94801",
            lw=1.5,
            label=f"{ensemble.members} networks: ± 2 std",
        )
        axis.plot(grid, found + 2 * spread, ":", color="#d94801", lw=1.5)
        axis.plot(train_angles, y[:, 0], "ko", ms=6, label="training data", zorder=5)
        axis.set_title("at initialisation" if steps == 0 else f"after {steps} steps", fontsize=12)
        axis.set_xlabel("angle of the input", fontsize=11)
        gap = np.max(np.abs(found - mean) / np.maximum(std / np.sqrt(ensemble.members), 1e-2))
        print(
            f"{steps:4d} steps: largest difference of means {np.abs(found - mean).max():.3f}"
            f" ({gap:.1f} standard errors), of std {np.abs(spread - std).max():.3f}"
        )
    axes[0].set_ylabel("output", fontsize=11)
    axes[0].set_ylim(-4, 4)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=10)
    OUTPUT.parent.mkdir(exist_ok=True)
    figure.savefig(OUTPUT, dpi=130)


if __name__ == "__main__":
    main()
