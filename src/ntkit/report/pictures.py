"""Which pictures the report shows, drawn from an analysis."""

import numpy as np
from matplotlib.figure import Figure

from ntkit.analysis.results import Analysis
from ntkit.analysis.spectral import SpectralAnalysis
from ntkit.plotting import (
    plot_confusion,
    plot_eigenvalues,
    plot_interval_calibration,
    plot_learning_curve,
    plot_learning_times,
    plot_losses,
    plot_predictions,
    plot_reliability,
    plot_stopping,
)
from ntkit.report.text import fixed, number


def draw_all(analysis: Analysis) -> dict[str, Figure]:
    """Every picture of the report by name."""
    learning, spectrum = analysis.learning, analysis.spectrum
    finite, stopping, curve = learning.finite, learning.stopping, analysis.outlook.curve
    pictures = {
        "predictions": _predictions(analysis),
        "calibration": _calibration(analysis),
        "stopping": plot_stopping(
            stopping.times, stopping.losses, stopping.best, learning.times, learning.mean_test_loss
        ),
        "eigenvalues": plot_eigenvalues(spectrum.ntk, spectrum.nngp),
        "learning_curve": plot_learning_curve(
            curve.samples, curve.predicted, curve.samples, curve.measured, curve.standard_error
        ),
        "learning_times": plot_learning_times(spectrum.timescales, spectrum.projections, stopping.best_time),
    }
    if finite is None:
        pictures["losses"] = plot_losses(learning.times, learning.train_loss, learning.test_loss)
    else:
        pictures["losses"] = plot_losses(
            learning.times,
            learning.train_loss,
            learning.test_loss,
            finite.times,
            finite.train_loss,
            finite.test_loss,
            finite.width,
        )
    return pictures


def draw_eigenvalues(found: SpectralAnalysis) -> Figure:
    """Both spectra, and the decay fitted to a part of the tangent kernel's."""
    if found.decay is None:
        return plot_eigenvalues(found.ntk, found.nngp)
    numbers = np.arange(found.decay_range[0], found.decay_range[1] + 1, dtype=np.float64)
    label = f"decay {fixed(found.decay.exponent, 2)} ± {number(found.decay.standard_error, 1)}"
    return plot_eigenvalues(found.ntk, found.nngp, numbers, found.decay(numbers), label)


def _predictions(analysis: Analysis) -> Figure:
    """The model's own distribution against the truth."""
    chosen = analysis.predictions[analysis.model.distribution]
    target = analysis.model.encoder.target
    if chosen.probabilities is None:
        lower, upper = chosen.interval
        return plot_predictions(
            analysis.test_targets[:, 0], chosen.mean[:, 0], lower, upper, target.name, chosen.level
        )
    classes = len(target.classes)
    truth = np.argmax(analysis.test_targets, axis=1)
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (truth, chosen.codes), 1)
    return plot_confusion(counts, target.classes)


def _calibration(analysis: Analysis) -> Figure:
    """All distributions in one picture; an early-stopped ensemble that never stops is not shown twice."""
    curves = {
        analysis.predictions[name].distribution: calibration
        for name, calibration in analysis.calibration.items()
    }
    return plot_interval_calibration(curves) if analysis.task == "regression" else plot_reliability(curves)
