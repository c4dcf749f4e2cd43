"""What training up to a given moment does to each eigendirection: the one place of these formulas.

In the eigenbasis of the tangent kernel every direction is learnt on its own. A `SpectralFilter` says, per
eigenvalue, which fraction of the initial error remains, `r(λ)`, and the weight of the tangent kernel in the
prediction, `(1 - r(λ)) / λ`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ntkit.solvers import Spectrum


class SpectralFilter(ABC):
    """The state of training at T moments, as a function of the eigenvalues."""

    @property
    @abstractmethod
    def distance(self) -> Float[np.ndarray, " t"]:
        """Learning rate times time, or times steps: the limit of `(1 - r(λ)) / λ` as `λ -> 0`."""

    @abstractmethod
    def log_remaining(self, eigenvalues: Float[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
        """Sign of `r(λ)` and logarithm of `|r(λ)|`, each of shape (t, n), for positive eigenvalues."""

    def remaining(self, spectrum: Spectrum) -> Float[np.ndarray, "t n"]:
        """The fraction `r(λ)` of the initial error that is left in each direction; null directions keep theirs."""
        retained = spectrum.retained
        remaining = np.ones((len(self.distance), len(retained)))
        sign, logarithm = self.log_remaining(spectrum.eigenvalues[retained])
        remaining[:, retained] = sign * np.exp(logarithm)
        return remaining

    def learnt(self, spectrum: Spectrum) -> Float[np.ndarray, "t n"]:
        """The weight `(1 - r(λ)) / λ` of each direction in the prediction, without cancellation at early times.

        In a null direction the weight is its limit `distance`, faded out where `distance` has reached
        `1 / sqrt(cutoff λ_max)`: up to there even an eigenvalue just below the cutoff moves test outputs as it
        should, and beyond it `distance` would magnify rounding without end. At infinity the weight is 0, so that
        the limit of training is kernel regression on the directions that are more than rounding.
        """
        retained, distance = spectrum.retained, self.distance[:, None]
        learnt = np.zeros((len(self.distance), len(retained)))
        fade = np.sqrt(spectrum.cutoff * max(float(spectrum.eigenvalues[-1]), 0.0))
        finite = np.where(np.isfinite(distance), distance, 0.0)
        learnt[:, ~retained] = finite * np.exp(-finite * fade)
        eigenvalues = spectrum.eigenvalues[retained]
        sign, logarithm = self.log_remaining(eigenvalues)
        learnt[:, retained] = (
            np.where(sign > 0, -np.expm1(logarithm), 1.0 + np.exp(logarithm)) / eigenvalues[None, :]
        )
        return learnt


@dataclass(frozen=True, eq=False)
class FlowFilter(SpectralFilter):
    """Gradient flow: `r(λ) = exp(-η λ t)`.

    Args:
        learning_rate: η, already divided by the loss's reduction.
        times: t, shape (t,), at least 0; infinity is training to convergence.
    """

    learning_rate: float
    times: Float[np.ndarray, " t"]

    @property
    def distance(self) -> Float[np.ndarray, " t"]:
        return self.learning_rate * self.times

    def log_remaining(self, eigenvalues: Float[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
        logarithm = -self.distance[:, None] * eigenvalues[None, :]
        return np.ones_like(logarithm), logarithm


@dataclass(frozen=True, eq=False)
class DescentFilter(SpectralFilter):
    """Gradient descent: `r(λ) = (1 - η λ)^k`, through logarithms, so that `k` may be huge.

    Beyond `η λ = 1` the factor is negative, and its power alternates in sign.

    Args:
        learning_rate: η, already divided by the loss's reduction; below `2 / λ_max`.
        steps: k, shape (t,), whole numbers of at least 0 or infinity, as floats.
        odd: whether each k is odd, shape (t,); kept apart because a float forgets it beyond 2^53.
    """

    learning_rate: float
    steps: Float[np.ndarray, " t"]
    odd: np.ndarray

    @property
    def distance(self) -> Float[np.ndarray, " t"]:
        return self.learning_rate * self.steps

    def log_remaining(self, eigenvalues: Float[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
        moved = self.learning_rate * eigenvalues
        # |1 - m| is 1 - m or m - 1 = 1 + (m - 2); m - 2 is exact for 1 <= m <= 2, so no digits are lost near 2.
        with np.errstate(divide="ignore"):  # m = 1: the direction is learnt in a single step, log 0 = -inf
            per_step = np.log1p(np.where(moved > 1.0, moved - 2.0, -moved))
        steps = self.steps[:, None]
        logarithm = np.where(steps > 0, np.maximum(steps, 1.0) * per_step[None, :], 0.0)
        sign = np.where(self.odd[:, None] & (moved > 1.0)[None, :], -1.0, 1.0)
        return sign, logarithm
