"""Draws the pictures of docs/notes.md: outputs over networks, fluctuation of the kernel, learning curve, phases.

Run it as `python docs/figures/notes_figures.py`; it takes about two minutes. Prints the figures' numbers.
"""

from pathlib import Path

import jax
import matplotlib
import numpy as np
from sklearn.datasets import load_digits

from ntkit import NTK
from ntkit.nn import Dense, Relu, Serial, Tanh
from ntkit.plotting import (
    plot_learning_curve,
    plot_output_distribution,
    plot_phase_diagram,
    plot_width_decay,
)
from ntkit.theory import (
    kernel_fluctuation,
    learning_curve_on,
    measured_learning_curve,
    output_distribution,
    phase_diagram,
)

matplotlib.use("Agg")

ASSETS = Path(__file__).parent.parent / "assets"
NETWORK = Serial(Dense(1, 1.4, 0.1), Relu(), Dense(1, 1.4, 0.1), Relu(), Dense(1, 1.4, 0.1))
RIDGE = 0.1


def save(figure, name: str) -> None:
    """Write one picture into docs/assets."""
    figure.savefig(ASSETS / f"{name}.png", dpi=110)


def wide(width: int) -> Serial:
    """One hidden ReLU layer."""
    return Serial(Dense(width, 1.4, 0.3), Relu(), Dense(1))


x = np.random.default_rng(0).normal(size=(4, 3))
outputs = output_distribution(wide, x[:1], widths=(4, 8, 16, 32, 64), networks=50_000, key=jax.random.key(1))
save(plot_output_distribution(outputs.widths, outputs.outputs), "notes_outputs")
print("excess kurtosis", dict(zip(outputs.widths, outputs.excess_kurtosis.round(3), strict=True)))

fluctuation = kernel_fluctuation(wide, x, widths=(32, 64, 128, 256, 512), networks=60, key=jax.random.key(3))
decay = fluctuation.decay()
fitted = decay.prefactor * fluctuation.widths**decay.exponent
save(
    plot_width_decay(
        fluctuation.widths,
        fluctuation.mean,
        fluctuation.standard_error,
        fitted,
        decay.exponent,
        decay.standard_error,
        "relative deviation of the tangent kernel",
    ),
    "notes_fluctuation",
)
print("fluctuation exponent", decay.exponent, "+-", decay.standard_error)

pixels, digits = load_digits(return_X_y=True)
targets = np.eye(10)[digits] - 0.1
counts = np.array([20, 50, 100, 200, 400, 800])
theory = learning_curve_on(NTK(NETWORK), pixels / 16.0, targets, counts, ridge=RIDGE)
measured = measured_learning_curve(NTK(NETWORK), pixels / 16.0, targets, counts, ridge=RIDGE, repeats=5)
save(
    plot_learning_curve(
        theory.samples, theory.held_out_error, measured.samples, measured.mean, measured.standard_error
    ),
    "notes_learning_curve",
)
print("learning curve, measured / predicted", (measured.mean / theory.held_out_error).round(3))

diagram = phase_diagram(Tanh(), np.linspace(0.2, 3.0, 57), np.linspace(0.0, 2.0, 41))
save(plot_phase_diagram(diagram.w_stds, diagram.b_stds, diagram.labels, diagram.critical), "notes_phase")
