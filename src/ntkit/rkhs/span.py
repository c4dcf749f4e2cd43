"""Functions on fixed centres, as coordinates: the Gram matrix is evaluated once, a step is a product with it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from ntkit.kernels.base import Kernel
from ntkit.numerics.host import like, on_host
from ntkit.rkhs.centers import check_fit, distinct
from ntkit.rkhs.element import Element
from ntkit.rkhs.expansion import Expansion
from ntkit.rkhs.functional import Differential
from ntkit.rkhs.positivity import checked_square
from ntkit.solvers.checks import check_gram

MOST_ADDITIONS = 50
"""Sums of values after which they are multiplied out anew: half the products, at a rounding of 50 additions."""


@dataclass(frozen=True, eq=False)
class Span:
    """The functions `Σ_i K(c_i, ·) α_i` on given centres, and where given sets of points lie among these.

    Attributes:
        kernel: the kernel of the space.
        centers: the centres without repetition, shape (n, d).
        gram: `K(c_i, c_j)` in float64.
        places: for every set of points, the array itself and the position of each of its points in `centers`.
    """

    kernel: Kernel
    centers: Any
    gram: Float[np.ndarray, "n n"]
    places: tuple[tuple[Any, Int[np.ndarray, " _"]], ...]

    @classmethod
    def of(cls, kernel: Kernel, point_sets: tuple[Any, ...]) -> "Span":
        """The span of all points of the sets."""
        for points in point_sets[1:]:
            check_fit("A functional", point_sets[0], points)
        stacked = np.concatenate([np.asarray(points) for points in point_sets])
        kept, position = distinct(stacked)
        starts = np.cumsum([0, *(len(points) for points in point_sets)])
        places = tuple(
            (points, position[start:stop])
            for points, start, stop in zip(point_sets, starts[:-1], starts[1:], strict=True)
        )
        centers = like(stacked[kept], point_sets[0])
        gram = kernel(centers)
        check_gram("Functional gradient descent", gram, 0.0, repr(kernel))
        return cls(kernel, centers, on_host(gram), places)

    def rows(self, points: Any) -> np.ndarray:
        """Where the points of one of the sets, the same array, lie among the centres."""
        for known, rows in self.places:
            if known is points:
                return rows
        raise ValueError(
            f"A functional needs to list what it evaluates at in its points, got another array {points.shape}. "
            "Keep the array as an attribute, or return None from points."
        )

    def coordinates(self, f: Expansion) -> "Coordinates":
        """An expansion whose centres are one of the sets."""
        return self.at(self._scattered(f.centers, on_host(f.coefficients)))

    def at(self, coefficients: np.ndarray) -> "Coordinates":
        """The function of given coefficients, shape (n, k): one product with the Gram matrix."""
        with np.errstate(over="ignore", invalid="ignore"):
            values = self.gram @ coefficients
        return Coordinates(self, coefficients, values)

    def gradient(self, f: "Coordinates", differential: Differential) -> np.ndarray:
        """The coefficients of a gradient at `f`, shape (n, k)."""
        gradient = differential.own * f.coefficients
        for points, coefficients in differential.terms:
            gradient = gradient + self._scattered(points, coefficients)
        return gradient

    def _scattered(self, points: Any, coefficients: np.ndarray) -> np.ndarray:
        scattered = np.zeros((len(self.gram), coefficients.shape[1]))
        np.add.at(scattered, self.rows(points), coefficients)
        return scattered


@dataclass(frozen=True, eq=False)
class Coordinates(Element):
    """A function of a span: its coefficients, and its values at the centres.

    `additions` counts the sums by which the values came about since they were last multiplied out.
    """

    span: Span
    coefficients: Float[np.ndarray, "n k"]
    values: Float[np.ndarray, "n k"]
    additions: int = 0

    @property
    def kernel(self) -> Kernel:  # type: ignore[override]
        """The kernel of the space."""
        return self.span.kernel

    @property
    def outputs(self) -> int:
        return self.coefficients.shape[1]

    def evaluate(self, x: Any) -> np.ndarray:
        return self.values[self.span.rows(x)]

    def squared_norm(self) -> float:
        with np.errstate(over="ignore", invalid="ignore"):
            square = float((self.coefficients * self.values).sum())
        if not square < 0:
            return square
        epsilon = float(np.finfo(self.span.centers.dtype).eps)
        return checked_square(self.kernel, square, self.coefficients, np.diag(self.span.gram), epsilon)

    def plus(self, factor: float, other: "Coordinates") -> "Coordinates":
        """`f + factor g`: values are added too, and multiplied out anew before rounding gathers."""
        coefficients = self.coefficients + factor * other.coefficients
        if self.additions + 1 == MOST_ADDITIONS:
            return self.span.at(coefficients)
        values = self.values + factor * other.values
        return Coordinates(self.span, coefficients, values, self.additions + 1)

    def expansion(self) -> Expansion:
        """The same function as an expansion."""
        return Expansion(self.kernel, self.span.centers, like(self.coefficients, self.span.centers))
