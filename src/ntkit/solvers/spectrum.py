"""Eigenvalues and eigenvectors of a Gram matrix, and which of them are more than rounding."""

import warnings
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import Float

from ntkit.errors import AccuracyWarning
from ntkit.numerics.dtypes import Array
from ntkit.solvers.checks import not_positive_definite

LARGEST_DIVIDE_AND_CONQUER = 16_384
"""LAPACK's `syevd` is the faster and the more orthogonal, but its workspace `1 + 6n + 2n^2` is counted in 32 bits
and overflows near n = 32,767; `syevr` needs `O(n)` and serves the largest matrices."""

MATERIAL = 1e-6
"""A negative eigenvalue beyond this fraction of the largest is no rounding of a kernel: an error."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """`A = V diag(eigenvalues) V^T`, eigenvalues ascending, eigenvectors in the columns, in float64.

    Eigenvalues of at most `cutoff` cannot be told from zero; their eigenvectors are the null directions.
    """

    eigenvalues: Float[np.ndarray, " n"]
    eigenvectors: Float[np.ndarray, "n n"]
    cutoff: float

    @property
    def retained(self) -> np.ndarray:
        """Which eigenvalues are told from zero, a boolean per eigenvalue."""
        return self.eigenvalues > self.cutoff

    @property
    def rank(self) -> int:
        """How many eigenvalues are told from zero."""
        return int(self.retained.sum())


def default_cutoff(gram: np.ndarray, largest: float) -> float:
    """How far rounding can move an eigenvalue: `n eps64 largest`, plus `eps trace` if the entries are coarser.

    The first term is the eigensolver's. The second is the Frobenius norm of entries that are each off by one rounding
    of their natural scale `sqrt(k_ii k_jj)`, which bounds the shift of every eigenvalue (Weyl).
    """
    size = len(gram)
    cutoff = size * np.finfo(np.float64).eps * max(largest, 0.0)
    if gram.dtype != np.float64:
        cutoff += float(np.finfo(gram.dtype).eps) * float(np.abs(np.diag(gram)).sum())
    return float(cutoff)


def decompose(
    gram: Float[Array, "n n"],
    noise: float = 0.0,
    name: str = "kernel",
    cutoff: float | int | None = None,
    who: str = "Eigh",
) -> Spectrum:
    """The spectrum of `gram + noise I` for a concrete, checked matrix.

    Args:
        gram: a symmetric matrix, shape (n, n).
        noise: the variance added to the diagonal.
        name: what to call the kernel in messages.
        cutoff: what counts as zero, absolute; by default what rounding can explain (`default_cutoff`).
        who: who asks, for messages.

    Raises:
        NotPositiveDefiniteError: for an eigenvalue below `-max(1e-6 largest, 10 cutoff)`: not a kernel's matrix.

    Warns:
        AccuracyWarning: for a negative eigenvalue between that and `-cutoff`, which is then treated as zero.
    """
    matrix = np.asarray(gram)
    work = np.array(matrix.T, dtype=np.float64, order="F")
    np.einsum("ii->i", work)[...] += noise
    driver = "evd" if len(work) <= LARGEST_DIVIDE_AND_CONQUER else "evr"
    eigenvalues, eigenvectors = scipy.linalg.eigh(work, driver=driver, overwrite_a=True, check_finite=False)
    smallest, largest = float(eigenvalues[0]), float(eigenvalues[-1])
    if cutoff is None:
        cutoff = default_cutoff(matrix, largest)
    if smallest < -max(MATERIAL * abs(largest), 10 * cutoff):
        trouble = f"it has an eigenvalue of {smallest:.3g} beside a largest of {largest:.3g}"
        raise not_positive_definite(who, matrix, noise, name, trouble=trouble, smallest=smallest)
    if smallest < -cutoff:
        warnings.warn(
            f"{who}: the Gram matrix of {name} in {matrix.dtype} has an eigenvalue of {smallest:.3g}, more negative "
            f"than rounding explains ({-cutoff:.1g}); it is treated as zero. Use float64 or add noise.",
            AccuracyWarning,
            stacklevel=3,
        )
    return Spectrum(eigenvalues, eigenvectors, float(cutoff))
