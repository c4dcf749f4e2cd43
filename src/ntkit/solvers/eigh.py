"""Eigendecomposition: dearer than Cholesky, and serves semi-definite matrices too."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from ntkit.numerics.dtypes import Array, is_concrete
from ntkit.solvers.base import Factor, Solver
from ntkit.solvers.checks import check_gram
from ntkit.solvers.spectrum import decompose


@dataclass(frozen=True)
class Eigh(Solver):
    """`A = V diag(a) V^T`; eigenvalues of at most the cutoff are left out (the Moore-Penrose inverse).

    Concrete matrices use LAPACK's symmetric eigensolver in float64. With noise well above rounding nothing is
    left out. Under JAX transformations the gradient through equal eigenvalues is not defined: prefer `Cholesky`.

    Args:
        cutoff: what counts as zero, absolute; by default `n eps` times the largest eigenvalue, plus the rounding of
            the entries if they are coarser than float64.

    Raises:
        ValueError: for a negative cutoff.
        NotPositiveDefiniteError: by `factor`, for an eigenvalue more negative than any rounding.

    Source:
        Golub & Van Loan (2013), Matrix Computations, sections 5.5.2 and 8.

    >>> import numpy as np
    >>> factor = Eigh().factor(np.ones((2, 2)))
    >>> factor.rank, factor.solve(np.ones((2, 1))).ravel().round(12).tolist()
    (1, [0.5, 0.5])
    """

    cutoff: float | int | None = None

    def __post_init__(self) -> None:
        if self.cutoff is not None and not (np.isfinite(self.cutoff) and self.cutoff >= 0):
            raise ValueError(f"Eigh needs a finite cutoff of at least 0, got {self.cutoff}.")

    def factor(self, gram: Float[Array, "n n"], noise: Any = 0.0, name: str = "kernel") -> "EighFactor":
        check_gram("Eigh", gram, noise, name)
        if is_concrete((gram, noise)):
            noise = float(noise)
            spectrum = decompose(gram, noise, name, self.cutoff)
            return EighFactor(
                gram,
                noise,
                0.0,
                name,
                spectrum.eigenvalues,
                spectrum.eigenvectors,
                spectrum.retained,
                spectrum.cutoff,
            )
        gram = jnp.asarray(gram)
        shift = jnp.asarray(noise, gram.dtype) * jnp.eye(len(gram), dtype=gram.dtype)
        eigenvalues, eigenvectors = jnp.linalg.eigh(gram + shift)
        cutoff = self.cutoff
        if cutoff is None:
            cutoff = len(gram) * jnp.finfo(gram.dtype).eps * eigenvalues[-1]
        return EighFactor(gram, noise, 0.0, name, eigenvalues, eigenvectors, eigenvalues > cutoff, cutoff)


@dataclass(frozen=True, eq=False)
class EighFactor(Factor):
    """Eigenvalues (ascending) and eigenvectors of `K + noise I`; `retained` marks those above the cutoff."""

    gram: Float[Array, "n n"]
    noise: Any
    jitter: float
    name: str
    eigenvalues: Float[Array, " n"]
    eigenvectors: Float[Array, "n n"]
    retained: Bool[Array, " n"]
    cutoff: Any

    @property
    def is_traced(self) -> bool:
        return not is_concrete(self.eigenvalues)

    @property
    def rank(self) -> int:
        return int(self.retained.sum())

    def _inverted(self, library: Any) -> Any:
        """`1 / a` on the directions retained, else 0."""
        safe = library.where(self.retained, self.eigenvalues, 1.0)
        return library.where(self.retained, 1.0 / safe, 0.0)

    def _rotated(self, b: Any, library: Any) -> tuple[Any, Any, Any]:
        """Eigenvectors, `V^T b`, and the inverted eigenvalues shaped to multiply it."""
        vectors, inverted = self.eigenvectors, self._inverted(library)
        if library is jnp:
            dtype = b.dtype if isinstance(vectors, np.ndarray) else jnp.result_type(vectors, b)
            vectors, inverted, b = jnp.asarray(vectors, dtype), inverted.astype(dtype), b.astype(dtype)
        return vectors, vectors.T @ b, inverted.reshape((-1,) + (1,) * (b.ndim - 1))

    def _solve(self, b: Any, library: Any) -> Any:
        vectors, rotated, inverted = self._rotated(b, library)
        return vectors @ (inverted * rotated)

    def _whiten(self, b: Any, library: Any) -> Any:
        _, rotated, inverted = self._rotated(b, library)
        return library.sqrt(inverted) * rotated

    def log_det(self) -> Any:
        if self.is_traced:
            safe = jnp.where(self.retained, self.eigenvalues, 1.0)
            return jnp.sum(jnp.where(self.retained, jnp.log(safe), -jnp.inf))
        return float(np.sum(np.log(self.eigenvalues))) if self.rank == len(self.eigenvalues) else -np.inf

    def inverse_diagonal(self) -> Float[Array, " n"]:
        inverted = self._inverted(jnp if self.is_traced else np)
        return self.eigenvectors**2 @ inverted
