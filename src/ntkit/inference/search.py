"""One gradient-based climb of a selection criterion, in bounded time, keeping the best point seen."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize

from ntkit.errors import NotPositiveDefiniteError
from ntkit.inference.evidence import Criterion
from ntkit.inference.gram_gradient import DifferentiableGram
from ntkit.inference.search_space import SearchSpace

Ending = Literal["converged", "iteration limit", "time limit", "interrupted", "failed"]


@dataclass(frozen=True)
class Deadline:
    """A moment on a clock.

    Attributes:
        clock: seconds since any fixed moment, such as `time.monotonic`.
        moment: the clock's reading at which time is up; infinite for no limit.
    """

    clock: Callable[[], float]
    moment: float

    @property
    def remaining(self) -> float:
        """Seconds left, never below 0."""
        return max(self.moment - self.clock(), 0.0)

    @property
    def passed(self) -> bool:
        """Whether time is up."""
        return self.remaining == 0.0

    def share(self, fraction: float) -> "Deadline":
        """The moment when that fraction of the remaining time will have gone."""
        return Deadline(self.clock, self.clock() + fraction * self.remaining)


@dataclass(frozen=True)
class Climb:
    """The outcome of one climb.

    Attributes:
        coordinates: the best point, in search coordinates.
        value: the objective there; minus infinity when no point had one.
        start_value: the objective at the start; minus infinity when it had none.
        evaluations: how often the criterion was evaluated.
        ending: why the climb ended.
    """

    coordinates: Float[np.ndarray, " p"]
    value: float
    start_value: float
    evaluations: int
    ending: Ending


class Objective:
    """A criterion plus the log prior, and the gradient, as functions of search coordinates; always in float64.

    Args:
        space: the networks searched.
        criterion: a criterion of `ntkit.inference.evidence`.
    """

    def __init__(self, space: SearchSpace, criterion: Criterion) -> None:
        self.space = space
        self._criterion = criterion
        self._gram = DifferentiableGram(space.family)

    def __call__(
        self, coordinates: Float[np.ndarray, " p"], x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n k"]
    ) -> tuple[float, Float[np.ndarray, " p"]]:
        """The sum and its gradient in the coordinates; minus infinity and zeros where the criterion does not exist."""
        noise = self.space.names.index("noise")
        values = self.space.values(coordinates)
        try:
            evidence = self._criterion(self._gram.gram(values, x), float(values[noise]), y)
        except NotPositiveDefiniteError:
            return -np.inf, np.zeros_like(coordinates)
        slopes = self._gram.pullback(values, x, evidence.gram)
        slopes[noise] += evidence.noise
        gradient = slopes * values * self.space.spread - coordinates
        if not (np.isfinite(evidence.value) and np.isfinite(gradient).all()):
            return -np.inf, np.zeros_like(coordinates)
        return evidence.value + self.space.log_prior(coordinates), gradient


class _Stop(Exception):
    """Leaves the optimiser from inside the objective."""

    def __init__(self, ending: Ending) -> None:
        self.ending: Ending = ending


def climb(
    objective: Objective,
    start: Float[np.ndarray, " p"],
    x: Float[np.ndarray, "n d"],
    y: Float[np.ndarray, "n k"],
    *,
    iterations: int,
    deadline: Deadline,
) -> Climb:
    """Maximise an objective from one start by L-BFGS-B within the space's bounds (Byrd et al. 1995).

    The deadline is checked before every evaluation but the first, so it is overrun by one evaluation
    at most. An interrupt (Ctrl-C) ends the climb like a deadline. Where the criterion does not exist
    (the kernel overflows or has no Cholesky factor), the optimiser sees a value far below the worst so
    far and turns back.
    """
    best_point, best, start_value, worst, evaluations = start, -np.inf, -np.inf, 0.0, 0

    def negative(point: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal best_point, best, start_value, worst, evaluations
        if evaluations and deadline.passed:
            raise _Stop("time limit")
        value, gradient = objective(point, x, y)
        # Per target, so that the tolerances mean the same for every size of the data.
        value, gradient = value / y.size, gradient / y.size
        evaluations += 1
        if evaluations == 1:
            start_value = value
        if not np.isfinite(value):
            if evaluations == 1:
                raise _Stop("failed")
            return worst + 10.0 * (1.0 + abs(worst)), gradient
        worst = -value if evaluations == 1 else max(worst, -value)
        if value > best:
            best_point, best = point.copy(), value
        return -value, -gradient

    try:
        result = minimize(
            negative,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=objective.space.bounds,
            options={"maxiter": iterations, "maxfun": 2 * iterations, "ftol": 1e-8, "gtol": 1e-5},
        )
        ending: Ending = "iteration limit" if result.status == 1 else "converged"
    except _Stop as stop:
        ending = stop.ending
    except KeyboardInterrupt:
        ending = "interrupted"
    return Climb(best_point, best * y.size, start_value * y.size, evaluations, ending)
