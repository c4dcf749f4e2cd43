"""What the spectrum of the chosen network's kernel predicts, for the report: bounded in rows and in time."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from ntkit.analysis.depth import DepthLimit, depth_limit
from ntkit.analysis.prediction_curve import CurveComparison, compare_learning_curves
from ntkit.analysis.spectral import SpectralAnalysis, spectral_analysis
from ntkit.model.table_model import TableModel, kernel_of
from ntkit.tables.split import limit_rows

MOST_ROWS = 1000
"""Spectra are of at most so many training rows: each is diagonalised several times."""

REPEATS = 8
"""Random subsets of each size, for the measured learning curve."""


@dataclass(frozen=True)
class Outlook:
    """Predictions from the spectrum, before any training.

    Attributes:
        rows: training rows used.
        spectral: the spectra of NTK and NNGP, with the model's noise as ridge.
        curve: learning curves of the model's own kernel at its noise.
        depth: where the network lies between order and chaos.
    """

    rows: int
    spectral: SpectralAnalysis
    curve: CurveComparison
    depth: DepthLimit


def look_ahead(model: TableModel, rows: Int[np.ndarray, " n"], seed: int) -> Outlook:
    """Everything that the spectrum says about a fitted table; `rows` are its training rows' numbers."""
    chosen = limit_rows(len(model.x), MOST_ROWS, seed)
    x, y = model.x[chosen], model.y[chosen]
    kernel = kernel_of(model.network, model.kernel)
    return Outlook(
        rows=len(x),
        spectral=spectral_analysis(model.network, x, y, rows[chosen], ridge=model.noise),
        curve=compare_learning_curves(kernel, x, y, ridge=model.noise, repeats=REPEATS, seed=seed),
        depth=depth_limit(model.network, x),
    )
