"""Fewer centres for an expansion: pivoted Cholesky, then the orthogonal projection, with the error it makes."""

from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import scipy.linalg
from jaxtyping import Float

from ntkit.numerics.dtypes import Array
from ntkit.numerics.host import like, on_host
from ntkit.rkhs.element import Element

F = TypeVar("F", bound=Element)


@dataclass(frozen=True, eq=False)
class Compressed(Generic[F]):
    """A function on fewer centres, and how far it is from the original in the norm of the space.

    Attributes:
        function: the compressed function g.
        error: an upper bound of `‖f − g‖`, all outputs together; tight but for rounding.
        norm: `‖f‖` of the original.
    """

    function: F
    error: float
    norm: float

    @property
    def relative_error(self) -> float:
        """`‖f − g‖ / ‖f‖`; 0 for the function 0."""
        return self.error / self.norm if self.norm > 0 else 0.0

    def bound(self, x: Float[Array, "m d"]) -> Float[Array, " m"]:
        """`‖f − g‖ √K(x, x)`, which `|f(x) − g(x)|` nowhere exceeds (Cauchy-Schwarz)."""
        return like(self.error * np.sqrt(on_host(self.function.kernel.diag(x))), x)


class Kept(NamedTuple):
    """Which centres are kept, their coefficients, the error bound and the norm of the original."""

    kept: np.ndarray
    coefficients: np.ndarray
    error: float
    norm: float


def compress(
    who: str, gram: np.ndarray, coefficients: np.ndarray, count: int | None, tolerance: float | int | None
) -> Kept:
    """Project `Σ α_i k_i` onto the span of few of the `k_i`, given their Gram matrix.

    With `P^T D K D P = L L^T`, D the sizes of the coefficients, the centre chosen next is the one whose term is
    worst represented by those before it. In the orthonormal basis that L describes the function has coordinates
    `z = L^T P^T D^{-1} α`; the span of the first r centres is the first r coordinates, so every error is a tail
    `(Σ_{j≥r} z_j²)^{1/2}`, a sum of positive terms.
    """
    if (count is None) == (tolerance is None):
        raise ValueError(f"{who} needs either count or tolerance, got {count} and {tolerance}.")
    if count is not None and count < 1:
        raise ValueError(f"{who} needs a count of at least 1, got {count}.")
    if tolerance is not None and not 0 <= tolerance < 1:
        raise ValueError(f"{who} needs a tolerance from 0 to below 1, relative to the norm, got {tolerance}.")
    sizes = np.sqrt((coefficients**2).sum(axis=1))
    if not sizes.any():
        return Kept(np.array([0]), np.zeros((1, coefficients.shape[1])), 0.0, 0.0)
    alive = np.flatnonzero(sizes)
    scaled = gram[np.ix_(alive, alive)] * sizes[alive, None] * sizes[None, alive]
    directions = coefficients[alive] / sizes[alive, None]
    order, lower, missing = pivoted_cholesky(scaled)
    coordinates = lower.T @ directions[order]
    # Terms beyond the numerical rank err by at most their part outside the span.
    outside = float(np.sqrt(missing).sum())
    squares = (coordinates**2).sum(axis=1)
    tails = np.sqrt(np.append(np.cumsum(squares[::-1])[::-1], 0.0)) + outside
    norm = float(np.sqrt(squares.sum()))
    if count is None:
        assert tolerance is not None
        reached = np.flatnonzero(tails <= tolerance * norm)
        count = int(reached[0]) if len(reached) else len(coordinates)
    rank = max(1, min(count, len(coordinates)))
    solution = scipy.linalg.solve_triangular(lower[:rank, :rank], coordinates[:rank], lower=True, trans=1)
    kept = alive[order[:rank]]
    return Kept(kept, solution * sizes[kept, None], float(tails[rank]), norm)


def pivoted_cholesky(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pivots, the lower trapezoidal factor (n, rank), and the diagonal that is left over beyond the rank."""
    (factorise,) = scipy.linalg.get_lapack_funcs(("pstrf",), (gram,))
    factor, pivots, rank, _ = factorise(gram, lower=1)
    order = pivots - 1
    lower = np.tril(factor)[:, :rank]
    left = np.diag(gram)[order] - (lower**2).sum(axis=1)
    left[:rank] = 0.0
    # What cannot be told from zero may be as large as the rounding of the diagonal.
    rounding = len(gram) * np.finfo(np.float64).eps * np.diag(gram).max()
    left[rank:] = np.maximum(left[rank:], rounding)
    return order, lower, left
