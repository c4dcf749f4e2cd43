"""How good predictions are: errors, probabilistic scores, and calibration, on held-out rows."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm

SMALLEST_PROBABILITY = 1e-15
"""Class probabilities are clipped here before the logarithm, so that one certain mistake stays finite."""


@dataclass(frozen=True)
class Scores:
    """Scores on held-out rows; those that do not apply are None.

    Attributes:
        rmse: Root mean squared error, in the target's units.
        mae: Mean absolute error, in the target's units.
        r2: Coefficient of determination, 1 - MSE / variance of the test targets.
        log_density: Mean log predictive density of the target, in nats, per row (larger is better).
        coverage: Fraction of rows inside their central interval.
        accuracy: Fraction of rows whose most probable class is right.
        log_loss: Mean negative log probability of the right class, in nats.
        brier: Mean squared distance of the probability vector from the one-hot class, in [0, 2].
    """

    rmse: float | None = None
    mae: float | None = None
    r2: float | None = None
    log_density: float | None = None
    coverage: float | None = None
    accuracy: float | None = None
    log_loss: float | None = None
    brier: float | None = None


@dataclass(frozen=True)
class Calibration:
    """What was promised against what came true.

    Attributes:
        nominal: Promised: the intervals' probability, or the mean probability of the predicted class in a bin.
        observed: Fraction of test rows inside the interval, or of right predictions in the bin.
        counts: Test rows behind each point.
    """

    nominal: Float[np.ndarray, " p"]
    observed: Float[np.ndarray, " p"]
    counts: Int[np.ndarray, " p"]


def regression_scores(
    y: Float[np.ndarray, " m"], mean: Float[np.ndarray, " m"], std: Float[np.ndarray, " m"], level: float
) -> Scores:
    """Scores of Gaussian predictions `N(mean, std^2)` of new observations `y`."""
    residual = y - mean
    mse = float(np.mean(residual**2))
    spread = float(np.var(y))
    return Scores(
        rmse=mse**0.5,
        mae=float(np.mean(np.abs(residual))),
        r2=1.0 - mse / spread if spread > 0.0 else None,
        log_density=float(np.mean(norm.logpdf(y, loc=mean, scale=np.maximum(std, 1e-300)))),
        coverage=float(np.mean(np.abs(residual) <= norm.ppf(0.5 + 0.5 * level) * std)),
    )


def classification_scores(codes: Int[np.ndarray, " m"], probabilities: Float[np.ndarray, "m k"]) -> Scores:
    """Scores of class probabilities against the true class numbers."""
    right = probabilities[np.arange(len(codes)), codes]
    one_hot = np.eye(probabilities.shape[1])[codes]
    return Scores(
        accuracy=float(np.mean(np.argmax(probabilities, axis=1) == codes)),
        log_loss=float(-np.mean(np.log(np.clip(right, SMALLEST_PROBABILITY, 1.0)))),
        brier=float(np.mean(np.sum((probabilities - one_hot) ** 2, axis=1))),
    )


def interval_calibration(
    y: Float[np.ndarray, " m"], mean: Float[np.ndarray, " m"], std: Float[np.ndarray, " m"]
) -> Calibration:
    """Coverage of the central intervals at 19 levels, 5 % to 95 %."""
    nominal = np.linspace(0.05, 0.95, 19)
    half = norm.ppf(0.5 + 0.5 * nominal)
    observed = np.mean(np.abs(y - mean)[:, None] <= half[None, :] * std[:, None], axis=0)
    return Calibration(nominal, observed, np.full(len(nominal), len(y)))


def class_calibration(
    codes: Int[np.ndarray, " m"], probabilities: Float[np.ndarray, "m k"], bins: int = 10
) -> Calibration:
    """Reliability: how often the predicted class is right, by the probability it was given (equal-width bins)."""
    confidence = probabilities.max(axis=1)
    right = np.argmax(probabilities, axis=1) == codes
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    used = np.unique(which)
    return Calibration(
        nominal=np.array([confidence[which == b].mean() for b in used]),
        observed=np.array([right[which == b].mean() for b in used]),
        counts=np.array([(which == b).sum() for b in used]),
    )
