"""Landmarks of the Nyström method: few points in whose span the kernel's functions are to lie."""

from collections.abc import Callable

import numpy as np
import scipy.optimize
from sklearn.cluster import kmeans_plusplus

from ntkit.kernels.base import Kernel
from ntkit.rkhs.compression import pivoted_cholesky
from ntkit.solvers import decompose

Choice = Callable[[Kernel, np.ndarray, int, np.random.RandomState], np.ndarray]
"""Kernel, points (n, d), how many, random state -> positions of the landmarks among the points."""


def _uniform(kernel: Kernel, x: np.ndarray, count: int, random: np.random.RandomState) -> np.ndarray:
    """Without replacement, all points alike: no kernel is evaluated."""
    return random.choice(len(x), count, replace=False)


def _spread(kernel: Kernel, x: np.ndarray, count: int, random: np.random.RandomState) -> np.ndarray:
    """The seeding of k-means++: far from each other in the inputs (Arthur & Vassilvitskii 2007)."""
    return kmeans_plusplus(x, count, random_state=random)[1]


def _leverage(kernel: Kernel, x: np.ndarray, count: int, random: np.random.RandomState) -> np.ndarray:
    """With probability proportional to the ridge leverage score `[K (K + λI)^{-1}]_ii` (Alaoui & Mahoney 2015).

    λ is such that the scores sum to half of `count`, so that few points are told from many.
    """
    spectrum = decompose(kernel(x), name=repr(kernel), who="Nystrom")
    eigenvalues = np.where(spectrum.retained, spectrum.eigenvalues, 0.0)
    largest = eigenvalues[-1]
    if largest == 0:
        return _uniform(kernel, x, count, random)

    def excess(logarithm: float) -> float:
        return (eigenvalues / (eigenvalues + largest * np.exp(logarithm))).sum() - count / 2

    lowest, highest = np.log(np.finfo(float).eps) - 1.0, np.log(len(x)) + 2.0
    solvable = excess(lowest) > 0 > excess(highest)
    logarithm = scipy.optimize.brentq(excess, lowest, highest) if solvable else lowest
    scores = spectrum.eigenvectors**2 @ (eigenvalues / (eigenvalues + largest * np.exp(logarithm)))
    # A choice without replacement needs as many positive scores.
    scores = np.maximum(scores, 1e-12 * scores.max())
    return random.choice(len(x), count, replace=False, p=scores / scores.sum())


def _pivots(kernel: Kernel, x: np.ndarray, count: int, random: np.random.RandomState) -> np.ndarray:
    """The first pivots of a pivoted Cholesky factorisation: each the point worst represented by those before."""
    return pivoted_cholesky(np.asarray(kernel(x)), float(np.finfo(np.float64).eps))[0][:count]


LANDMARKS: dict[str, Choice] = {
    "uniform": _uniform,
    "kmeans++": _spread,
    "leverage": _leverage,
    "pivoted_cholesky": _pivots,
}
"""The choices by name."""
