"""How far observations scatter about predicted functions: noise variances from out-of-sample predictions."""

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import eigh

from ntkit.inference.class_probabilities import class_probabilities

SMALLEST_NOISE, LARGEST_NOISE = 1e-6, 10.0
"""Range of the search, in units of the encoded targets' mean square."""

NOISES = 57
"""Grid points of the search; neighbours differ by a third, finer than such an estimate can be."""

CLASS_NOISES = 19


def regression_noise(
    y: Float[np.ndarray, "n k"], mean: Float[np.ndarray, "n k"], variance: Float[np.ndarray, " n"]
) -> float:
    """The noise variance s that maximises `sum log N(y; mean, variance + s)` over a logarithmic grid.

    `mean` and `variance` are predictions of rows that their model did not see.
    """
    grid = _grid(y, NOISES)
    total = variance[:, None] + grid[None, :]
    squares = np.sum((y - mean) ** 2, axis=1)
    log_density = -0.5 * (y.shape[1] * np.log(total) + squares[:, None] / total)
    return float(grid[np.argmax(log_density.sum(axis=0))])


def class_noise(
    codes: Int[np.ndarray, " n"], scores: Float[np.ndarray, "n k"], variance: Float[np.ndarray, " n"]
) -> float:
    """The noise variance of class scores that minimises the log loss of class probabilities on unseen rows."""
    one_hot = np.eye(scores.shape[1])[codes]
    grid = _grid(one_hot - one_hot.mean(axis=0)[None, :], CLASS_NOISES)
    rows = np.arange(len(codes))
    losses = []
    for noise in grid:
        probabilities = class_probabilities(scores, np.sqrt(variance + noise))
        losses.append(-np.mean(np.log(np.clip(probabilities[rows, codes], 1e-15, 1.0))))
    return float(grid[int(np.argmin(losses))])


def evidence_noise(gram: Float[np.ndarray, "n n"], y: Float[np.ndarray, "n k"]) -> float:
    """The noise variance that maximises the log marginal likelihood for a fixed kernel, over a logarithmic grid.

    In the Gram matrix's eigenbasis the likelihood of every noise costs O(n) (Rasmussen and Williams 2006, eq. 2.30).
    """
    eigenvalues, eigenvectors = eigh(gram)
    squares = np.sum((eigenvectors.T @ y) ** 2, axis=1)
    grid = _grid(y, NOISES)
    total = np.clip(eigenvalues, 0.0, None)[:, None] + grid[None, :]
    value = -0.5 * np.sum(y.shape[1] * np.log(total) + squares[:, None] / total, axis=0)
    return float(grid[np.argmax(value)])


def _grid(y: Float[np.ndarray, "n k"], points: int) -> Float[np.ndarray, " g"]:
    unit = float(np.mean(y**2))
    return unit * np.geomspace(SMALLEST_NOISE, LARGEST_NOISE, points)
