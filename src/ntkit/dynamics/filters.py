"""What training up to a given moment does to each eigendirection: the one place of these formulas.

In the eigenbasis of the tangent kernel every direction is learnt on its own. A `SpectralFilter` says, per
eigenvalue, which fraction of the initial error remains, `r(λ)`, and the weight of the tangent kernel in the
prediction, `(1 - r(λ)) / λ`. A ridge ρ shifts the eigenvalue at which the weight is taken.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ntkit.dynamics.schedule import PiecewiseConstant
from ntkit.solvers import Spectrum


@dataclass(frozen=True, eq=False)
class SpectralFilter(ABC):
    """The state of training at T moments, as a function of the eigenvalues.

    Args:
        ridge: ρ, added to every eigenvalue by weight decay toward the initialisation, at least 0.
    """

    ridge: float

    @property
    @abstractmethod
    def distance(self) -> Float[np.ndarray, " t"]:
        """The limit of `(1 - r(λ)) / λ` as `λ -> 0`: learning rate times time, or times steps, without momentum."""

    @abstractmethod
    def response(self, eigenvalues: Float[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
        """`r(λ)` and `(1 - r(λ)) / λ` without ridge, each of shape (t, n), for positive eigenvalues."""

    def remaining(self, spectrum: Spectrum) -> Float[np.ndarray, "t n"]:
        """The fraction of the initial error that is left in each direction; null directions keep theirs.

        The ridge leaves `ρ / (λ + ρ)` for good: `(ρ + λ r(λ + ρ)) / (λ + ρ)`.
        """
        retained = spectrum.retained
        eigenvalues = spectrum.eigenvalues[retained]
        remaining = np.ones((len(self.distance), len(retained)))
        left, _ = self.response(eigenvalues + self.ridge)
        remaining[:, retained] = (self.ridge + eigenvalues[None, :] * left) / (eigenvalues + self.ridge)[
            None, :
        ]
        return remaining

    def learnt(self, spectrum: Spectrum) -> Float[np.ndarray, "t n"]:
        """The weight `(1 - r(λ + ρ)) / (λ + ρ)` of each direction, without cancellation at early times.

        In a null direction the weight is its limit at `λ = 0`, faded out where it has reached
        `1 / sqrt(cutoff λ_max)`: up to there even an eigenvalue just below the cutoff moves test outputs as it
        should, and beyond it the weight would magnify rounding without end. Without ridge, the weight at infinity is
        0, so that the limit of training is kernel regression on the directions that are more than rounding.
        """
        retained = spectrum.retained
        learnt = np.zeros((len(self.distance), len(retained)))
        fade = np.sqrt(spectrum.cutoff * max(float(spectrum.eigenvalues[-1]), 0.0))
        limit = self.response(np.array([self.ridge]))[1][:, 0] if self.ridge > 0 else self.distance
        finite = np.where(np.isfinite(limit), limit, 0.0)
        learnt[:, ~retained] = (finite * np.exp(-finite * fade))[:, None]
        learnt[:, retained] = self.response(spectrum.eigenvalues[retained] + self.ridge)[1]
        return learnt


def from_logarithm(
    sign: np.ndarray, logarithm: np.ndarray, eigenvalues: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`r` and `(1 - r) / λ` from the sign of r and the logarithm of its size."""
    learnt = np.where(sign > 0, -np.expm1(logarithm), 1.0 + np.exp(logarithm)) / eigenvalues[None, :]
    return sign * np.exp(logarithm), learnt


@dataclass(frozen=True, eq=False)
class FlowFilter(SpectralFilter):
    """Gradient flow: `r(λ) = exp(-λ s)`, `s = ∫ η dt`.

    Args:
        travelled: the distance s at each moment, shape (t,), at least 0; infinity is training to convergence.
        rates: the learning rate in force at each moment, already divided by the loss's reduction, shape (t,).
    """

    travelled: Float[np.ndarray, " t"]
    rates: Float[np.ndarray, " t"]

    @property
    def distance(self) -> Float[np.ndarray, " t"]:
        return self.travelled

    def response(self, eigenvalues: Float[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
        logarithm = -self.travelled[:, None] * eigenvalues[None, :]
        return from_logarithm(np.ones_like(logarithm), logarithm, eigenvalues)

    def speed(self, eigenvalues: Float[np.ndarray, " n"]) -> Float[np.ndarray, "t n"]:
        """How fast the weight of each direction grows, `η r(λ + ρ)`."""
        return self.rates[:, None] * self.response(eigenvalues + self.ridge)[0]


@dataclass(frozen=True, eq=False)
class DescentFilter(SpectralFilter):
    """Gradient descent: `r(λ) = Π_j (1 - η_j λ)^{k_j}`, through logarithms, so that the steps may be many.

    Beyond `η λ = 1` the factor is negative, and its power alternates in sign.

    Args:
        schedule: the learning rates η_j, already divided by the loss's reduction; all below `2 / (λ_max + ρ)`.
        steps: k, shape (t,), whole numbers of at least 0 or infinity, as floats.
        odd: whether each k is odd, shape (t,); kept apart because a float forgets it beyond 2^53.
    """

    schedule: PiecewiseConstant
    steps: Float[np.ndarray, " t"]
    odd: np.ndarray

    @property
    def distance(self) -> Float[np.ndarray, " t"]:
        return self.schedule.distance(self.steps)

    def response(self, eigenvalues: Float[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
        logarithm = np.zeros((len(self.steps), len(eigenvalues)))
        negative = np.zeros(logarithm.shape, dtype=bool)
        spent = self.schedule.spent(self.steps)
        for piece, rate in enumerate(self.schedule.rates):
            moved = rate * eigenvalues
            # |1 - m| is 1 - m or m - 1 = 1 + (m - 2); m - 2 is exact for 1 <= m <= 2: no digits are lost near 2.
            with np.errstate(
                divide="ignore"
            ):  # m = 1: the direction is learnt in a single step, log 0 = -inf
                per_step = np.log1p(np.where(moved > 1.0, moved - 2.0, -moved))
            steps = spent[piece][:, None]
            logarithm += np.where(steps > 0, np.maximum(steps, 1.0) * per_step[None, :], 0.0)
            negative ^= self._odd_in(piece, spent[piece])[:, None] & (moved > 1.0)[None, :]
        return from_logarithm(np.where(negative, -1.0, 1.0), logarithm, eigenvalues)

    def _odd_in(self, piece: int, spent: Float[np.ndarray, " t"]) -> np.ndarray:
        """Whether the number of steps in a piece is odd; boundaries are small enough for floats to know."""
        begun = spent > 0
        if piece < len(self.schedule.boundaries):
            finished = self.steps >= self.schedule.boundaries[piece]
            start, end = self.schedule.edges[piece], self.schedule.edges[piece + 1]
            return np.where(finished, (end - start) % 2 == 1, begun & (self.odd ^ (start % 2 == 1)))
        return begun & (self.odd ^ (self.schedule.edges[piece] % 2 == 1))
