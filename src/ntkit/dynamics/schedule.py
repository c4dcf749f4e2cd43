"""Learning rates that change in steps: what a flow has travelled by a time, and how many steps each rate took."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class PiecewiseConstant:
    """A learning rate that is constant between boundaries.

    Gradient flow knows only the distance `∫ η dt`, so a schedule merely stretches its time; gradient descent
    multiplies the factors `(1 - η_j λ)^{k_j}` of its pieces.

    Args:
        rates: the learning rates, positive, one more than boundaries.
        boundaries: increasing times (for a flow) or whole numbers of steps (for descent) at which the next begins.

    Raises:
        ValueError: for other numbers.

    >>> schedule = PiecewiseConstant(rates=(1.0, 0.1), boundaries=(10.0,))
    >>> schedule.distance([5.0, 10.0, 30.0]).tolist()
    [5.0, 10.0, 12.0]
    """

    rates: tuple[float | int, ...]
    boundaries: tuple[float | int, ...] = ()

    def __post_init__(self) -> None:
        rates, boundaries = (tuple(float(value) for value in part) for part in (self.rates, self.boundaries))
        if not rates or not all(np.isfinite(rate) and rate > 0 for rate in rates):
            raise ValueError(
                f"PiecewiseConstant needs a positive, finite learning_rate in each piece, got {rates}."
            )
        if len(boundaries) != len(rates) - 1:
            raise ValueError(
                f"PiecewiseConstant needs one boundary between two rates, got {len(rates)} rates and "
                f"{len(boundaries)} boundaries."
            )
        edges = np.array((0.0, *boundaries, np.inf))
        if not np.isfinite(boundaries).all() or not (np.diff(edges) > 0).all():
            raise ValueError(
                f"PiecewiseConstant needs positive, increasing, finite boundaries, got {boundaries}."
            )
        object.__setattr__(self, "rates", rates)
        object.__setattr__(self, "boundaries", boundaries)

    @property
    def edges(self) -> Float[np.ndarray, " pieces_and_one"]:
        """The ends of the pieces, from 0 to infinity."""
        return np.array((0.0, *self.boundaries, np.inf))

    @property
    def largest(self) -> float:
        """The largest rate."""
        return max(self.rates)

    def spent(self, moments: Any) -> Float[np.ndarray, "pieces t"]:
        """How much of each moment (time or number of steps) fell into each piece."""
        moments = np.asarray(moments, np.float64).reshape(-1)
        starts, ends = self.edges[:-1, None], self.edges[1:, None]
        return np.clip(np.minimum(moments[None, :], ends) - starts, 0.0, None)

    def distance(self, moments: Any) -> Float[np.ndarray, " t"]:
        """`∫ η dt` up to each moment."""
        return (np.array(self.rates)[:, None] * self.spent(moments)).sum(axis=0)

    def rate_at(self, moments: Any) -> Float[np.ndarray, " t"]:
        """The rate in force at each moment; at a boundary, the next one."""
        return np.array(self.rates)[np.searchsorted(self.boundaries, np.asarray(moments), side="right")]

    def time_at(self, distances: Any) -> Any:
        """The time by which each distance (a number or an array) has been travelled, the inverse of `distance`."""
        corners = self.distance(self.edges[:-1])
        piece = np.searchsorted(corners, np.asarray(distances), side="right") - 1
        return self.edges[piece] + (np.asarray(distances) - corners[piece]) / np.array(self.rates)[piece]
