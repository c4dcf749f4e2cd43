"""What a matrix must be before it is factored, and what to tell the reader when it is not."""

from typing import Any

import numpy as np
import scipy.linalg

from ntkit.errors import NotPositiveDefiniteError
from ntkit.numerics.dtypes import is_concrete
from ntkit.solvers.base import BLOCK

LARGEST_DIAGNOSED = 3000
"""Above this size a failure reports its pivot only: the smallest eigenvalue would cost as much as the job."""


def check_gram(who: str, gram: Any, noise: Any, name: str) -> None:
    """Raise unless `gram` is square and, where its numbers are known, finite and symmetric to rounding."""
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1] or gram.shape[0] == 0:
        raise ValueError(f"{who} needs a square Gram matrix, got shape {gram.shape} from {name}.")
    if is_concrete(noise) and not (np.isfinite(noise) and noise >= 0):
        raise ValueError(f"{who} needs a finite noise variance of at least 0, got {noise}.")
    if not is_concrete(gram):
        return
    matrix = np.asarray(gram)
    scale, asymmetry = 0.0, 0.0
    for start in range(0, len(matrix), BLOCK):
        rows = matrix[start : start + BLOCK]
        if not np.isfinite(rows).all():
            i, j = np.argwhere(~np.isfinite(rows))[0]
            raise ValueError(
                f"{who} needs finite values, got {rows[i, j]} at [{start + i}, {j}] of the Gram matrix of {name} in "
                f"{matrix.dtype}. Check the inputs, or use float64 if the kernel overflowed."
            )
        scale = max(scale, float(np.abs(rows).max()))
        asymmetry = max(asymmetry, float(np.abs(rows - matrix[:, start : start + BLOCK].T).max()))
    # Rounding of two evaluations of one entry differs by far less than the root of the precision.
    if asymmetry > 10 * np.sqrt(np.finfo(matrix.dtype).eps) * scale:
        raise ValueError(
            f"{who} needs a symmetric Gram matrix, got entries of {name} that differ from their mirror image by up "
            f"to {asymmetry:.3g} (largest entry {scale:.3g}). Evaluate the kernel as k(x), with one argument."
        )


def coinciding_pair(gram: np.ndarray) -> tuple[int, int] | None:
    """The first two points that the kernel cannot tell apart: `k_ii = k_ij = k_jj` to rounding."""
    variances = np.diag(gram)
    tolerance = 8 * np.finfo(gram.dtype).eps
    for i in range(1, len(gram)):
        scale = tolerance * np.maximum(variances[i], variances[:i])
        same = (np.abs(variances[:i] - variances[i]) <= scale) & (np.abs(gram[i, :i] - variances[i]) <= scale)
        if same.any():
            return int(np.argmax(same)), i
    return None


def not_positive_definite(
    who: str,
    gram: Any,
    noise: float,
    name: str,
    *,
    trouble: str,
    jitter: float = 0.0,
    smallest: float | None = None,
) -> NotPositiveDefiniteError:
    """The error of a failed factorisation: kernel, dtype, size, eigenvalue or pivot, remedies in order."""
    matrix = np.asarray(gram)
    size = len(matrix)
    if smallest is None and size <= LARGEST_DIAGNOSED:
        smallest = (
            noise
            + jitter
            + float(
                scipy.linalg.eigh(np.asarray(matrix, np.float64), eigvals_only=True, subset_by_index=[0, 0])[
                    0
                ]
            )
        )
    eigenvalue = "" if smallest is None else f" The smallest eigenvalue is {smallest:.3g}."
    pair = coinciding_pair(matrix)
    duplicates = "" if pair is None else f" Points {pair[0]} and {pair[1]} coincide for this kernel."
    precision = f"{matrix.dtype}" if matrix.dtype == np.float64 else f"{matrix.dtype} (factored in float64)"
    added = f" and jitter {jitter:.3g}" if jitter else ""
    return NotPositiveDefiniteError(
        f"{who} needs a positive definite matrix, got {name} on {size} points in {precision} with noise {noise:.3g}"
        f"{added}: {trouble}.{eigenvalue}{duplicates} Remedies, in this order: (1) a larger noise; "
        "(2) remove duplicate points; (3) solver=Eigh(), which leaves out null directions; "
        "(4) an explicit Cholesky(jitter=...)."
    )
