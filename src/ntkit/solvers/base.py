"""The interface of every solver: `Solver.factor(gram, noise) -> Factor`, then `solve`, `log_det` and the rest."""

from abc import ABC, abstractmethod
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkit.numerics.dtypes import Array, is_concrete
from ntkit.numerics.host import like, on_host, working

BLOCK = 1024
"""Rows handled at a time where a whole float64 copy of the Gram matrix would be waste."""


class Factor(ABC):
    """A factorisation of `A = K + noise I`, shape (n, n); `jitter` says what was added beyond the noise.

    Concrete matrices, NumPy or JAX, are factored by LAPACK in float64. A matrix traced by JAX is factored by
    pure JAX operations in its own dtype, which can be differentiated but cannot raise: a failure is NaN.
    Answers come in the array library and dtype of the right-hand side.
    """

    gram: Float[Array, "n n"]
    noise: Any
    jitter: float
    name: str

    @abstractmethod
    def _whiten(self, b: Any, library: Any) -> Any:
        """`R b` with NumPy or JAX as the library."""

    @abstractmethod
    def _solve(self, b: Any, library: Any) -> Any:
        """The inverse of `A` times `b` with NumPy or JAX as the library."""

    @abstractmethod
    def log_det(self) -> Any:
        """`log det A`, a float (a JAX scalar when traced); `-inf` for a matrix that is singular to rounding."""

    @abstractmethod
    def inverse_diagonal(self) -> Float[Array, " n"]:
        """The diagonal of the inverse of `A`, in float64 (in the matrix's dtype when traced)."""

    @property
    @abstractmethod
    def rank(self) -> int:
        """The number of directions in which `A` is inverted; below n when null directions were left out."""

    @property
    @abstractmethod
    def is_traced(self) -> bool:
        """Whether the factorisation consists of values traced by JAX."""

    def solve(self, b: Float[Array, "n *k"]) -> Float[Array, "n *k"]:
        """`v` such that `A v = b`, for one right-hand side (n,) or several (n, k)."""
        return like(self._solve(*self._prepared(b)), b)

    def whiten(self, b: Float[Array, "n *k"]) -> Float[Array, "n *k"]:
        """The product `w = R b` with `R^T R` the inverse of `A`, so that `w^T w` is `b^T A^{-1} b`."""
        return like(self._whiten(*self._prepared(b)), b)

    def residual(self, b: Float[Array, "n *k"]) -> Any:
        """The true relative residual `||A v - b|| / ||b||` of `v = solve(b)`, multiplied out.

        `A` is `K + noise I` without the jitter, and with the directions the solver left out: what they cost
        shows here. Zero for `b = 0`.
        """
        gram, b = working(self.gram, b)
        solution = self.solve(b)
        difference = multiply(gram, solution) + self.noise * solution - b
        norm, scale = (difference**2).sum() ** 0.5, (b**2).sum() ** 0.5
        if isinstance(scale, np.floating):
            return float(norm / scale) if scale > 0 else 0.0
        return norm / scale

    def _prepared(self, b: Any) -> tuple[Any, Any]:
        """The right-hand side at working precision and the library that is to act on it."""
        if self.is_traced or not is_concrete(b):
            return jnp.asarray(b), jnp
        return on_host(b), np


class Solver(ABC):
    """How linear systems in a Gram matrix are solved; an immutable value chosen before the data."""

    @abstractmethod
    def factor(self, gram: Float[Array, "n n"], noise: Any = 0.0, name: str = "kernel") -> Factor:
        """Factor `gram + noise I`.

        Args:
            gram: a symmetric positive semi-definite matrix.
            noise: the variance added to the diagonal, at least 0.
            name: what to call the kernel in error messages.

        Raises:
            ValueError: for a matrix that is not square, symmetric and finite, or negative noise.
            NotPositiveDefiniteError: when the factorisation fails; the text gives remedies in order.
        """


def multiply(gram: Any, b: Any) -> Any:
    """`gram @ b` in blocks of rows, so that a float32 Gram matrix is never copied whole to float64."""
    if not isinstance(gram, np.ndarray):
        return gram @ b
    blocks = [on_host(gram[start : start + BLOCK]) @ b for start in range(0, len(gram), BLOCK)]
    return np.concatenate(blocks)
