"""What a functional is: a number for every function of a space, and its gradient in that space."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ntkit.numerics.dtypes import is_concrete
from ntkit.numerics.host import like
from ntkit.rkhs.element import Element
from ntkit.rkhs.expansion import Expansion

if TYPE_CHECKING:
    from ntkit.rkhs.functional_algebra import Scaled, Sum


class Differential(NamedTuple):
    """The value of a functional at f, and its gradient `own f + Σ_t Σ_i K(x_ti, ·) c_ti`.

    Attributes:
        value: the functional's value.
        own: the multiple of f itself in the gradient.
        terms: pairs of points (m, d) and coefficients (m, k).
    """

    value: float
    own: float
    terms: tuple[tuple[Any, np.ndarray], ...]

    def plus(self, other: "Differential") -> "Differential":
        """The differential of a sum."""
        return Differential(self.value + other.value, self.own + other.own, self.terms + other.terms)

    def times(self, factor: float, value: float) -> "Differential":
        """The differential of a functional of this one, whose derivative in it is `factor`."""
        terms = tuple((points, factor * coefficients) for points, coefficients in self.terms)
        return Differential(value, factor * self.own, terms)

    @property
    def is_finite(self) -> bool:
        """Whether value and gradient are finite."""
        arrays = [coefficients for _, coefficients in self.terms]
        return bool(np.isfinite([self.value, self.own]).all() and all(np.isfinite(a).all() for a in arrays))

    def gradient(self, f: Expansion) -> Expansion:
        """The gradient at `f` as a function."""
        gradient = self.own * f
        for points, coefficients in self.terms:
            gradient = gradient + Expansion(f.kernel, points, like(coefficients, points))
        return gradient


class Functional(ABC):
    """A differentiable functional `J` on the space of a kernel: a number `value(f)` for every function.

    Its `gradient(f)` is the function with `J[f + ε φ] = J[f] + ε ⟨∇J[f], φ⟩ + o(ε)` for every φ of the space.

    Functionals form an algebra: `J + I`, `J - I`, `-J`, `a * J`, `J / a`; scalar functions of them are
    `Composition(function, J)`. A new one defines `points`, `is_quadratic` and `differential`, which may look at f
    through `f.evaluate(points)` and `f.squared_norm()` only: so it serves expansions and, with a Gram matrix
    evaluated once, thousands of steps of descent. Functionals act on numbers, not under JAX transformations.
    """

    @property
    @abstractmethod
    def points(self) -> tuple[Any, ...] | None:
        """The sets of points that f is evaluated at, the same arrays for every f; None if they depend on f."""

    @property
    @abstractmethod
    def is_quadratic(self) -> bool:
        """Whether the gradient is known to be an affine function of f, so that one step size bound serves all f."""

    @abstractmethod
    def differential(self, f: Element) -> Differential:
        """Value and gradient at `f`; not finite where the functional is not."""

    def value(self, f: Expansion) -> float:
        """`J[f]`.

        Raises:
            ValueError: when it is not finite, or f does not fit the functional.
        """
        return self._checked(f).value

    def gradient(self, f: Expansion) -> Expansion:
        """`∇J[f]`, a function of the same space.

        Raises:
            ValueError: when it is not finite, or f does not fit the functional.
        """
        return self._checked(f).gradient(f)

    def _checked(self, f: Expansion) -> Differential:
        if not is_concrete(f):
            raise ValueError(
                "A functional needs concrete arrays, got values traced by JAX. Call it outside of jit."
            )
        differential = self.differential(f)
        if not differential.is_finite:
            raise ValueError(
                f"{self!r} needs a function at which it is finite, got value {differential.value}. Check the loss and "
                "the size of the function."
            )
        return differential

    def __add__(self, other: Any) -> "Sum":
        from ntkit.rkhs.functional_algebra import Sum

        return Sum(self, other) if isinstance(other, Functional) else NotImplemented

    def __sub__(self, other: Any) -> "Sum":
        return self + (-other) if isinstance(other, Functional) else NotImplemented

    def __neg__(self) -> "Scaled":
        return self * -1.0

    def __mul__(self, factor: Any) -> "Scaled":
        from ntkit.rkhs.functional_algebra import Scaled

        return (
            Scaled(self, float(factor))
            if isinstance(factor, bool | int | float | np.number)
            else NotImplemented
        )

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> "Scaled":
        if divisor == 0:
            raise ValueError("A functional needs a divisor other than 0, got 0.")
        return self * (1.0 / divisor)
