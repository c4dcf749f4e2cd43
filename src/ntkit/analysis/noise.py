"""How far observations scatter about predicted functions: noise variances from out-of-sample predictions."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import eigh
from scipy.optimize import minimize_scalar

from ntkit.inference.class_probabilities import class_probabilities

SMALLEST_NOISE, LARGEST_NOISE = 1e-6, 10.0
"""Range of the search, in units of the encoded targets' mean square."""

TOLERANCE = 0.05
"""The logarithm of a noise variance is found to this accuracy, finer than such an estimate can be."""

MOST_CLASS_ROWS = 500
"""Rows, evenly spaced, used to choose the noise of class scores: one number needs no more."""


def regression_noise(
    y: Float[np.ndarray, "n k"], mean: Float[np.ndarray, "n k"], variance: Float[np.ndarray, " n"]
) -> float:
    """The noise variance s that maximises `sum log N(y; mean, variance + s)`.

    `mean` and `variance` are predictions of rows that their model did not see.
    """
    squares = np.sum((y - mean) ** 2, axis=1)

    def loss(noise: float) -> float:
        total = variance + noise
        return float(np.mean(y.shape[1] * np.log(total) + squares / total))

    return _best_noise(loss, float(np.mean(y**2)))


def class_noise(
    codes: Int[np.ndarray, " n"], scores: Float[np.ndarray, "n k"], variance: Float[np.ndarray, " n"]
) -> float:
    """The noise variance of class scores that minimises the log loss of class probabilities on unseen rows."""
    chosen = np.linspace(0, len(codes) - 1, min(len(codes), MOST_CLASS_ROWS)).astype(np.int64)
    codes, scores, variance = codes[chosen], scores[chosen], variance[chosen]
    rows = np.arange(len(codes))

    def loss(noise: float) -> float:
        probabilities = class_probabilities(scores, np.sqrt(variance + noise))
        return float(-np.mean(np.log(np.clip(probabilities[rows, codes], 1e-15, 1.0))))

    classes = scores.shape[1]
    return _best_noise(loss, (classes - 1.0) / classes**2)


def evidence_noise(gram: Float[np.ndarray, "n n"], y: Float[np.ndarray, "n k"]) -> float:
    """The noise variance that maximises the log marginal likelihood for a fixed kernel.

    In the Gram matrix's eigenbasis the likelihood of every noise costs O(n) (Rasmussen and Williams 2006, eq. 2.30).
    """
    eigenvalues, eigenvectors = eigh(gram)
    squares = np.sum((eigenvectors.T @ y) ** 2, axis=1)
    eigenvalues = np.clip(eigenvalues, 0.0, None)

    def loss(noise: float) -> float:
        total = eigenvalues + noise
        return float(np.sum(y.shape[1] * np.log(total) + squares / total))

    return _best_noise(loss, float(np.mean(y**2)))


def _best_noise(loss: Callable[[float], float], unit: float) -> float:
    """The noise variance with the smallest loss, by Brent's method on its logarithm, in units of `unit`."""
    found = minimize_scalar(
        lambda logarithm: loss(unit * float(np.exp(logarithm))),
        bounds=(np.log(SMALLEST_NOISE), np.log(LARGEST_NOISE)),
        method="bounded",
        options={"xatol": TOLERANCE},
    )
    return unit * float(np.exp(found.x))
