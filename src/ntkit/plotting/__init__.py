"""Pictures of results: every function takes plain values, computes nothing, and returns a Matplotlib figure."""

from ntkit.plotting.calibration import plot_interval_calibration, plot_reliability
from ntkit.plotting.dynamics import plot_course
from ntkit.plotting.finite import (
    plot_functions_on_circle,
    plot_kernel_on_circle,
    plot_kernel_track,
    plot_linearization_gap,
)
from ntkit.plotting.learning import plot_losses, plot_stopping
from ntkit.plotting.predictions import plot_confusion, plot_predictions
from ntkit.plotting.spectrum import plot_eigenvalues, plot_learning_times
from ntkit.plotting.style import as_svg
from ntkit.plotting.theory import (
    plot_learning_curve,
    plot_mercer_spectrum,
    plot_output_distribution,
    plot_phase_diagram,
    plot_width_decay,
)

__all__ = [
    "as_svg",
    "plot_confusion",
    "plot_course",
    "plot_eigenvalues",
    "plot_functions_on_circle",
    "plot_interval_calibration",
    "plot_kernel_on_circle",
    "plot_kernel_track",
    "plot_learning_curve",
    "plot_learning_times",
    "plot_linearization_gap",
    "plot_losses",
    "plot_mercer_spectrum",
    "plot_output_distribution",
    "plot_phase_diagram",
    "plot_predictions",
    "plot_reliability",
    "plot_stopping",
    "plot_width_decay",
]
