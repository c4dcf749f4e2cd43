"""How much of the prior covariance the training data explain, without inverting a curvature that may be singular.

With the tangent kernel Θ, a prior precision δ and the likelihood's curvature `Λ = B B^T` at the training outputs, the
posterior covariance is `(Θ_** - R) / δ`, `R = Θ_*X B (B^T Θ_XX B + τ 1)^{-1} B^T Θ_X*`, where τ is δ (and σ²δ for
`Λ = 1/σ²`, with `B = 1`).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.linalg
from jaxtyping import Float
from scipy.linalg import get_lapack_funcs

from ntkit.errors import NotPositiveDefiniteError
from ntkit.inference.laplace.output_blocks import OutputBlocks
from ntkit.numerics.host import on_host
from ntkit.solvers import Spectrum


@dataclass(frozen=True, eq=False)
class Reduction(ABC):
    """What the training points `x` explain of the kernel at others."""

    blocks: OutputBlocks
    x: Any

    @property
    @abstractmethod
    def width(self) -> int:
        """Numbers held per point asked about, to plan memory."""

    @abstractmethod
    def between(self, points: Any) -> Float[np.ndarray, "m m k k"]:
        """`R` for all pairs of points and outputs."""

    @abstractmethod
    def averaged(self, points: Any) -> Float[np.ndarray, "m m"]:
        """The average of `R` over outputs."""

    @abstractmethod
    def diagonal(self, points: Any) -> Float[np.ndarray, "m k k"]:
        """`R` of each point with itself."""


@dataclass(frozen=True, eq=False)
class SpectralReduction(Reduction):
    """By the eigenvalues `s` and vectors V of `B^T Θ_XX B`: `R = W W^T`, `W = Θ_*X B V diag(s + τ)^{-1/2}`.

    Directions that rounding cannot tell from null explain nothing.

    Args:
        blocks: the kernel.
        x: the training points.
        root: `B`, a block (width, r) for every point; None is the identity.
        spectrum: of `B^T Θ_XX B`.
        ridge: τ.
    """

    root: Float[np.ndarray, "n w r"] | None
    spectrum: Spectrum
    ridge: float

    @property
    def width(self) -> int:
        return len(self.spectrum.eigenvalues) * self.blocks.width

    def between(self, points: Any) -> Float[np.ndarray, "m m k k"]:
        whitened = self._whitened(points)
        count, width, size = whitened.shape
        rows = whitened.reshape(count * width, size)
        full = (rows @ rows.T).reshape(count, width, count, width).transpose(0, 2, 1, 3)
        return full * np.eye(self.blocks.outputs) if width < self.blocks.outputs else full

    def averaged(self, points: Any) -> Float[np.ndarray, "m m"]:
        whitened = self._whitened(points)
        rows = whitened.reshape(len(whitened), whitened[0].size)
        return rows @ rows.T / self.blocks.width

    def diagonal(self, points: Any) -> Float[np.ndarray, "m k k"]:
        whitened = self._whitened(points)
        own = whitened @ whitened.transpose(0, 2, 1)
        return own * np.eye(self.blocks.outputs) if whitened.shape[1] < self.blocks.outputs else own

    def _whitened(self, points: Any) -> Float[np.ndarray, "m w p"]:
        cross = self.blocks.cross(points, self.x)
        if self.root is not None:
            count, width, rank = self.root.shape
            by_point = cross.reshape(len(cross), count, width).transpose(1, 0, 2)
            cross = (by_point @ self.root).transpose(1, 0, 2).reshape(len(cross), count * rank)
        retained = self.spectrum.retained
        scales = np.sqrt(self.spectrum.eigenvalues[retained] + self.ridge)
        rows = (cross @ self.spectrum.eigenvectors[:, retained]) / scales[None, :]
        return rows.reshape(len(rows) // self.blocks.width, self.blocks.width, rows.shape[1])


@dataclass(frozen=True, eq=False)
class SoftmaxReduction(Reduction):
    """For a softmax and independent outputs with one kernel: k systems of n points instead of one of n k.

    With `D_c = diag(p_c)` and `Λ = D - (stacked D_c) (stacked D_c)^T`, the inverse `(Θ/τ + Λ^{-1})^{-1}` is
    `E - E 1 (Σ_c E_c)^{-1} 1^T E`, `E_c = D_c^{1/2} (1 + D_c^{1/2} Θ D_c^{1/2} / τ)^{-1} D_c^{1/2}`, in which nothing
    is divided by a probability.

    Source:
        Rasmussen & Williams (2006), equations 3.44 to 3.46 and algorithm 3.4.

    Args:
        blocks: independent outputs.
        x: the training points.
        gram: Θ on them.
        probabilities: p.
        ridge: τ, the prior precision.
    """

    gram: Float[np.ndarray, "n n"]
    probabilities: Float[np.ndarray, "n k"]
    ridge: float
    inverses: Float[np.ndarray, "k n n"] = field(init=False)
    log_determinant: float = field(init=False)
    total: Float[np.ndarray, "n n"] = field(init=False)

    def __post_init__(self) -> None:
        inverses = np.empty((self.probabilities.shape[1], *self.gram.shape))
        log_determinant = 0.0
        invert = get_lapack_funcs("potri", (self.gram,))
        for output, probability in enumerate(self.probabilities.T):
            scale = np.sqrt(probability)
            inner = self.gram * (scale[:, None] * scale[None, :] / self.ridge)
            inner[np.diag_indices_from(inner)] += 1.0
            factor = self._factor(inner)
            log_determinant += 2.0 * float(np.sum(np.log(np.diag(factor))))
            lower, _ = invert(factor, lower=1, overwrite_c=1)
            inverses[output] = np.tril(lower) + np.tril(lower, -1).T
            inverses[output] *= scale[:, None] * scale[None, :]
        total = self._factor(inverses.sum(axis=0))
        log_determinant += 2.0 * float(np.sum(np.log(np.diag(total))))
        object.__setattr__(self, "inverses", inverses)
        object.__setattr__(self, "total", total)
        object.__setattr__(self, "log_determinant", log_determinant)

    @property
    def width(self) -> int:
        return len(self.gram) * (2 * self.blocks.outputs + 1)

    def _factor(self, matrix: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
        try:
            return scipy.linalg.cholesky(matrix, lower=True, check_finite=False)
        except scipy.linalg.LinAlgError:
            raise NotPositiveDefiniteError(
                f"LinearizedLaplace.classification needs a positive semi-definite kernel, got {self.blocks.kernel!r} "
                f"on {len(matrix)} points, whose rounding counts at prior_precision={self.ridge:.3g}. Use float64 "
                "inputs, or a larger prior_precision."
            ) from None

    @property
    def determined(self) -> float:
        """`tr(Θ/τ (Θ/τ + Λ^{-1})^{-1})`, the effective number of parameters."""
        value = 0.0
        for inverse in self.inverses:
            coupled = scipy.linalg.solve_triangular(self.total, inverse, lower=True, check_finite=False)
            value += float(np.sum(inverse * self.gram)) - float(np.sum((coupled @ self.gram) * coupled))
        return value / self.ridge

    def between(self, points: Any) -> Float[np.ndarray, "m m k k"]:
        cross, own, coupled = self._pieces(points)
        alone = np.einsum("im,cin->mnc", cross, own)
        explained = alone[:, :, :, None] * np.eye(self.blocks.outputs)
        return (explained - np.einsum("cim,din->mncd", coupled, coupled, optimize=True)) / self.ridge

    def averaged(self, points: Any) -> Float[np.ndarray, "m m"]:
        cross, own, coupled = self._pieces(points)
        rows = coupled.reshape(-1, coupled.shape[2])
        return (cross.T @ own.sum(axis=0) - rows.T @ rows) / (self.ridge * self.blocks.outputs)

    def diagonal(self, points: Any) -> Float[np.ndarray, "m k k"]:
        cross, own, coupled = self._pieces(points)
        alone = np.einsum("im,cim->mc", cross, own)
        by_point = coupled.transpose(2, 0, 1)
        return (
            alone[:, :, None] * np.eye(self.blocks.outputs) - by_point @ by_point.transpose(0, 2, 1)
        ) / self.ridge

    def _pieces(self, points: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`Θ_X*` (n, m), `E_c Θ_X*` (k, n, m) and `L^{-1} E_c Θ_X*`, `L L^T = Σ_c E_c`."""
        cross = on_host(self.blocks.cross(points, self.x)).T
        own = self.inverses @ cross
        flat = own.transpose(1, 0, 2).reshape(len(self.gram), -1)
        coupled = scipy.linalg.solve_triangular(self.total, flat, lower=True, check_finite=False)
        return cross, own, coupled.reshape(len(self.gram), len(own), -1).transpose(1, 0, 2)
