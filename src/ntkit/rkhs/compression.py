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
        error: `‖f − g‖`, all outputs together, for the kernel's values as they were computed; an upper bound where
            these cannot tell all centres apart.
        rounding: what the rounding of the kernel's values may add, `2 √ε Σ_i |γ_i| √K_ii` for
            `f − g = Σ γ_i K(c_i, ·)`.
        norm: `‖f‖` of the original.
    """

    function: F
    error: float
    rounding: float
    norm: float

    @property
    def relative_error(self) -> float:
        """`‖f − g‖ / ‖f‖`; 0 for the function 0."""
        return self.error / self.norm if self.norm > 0 else 0.0

    def bound(self, x: Float[Array, "m d"]) -> Float[Array, " m"]:
        """`(error + rounding) √K(x, x)`, which `|f(x) − g(x)|` nowhere exceeds (Cauchy-Schwarz)."""
        return like((self.error + self.rounding) * np.sqrt(on_host(self.function.kernel.diag(x))), x)


class Kept(NamedTuple):
    """Which centres are kept, their coefficients, and the numbers of `Compressed`."""

    kept: np.ndarray
    coefficients: np.ndarray
    error: float
    rounding: float
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
        return Kept(np.array([0]), np.zeros((1, coefficients.shape[1])), 0.0, 0.0, 0.0)
    alive = np.flatnonzero(sizes)
    scaled = on_host(gram)[np.ix_(alive, alive)] * sizes[alive, None] * sizes[None, alive]
    directions = coefficients[alive] / sizes[alive, None]
    order, lower, missing = pivoted_cholesky(scaled, float(np.finfo(gram.dtype).eps))
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
    projected = solution * sizes[kept, None]
    difference = coefficients.copy()
    difference[kept] -= projected
    # Entries of relative rounding ε move a squared norm by up to about 4 ε (Σ |γ_i| √K_ii)².
    spread = np.sqrt((difference**2).sum(axis=1)) @ np.sqrt(np.maximum(on_host(gram).diagonal(), 0.0))
    rounding = 2.0 * float(np.sqrt(np.finfo(gram.dtype).eps) * spread)
    return Kept(kept, projected, float(tails[rank]), rounding, norm)


def pivoted_cholesky(gram: np.ndarray, epsilon: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pivots, the lower trapezoidal factor (n, rank), and the diagonal that is left over beyond the rank.

    Stops where a pivot cannot be told from zero by entries of the relative rounding `epsilon`.
    """
    (factorise,) = scipy.linalg.get_lapack_funcs(("pstrf",), (gram,))
    rounding = len(gram) * epsilon * float(np.diag(gram).max())
    factor, pivots, rank, _ = factorise(gram, lower=1, tol=rounding)
    order = pivots - 1
    lower = np.tril(factor)[:, :rank]
    left = np.diag(gram)[order] - (lower**2).sum(axis=1)
    left[:rank] = 0.0
    # What cannot be told from zero may be as large as the rounding.
    left[rank:] = np.maximum(left[rank:], rounding)
    return order, lower, left
