"""What is kept of a kernel along training: how far, how fast and whereto it has moved."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True, eq=False)
class KernelTrack:
    """A kernel's Gram matrix Θ_t on fixed points, at several moments of training.

    Attributes:
        steps: the moments, numbers of steps or times, increasing, shape (t,).
        relative_change: `‖Θ_t − Θ_0‖_F / ‖Θ_0‖_F` with Θ_0 the first matrix recorded, shape (t,).
        distance: kernel distance `1 − ⟨Θ_s, Θ_t⟩_F / (‖Θ_s‖_F ‖Θ_t‖_F)` of all pairs, shape (t, t): 0 where one is a
            multiple of the other, at most 1 for positive semi-definite matrices.
        eigenvalues: of Θ_t (not divided by the number of points), largest first, all or the leading r, shape (t, r);
            of a matrix in float32, those below about 1e-7 of the largest are rounding.
        trace: sum of all eigenvalues, shape (t,).
        effective_rank: `(Σ λ)² / Σ λ²` over all eigenvalues, from 1 to the number of points, shape (t,).
        alignment: `centered_target_alignment` of Θ_t with the targets, shape (t,); None without targets.
        grams: the matrices themselves, shape (t, n, n), when asked for.
        interrupted: whether Ctrl-C ended the tracking early.

    Source:
        Fort et al. (2020), Deep learning versus kernel learning, section 3 (kernel distance and velocity).
    """

    steps: Float[np.ndarray, " t"]
    relative_change: Float[np.ndarray, " t"]
    distance: Float[np.ndarray, "t t"] = field(repr=False)
    eigenvalues: Float[np.ndarray, "t r"] = field(repr=False)
    trace: Float[np.ndarray, " t"] = field(repr=False)
    effective_rank: Float[np.ndarray, " t"] = field(repr=False)
    alignment: Float[np.ndarray, " t"] | None
    grams: Float[np.ndarray, "t n n"] | None = field(default=None, repr=False)
    interrupted: bool = False

    @property
    def velocity(self) -> Float[np.ndarray, " intervals"]:
        """Kernel distance between successive moments divided by the steps between them, shape (t − 1,)."""
        return np.diagonal(self.distance, 1) / np.diff(self.steps)


def relative_change(gram: Float[np.ndarray, "n n"], reference: Float[np.ndarray, "n n"]) -> float:
    """`‖Θ − Θ_0‖_F / ‖Θ_0‖_F`."""
    return float(np.linalg.norm(gram - reference) / np.linalg.norm(reference))


def effective_rank(gram: Float[np.ndarray, "n n"]) -> float:
    """`(Σ λ)² / Σ λ²`, the participation ratio of the eigenvalues, without computing them."""
    return float((np.trace(gram) / np.linalg.norm(gram)) ** 2)


def unit_matrix(gram: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """`Θ / ‖Θ‖_F` in float32, which is all that `unit_distance` needs.

    Raises:
        ValueError: for a matrix of zeros, which has no direction.
    """
    norm = np.linalg.norm(gram)
    if norm == 0.0:
        raise ValueError(
            "A kernel along training needs Gram matrices that are not zero, got a zero matrix. "
            "No output changes with any parameter: look for units that are dead, or masked parameters."
        )
    return (gram / norm).astype(np.float32)


def unit_distance(first: Float[np.ndarray, "n n"], second: Float[np.ndarray, "n n"]) -> float:
    """The kernel distance of two unit matrices, `1 − ⟨A, B⟩ = ½ ‖A − B‖²`.

    The right side loses nothing to cancellation: rounding to float32 moves `‖A − B‖` by at most 1e-7, and so the
    distance d by at most `2e-7 √d + 1e-14`.
    """
    return 0.5 * float(np.sum(np.square(first - second), dtype=np.float64))
