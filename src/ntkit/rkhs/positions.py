"""Where a descent stands: a function, how a functional looks from there, and how to step on."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ntkit.rkhs.expansion import Expansion
from ntkit.rkhs.functional import Functional
from ntkit.rkhs.span import Coordinates, Span
from ntkit.rkhs.stability import stable_step


class View(NamedTuple):
    """What is seen of a functional at a function.

    Attributes:
        value: the functional's value.
        norm: the function's norm.
        gradient_norm: the norm of the functional's gradient.
        move: the position after a step of a given size against the gradient.
    """

    value: float
    norm: float
    gradient_norm: float
    move: Callable[[float], "Position"]

    @property
    def is_finite(self) -> bool:
        """Whether value, norm and gradient are finite."""
        return bool(np.isfinite([self.value, self.norm, self.gradient_norm]).all())


class Position(ABC):
    """A function that a descent has reached."""

    @abstractmethod
    def look(self, functional: Functional) -> View:
        """The functional at the function."""

    @abstractmethod
    def stable_step(self, functional: Functional) -> float:
        """The step size from which a descent is known to diverge; infinite where that is not known."""

    @abstractmethod
    def expansion(self) -> Expansion:
        """The function."""


@dataclass(frozen=True, eq=False)
class FreePosition(Position):
    """A function whose centres may change from step to step; every step evaluates the kernel."""

    function: Expansion

    def look(self, functional: Functional) -> View:
        differential = functional.differential(self.function)
        if not differential.is_finite:
            return View(differential.value, np.nan, np.nan, lambda _: self)
        gradient = differential.gradient(self.function)
        return View(
            differential.value,
            float(self.function.norm()),
            float(gradient.norm()),
            lambda step_size: FreePosition(self.function - step_size * gradient),
        )

    def stable_step(self, functional: Functional) -> float:
        return np.inf

    def expansion(self) -> Expansion:
        return self.function


@dataclass(frozen=True, eq=False)
class FixedPosition(Position):
    """A function on centres that stay; the Gram matrix was evaluated once."""

    function: Coordinates

    def look(self, functional: Functional) -> View:
        differential = functional.differential(self.function)
        span = self.function.span
        gradient = span.at(span.gradient(self.function, differential))
        return View(
            differential.value,
            float(np.sqrt(self.function.squared_norm())),
            float(np.sqrt(gradient.squared_norm())),
            lambda step_size: FixedPosition(self.function.plus(-step_size, gradient)),
        )

    def stable_step(self, functional: Functional) -> float:
        return stable_step(functional, self.function) if functional.is_quadratic else np.inf

    def expansion(self) -> Expansion:
        return self.function.expansion()


def place(functional: Functional, f0: Expansion) -> Position:
    """The start of a descent: on fixed centres where the functional tells its points."""
    points = functional.points
    if points is None:
        return FreePosition(f0)
    return FixedPosition(Span.of(f0.kernel, (f0.centers, *points)).coordinates(f0))
