"""The spectrum of a kernel on data: eigenvalues, eigenfunctions, and what targets are made of."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ntkit.kernels.base import Kernel
from ntkit.numerics.dtypes import Array, as_targets
from ntkit.numerics.host import like, on_host
from ntkit.numerics.points import number_of_points, template
from ntkit.solvers.checks import check_gram
from ntkit.solvers.spectrum import decompose
from ntkit.theory.power_law import PowerLaw, fit_power_law


@dataclass(frozen=True, eq=False)
class Eigensystem:
    """Eigenvalues and eigenfunctions of `(T f)(x) = (1/n) Σ_i k(x, x_i) f(x_i)`, the kernel's operator on data.

    Mercer's normalisation: `λ_i = eig(K) / n`, so that `Σ λ_i = mean k(x, x)`, and eigenfunctions whose mean square
    over the data is 1. As n grows both tend to those of the distribution the data come from. In float64.

    Attributes:
        kernel: the kernel.
        x: the n points, as the kernel takes them: an array, or a pytree of arrays.
        eigenvalues: all of them, descending, shape (n,).
        eigenvectors: the leading eigenfunctions at the points, shape (n, count): `mean_i φ_a(x_i) φ_b(x_i) = δ_ab`.
        cutoff: eigenvalues of at most this cannot be told from zero.
    """

    kernel: Kernel
    x: Any
    eigenvalues: Float[np.ndarray, " n"]
    eigenvectors: Float[np.ndarray, "n count"]
    cutoff: float

    @property
    def rank(self) -> int:
        """How many eigenvalues are told from zero."""
        return int((self.eigenvalues > self.cutoff).sum())

    def eigenfunctions(self, x_new: Any) -> Float[Array, "m count"]:
        """The leading eigenfunctions anywhere: `φ_a(x) = (1 / (n λ_a)) Σ_i k(x, x_i) φ_a(x_i)` (Nyström).

        Only those whose eigenvalue is told from zero, `min(count, rank)` columns, have such an extension.
        """
        x_new = self.kernel.as_inputs("Eigensystem.eigenfunctions", x_new, "x_new")
        kept = min(self.eigenvectors.shape[1], self.rank)
        cross = self.kernel(x_new, self.x)
        scaled = self.eigenvectors[:, :kept] / (len(self.eigenvalues) * self.eigenvalues[:kept])[None, :]
        return like(on_host(cross) @ scaled, template(x_new, cross))

    def coefficients(self, y: Float[Array, "n k"]) -> Float[np.ndarray, "count k"]:
        """The targets' coefficients on the eigenfunctions, `v_a = mean_i φ_a(x_i) y_i`, shape (count, k).

        With all n eigenfunctions `y = Σ_a φ_a v_a` and `mean y² = Σ_a v_a²` exactly (Parseval).
        """
        y = on_host(as_targets("Eigensystem.coefficients", y, len(self.eigenvalues)))
        return self.eigenvectors.T @ y / len(y)

    def power(self, y: Float[Array, "n k"]) -> Float[np.ndarray, " count"]:
        """The share of the targets' mean square that lies on the first 1, 2, ..., count eigenfunctions.

        Summed over outputs. The cumulative power of Canatar et al. (2021), equation 6: a target is easy for a
        kernel when it rises early.

        Raises:
            ValueError: for targets that are zero everywhere.
        """
        squares = np.square(self.coefficients(y)).sum(axis=1)
        total = float(np.square(on_host(y)).sum()) / len(y)
        if total == 0.0:
            raise ValueError("Eigensystem.power needs targets that are not all zero, got zeros.")
        return np.minimum(np.cumsum(squares) / total, 1.0)

    def effective_dimension(self, ridge: float | int) -> float:
        """`Σ_a λ_a / (λ_a + ridge)`, the number of directions that a ridge leaves (Zhang 2005).

        The ridge is in the eigenvalues' normalisation: that of `K + n ridge I`. A ridge of 0 counts the rank.
        """
        if not (np.isfinite(ridge) and ridge >= 0):
            raise ValueError(
                f"Eigensystem.effective_dimension needs a finite ridge of at least 0, got {ridge}."
            )
        known = self.eigenvalues[: self.rank]
        return float((known / (known + ridge)).sum())

    def decay_exponent(self, first: int = 1, last: int | None = None) -> PowerLaw:
        """The power law `λ_i = prefactor i^exponent` through eigenvalues number `first` to `last`, counted from 1.

        Neighbouring eigenvalues of one sample do not scatter independently, so the standard error says how straight
        the line is, not how far the exponent of the distribution may be.

        Args:
            first: number of the first eigenvalue, at least 1.
            last: number of the last one, at most the rank (the default).
        """
        last = self.rank if last is None else last
        if not 1 <= first < last <= self.rank:
            raise ValueError(
                f"Eigensystem.decay_exponent needs 1 <= first < last <= {self.rank} (the rank), "
                f"got first={first}, last={last}."
            )
        numbers = np.arange(first, last + 1, dtype=np.float64)
        return fit_power_law(numbers, self.eigenvalues[first - 1 : last], who="Eigensystem.decay_exponent")


def eigensystem(kernel: Kernel, x: Any, count: int | None = None) -> Eigensystem:
    """Diagonalise a kernel on data.

    Args:
        kernel: any kernel.
        x: n points, at least 2, as the kernel takes them: an array, or a pytree of arrays.
        count: how many eigenfunctions are kept; by default all n. All eigenvalues are kept always.

    Raises:
        ValueError: for a count outside 1..n.
        NotPositiveDefiniteError: for a matrix with an eigenvalue more negative than any rounding.

    Source:
        Williams & Seeger (2001), Using the Nyström method to speed up kernel machines, equations 4 to 8.

    >>> from ntkit import RBF
    >>> system = eigensystem(RBF(), np.array([[0.0], [1.0], [2.0]]))
    >>> system.eigenvalues.round(4).tolist(), round(system.effective_dimension(0.1), 3)
    ([0.6427, 0.2882, 0.0691], 2.016)
    """
    x = kernel.as_inputs("eigensystem", x)
    points = number_of_points(x)
    count = points if count is None else count
    if not 1 <= count <= points:
        raise ValueError(f"eigensystem needs a count between 1 and {points} (the points), got {count}.")
    name = type(kernel).__name__
    gram: Any = np.asarray(kernel(x))
    check_gram("eigensystem", gram, 0.0, name)
    spectrum = decompose(gram, name=name, who="eigensystem")
    return Eigensystem(
        kernel=kernel,
        x=x,
        eigenvalues=np.maximum(spectrum.eigenvalues[::-1], 0.0) / points,
        eigenvectors=np.ascontiguousarray(spectrum.eigenvectors[:, ::-1][:, :count]) * points**0.5,
        cutoff=spectrum.cutoff / points,
    )
