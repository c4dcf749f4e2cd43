"""What the spectrum of the chosen network's kernel predicts, for the report: bounded in rows and in time."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from ntkit.analysis.depth import DepthLimit, depth_limit
from ntkit.analysis.prediction_curve import CurveComparison, compare_learning_curves
from ntkit.analysis.spectral import SpectralAnalysis, spectra
from ntkit.model.fitted import FittedModel
from ntkit.model.network_kernels import NetworkKernels
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


def look_ahead(
    model: FittedModel, kernels: NetworkKernels, rows: Int[np.ndarray, " n"], seed: int
) -> Outlook:
    """Everything that the spectrum says about a fitted table; `rows` are its training rows' numbers."""
    chosen = limit_rows(len(model.x), MOST_ROWS, seed)
    inputs, x, y = model.x[chosen], kernels.train[chosen], model.y[chosen]
    found = spectra(kernels.ntk, kernels.nngp, x, y, rows[chosen], inputs=inputs, ridge=model.noise)
    kernel = kernels.named(model.kernel)
    return Outlook(
        rows=len(x),
        spectral=found,
        curve=compare_learning_curves(kernel, x, y, ridge=model.noise, repeats=REPEATS, seed=seed),
        depth=depth_limit(model.network, inputs),
    )
