"""Cholesky factorisation: the fastest way to solve with a positive definite matrix."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Float

from ntkit.numerics.dtypes import Array, is_concrete
from ntkit.solvers.base import Factor, Solver
from ntkit.solvers.checks import check_gram, not_positive_definite


@dataclass(frozen=True)
class Cholesky(Solver):
    """`A = L L^T` with `L` lower triangular; `n^3 / 3` operations.

    Concrete matrices use LAPACK's `dpotrf` in float64. A pivot below `(n + 1) eps A_ii` has no correct digit, and
    counts as a failure rather than as a tiny positive number.

    Args:
        jitter: a variance added to the diagonal beyond the noise; 0 unless you ask, and kept on the factor.

    Raises:
        ValueError: for negative jitter.

    Source:
        Golub & Van Loan (2013), Matrix Computations, algorithm 4.2.1.

    >>> import numpy as np
    >>> factor = Cholesky().factor(np.array([[3.0, 2.0], [2.0, 4.0]]), noise=1.0)
    >>> factor.solve(np.array([[6.0], [7.0]])).ravel().tolist()
    [1.0, 1.0]
    """

    jitter: float | int = 0.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.jitter) and self.jitter >= 0):
            raise ValueError(f"Cholesky needs a finite jitter of at least 0, got {self.jitter}.")

    def factor(self, gram: Float[Array, "n n"], noise: Any = 0.0, name: str = "kernel") -> "CholeskyFactor":
        check_gram("Cholesky", gram, noise, name)
        if is_concrete((gram, noise)):
            noise = float(noise)
            lower = self._lapack(np.asarray(gram), noise, name)
        else:
            gram = jnp.asarray(gram)
            shift = jnp.asarray(noise + self.jitter, gram.dtype)
            lower = jnp.linalg.cholesky(gram + shift * jnp.eye(len(gram), dtype=gram.dtype))
        return CholeskyFactor(gram, noise, float(self.jitter), name, lower)

    def _lapack(self, gram: np.ndarray, noise: float, name: str) -> np.ndarray:
        # The transpose of a symmetric matrix is itself: copied this way it lies as LAPACK wants it.
        lower = np.array(gram.T, dtype=np.float64, order="F")
        diagonal = np.einsum("ii->i", lower)
        diagonal += noise + self.jitter
        variances = diagonal.copy()
        (factorise,) = scipy.linalg.get_lapack_funcs(("potrf",), (lower,))
        lower, failed_at = factorise(lower, lower=1, clean=1, overwrite_a=1)
        if failed_at > 0:
            trouble = f"pivot {failed_at - 1} of the factorisation is not positive"
            raise not_positive_definite("Cholesky", gram, noise, name, trouble=trouble, jitter=self.jitter)
        relative = np.einsum("ii->i", lower) ** 2 / variances
        # Rounding moves a pivot by up to (n + 1) eps A_ii (Higham 2002, theorem 10.3).
        lost = np.flatnonzero(relative <= (len(lower) + 1) * np.finfo(np.float64).eps)
        if len(lost):
            trouble = f"pivot {lost[0]} of the factorisation is {relative[lost[0]]:.1g} of its diagonal entry: rounding"
            raise not_positive_definite("Cholesky", gram, noise, name, trouble=trouble, jitter=self.jitter)
        return lower


@dataclass(frozen=True, eq=False)
class CholeskyFactor(Factor):
    """The lower triangle `L` of `K + (noise + jitter) I = L L^T`."""

    gram: Float[Array, "n n"]
    noise: Any
    jitter: float
    name: str
    lower: Float[Array, "n n"]

    @property
    def is_traced(self) -> bool:
        return not is_concrete(self.lower)

    @property
    def rank(self) -> int:
        return self.lower.shape[0]

    def _solve(self, b: Any, library: Any) -> Any:
        if library is np:
            return scipy.linalg.cho_solve((self.lower, True), b, check_finite=False)
        lower, b = self._promoted(b)
        return jax.scipy.linalg.cho_solve((lower, True), b)

    def _whiten(self, b: Any, library: Any) -> Any:
        if library is np:
            return scipy.linalg.solve_triangular(self.lower, b, lower=True, check_finite=False)
        lower, b = self._promoted(b)
        return jax.scipy.linalg.solve_triangular(lower, b, lower=True)

    def _promoted(self, b: Any) -> tuple[Any, Any]:
        """Factor and right-hand side in the wider of their dtypes that JAX is set to keep."""
        dtype = b.dtype if isinstance(self.lower, np.ndarray) else jnp.result_type(self.lower, b)
        return jnp.asarray(self.lower, dtype), b.astype(dtype)

    def log_det(self) -> Any:
        if self.is_traced:
            return 2.0 * jnp.sum(jnp.log(jnp.diagonal(self.lower)))
        return 2.0 * float(np.sum(np.log(np.diagonal(self.lower))))

    def inverse_diagonal(self) -> Float[Array, " n"]:
        # Sums of squares of the columns of L^{-1}: nothing cancels.
        if self.is_traced:
            inverse = jax.scipy.linalg.solve_triangular(
                self.lower, jnp.eye(len(self.lower), dtype=self.lower.dtype), lower=True
            )
            return jnp.sum(inverse**2, axis=0)
        (invert,) = scipy.linalg.get_lapack_funcs(("trtri",), (self.lower,))
        inverse, _ = invert(self.lower, lower=1)
        return np.einsum("ij,ij->j", inverse, inverse)
