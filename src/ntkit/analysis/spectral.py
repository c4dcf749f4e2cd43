"""What the spectra of a network's kernels say about a table: which targets are easy, how fast they are learnt."""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from ntkit.analysis.noise import evidence_noise
from ntkit.analysis.threads import suited_to
from ntkit.errors import TableError
from ntkit.inference.search_space import KernelName
from ntkit.kernels import NNGP, NTK, Kernel
from ntkit.nn.base import Layer
from ntkit.theory.alignment import compare_kernels
from ntkit.theory.certificate import Certificate, convergence_certificate, how_dependent
from ntkit.theory.power_law import PowerLaw
from ntkit.theory.spectrum import Eigensystem, eigensystem

FIRST_OF_DECAY = 10
FEWEST_OF_DECAY = 5
"""A decay is fitted to at least this many eigenvalues."""


@dataclass(frozen=True)
class SpectralAnalysis:
    """Spectra on n rows, in Mercer's normalisation (eigenvalues of the Gram matrix divided by n).

    Attributes:
        ntk: eigenvalues of the tangent kernel, decreasing, shape (n,).
        nngp: those of the network's covariance at initialisation, shape (n,).
        shares: share of the targets' mean square along each eigenfunction of the tangent kernel, shape (n,).
        rank: eigenvalues of the tangent kernel that can be told from zero.
        nngp_rank: the same of the covariance.
        decay: power law through the tangent kernel's eigenvalues; None where too few can be told from zero.
        decay_range: numbers of the first and last eigenvalue fitted.
        ridge: of `K + ridge I`, for the effective dimension.
        target_alignment: of the tangent kernel with the targets, both centred, in [0, 1].
        kernel_alignment: of NTK and NNGP, both centred (CKA), in [0, 1].
        certificate: of the tangent kernel; points are row numbers of the table.
    """

    ntk: Float[np.ndarray, " n"]
    nngp: Float[np.ndarray, " n"]
    shares: Float[np.ndarray, " n"]
    rank: int
    nngp_rank: int
    decay: PowerLaw | None
    decay_range: tuple[int, int]
    ridge: float
    target_alignment: float
    kernel_alignment: float
    certificate: Certificate

    @property
    def learning_times(self) -> Float[np.ndarray, " n"]:
        """The time in which each direction is learnt by gradient flow on the mean loss: `1 / ntk` at η = 1."""
        known = np.arange(len(self.ntk)) < self.rank
        return np.divide(1.0, self.ntk, out=np.full(len(self.ntk), np.inf), where=known)

    def effective_dimension(self, kernel: KernelName = "ntk") -> float:
        """`Σ λ / (λ + ridge / n)`, the number of directions of a kernel that the ridge leaves."""
        values = self.ntk[: self.rank] if kernel == "ntk" else self.nngp[: self.nngp_rank]
        return float((values / (values + self.ridge / len(self.ntk))).sum())

    def to_frame(self) -> pl.DataFrame:
        """One row per eigenvalue, largest first."""
        return pl.DataFrame(
            {
                "number": np.arange(1, len(self.ntk) + 1),
                "ntk_eigenvalue": self.ntk,
                "learning_time": self.learning_times,
                "target_share": self.shares,
                "cumulative_share": np.cumsum(self.shares),
                "nngp_eigenvalue": self.nngp,
            }
        )


def spectral_analysis(
    network: Layer,
    x: Float[np.ndarray, "n d"],
    y: Float[np.ndarray, "n k"],
    rows: Int[np.ndarray, " n"],
    *,
    ridge: float | int | None = None,
    first: int | None = None,
    last: int | None = None,
) -> SpectralAnalysis:
    """Diagonalise NTK and NNGP of a network on encoded rows and compare them with the targets.

    Args:
        network: the network.
        x: encoded rows.
        y: encoded targets.
        rows: their row numbers in the table.
        ridge: of `K + ridge I`; None for the noise variance with the greatest marginal likelihood.
        first: number of the first eigenvalue of the fitted decay, from 1; None for 10, or 1 where there are few.
        last: number of the last one; None for half of the rank, beyond which eigenvalues of a sample are too small.

    Raises:
        ValueError: for a range or ridge that the spectrum does not allow.
        KernelUndefinedError: for a network without a tangent kernel.

    >>> from ntkit import nn
    >>> x = np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    >>> found = spectral_analysis(nn.Dense(1), x, x[:, :1], np.arange(3), ridge=0.0)
    >>> found.rank, round(found.effective_dimension(), 9), found.certificate.verdict
    (2, 2.0, 'singular')
    """
    return spectra(NTK(network), NNGP(network), x, y, rows, ridge=ridge, first=first, last=last)


def spectra(
    ntk: Kernel,
    nngp: Kernel,
    x: Float[np.ndarray, "n *d"],
    y: Float[np.ndarray, "n k"],
    rows: Int[np.ndarray, " n"],
    *,
    inputs: Float[np.ndarray, "n *s"] | None = None,
    ridge: float | int | None = None,
    first: int | None = None,
    last: int | None = None,
) -> SpectralAnalysis:
    """`spectral_analysis` of two kernels; `inputs` are the encoded rows where `x` are only their numbers."""
    with suited_to(len(x)):
        system, covariance = eigensystem(ntk, x), eigensystem(nngp, x, count=1)
        ridge = evidence_noise(np.asarray(ntk(x)), y) if ridge is None else checked_ridge(ridge)
        alignments = compare_kernels((ntk, nngp), x, y)
        squares = np.square(system.coefficients(y)).sum(axis=1)
        decay, decay_range = fitted_decay(system, first, last)
        assert alignments.centered_target is not None  # since targets are given
        return SpectralAnalysis(
            ntk=system.eigenvalues,
            nngp=covariance.eigenvalues,
            shares=squares / squares.sum(),
            rank=system.rank,
            nngp_rank=covariance.rank,
            decay=decay,
            decay_range=decay_range,
            ridge=ridge,
            target_alignment=float(alignments.centered_target[0]),
            kernel_alignment=float(alignments.centered[0, 1]),
            certificate=in_table_rows(
                convergence_certificate(ntk, x, reduction="mean_points"),
                rows,
                x if inputs is None else inputs,
            ),
        )


def checked_ridge(ridge: float | int) -> float:
    """A ridge as a finite float of at least 0.

    Raises:
        TableError: otherwise.
    """
    if not (np.isfinite(ridge) and ridge >= 0):
        raise TableError(f"A spectrum needs a finite ridge (--ridge) of at least 0, got {ridge}.")
    return float(ridge)


def fitted_decay(
    system: Eigensystem, first: int | None = None, last: int | None = None
) -> tuple[PowerLaw | None, tuple[int, int]]:
    """The power law through a middle part of the spectrum, where it exists; a range that is asked for has to."""
    asked = first is not None or last is not None
    if last is None:
        last = max(system.rank // 2, min(system.rank, 2 * FEWEST_OF_DECAY))
    if first is None:
        first = FIRST_OF_DECAY if last >= FIRST_OF_DECAY + 2 * FEWEST_OF_DECAY else 1
    if not asked and last - first + 1 < FEWEST_OF_DECAY:
        return None, (first, last)
    return system.decay_exponent(first, last), (first, last)


def in_table_rows(
    certificate: Certificate, rows: np.ndarray, x: Float[np.ndarray, "n *d"] | None = None
) -> Certificate:
    """The certificate with the table's row numbers for points, and why they depend on each other by the inputs x."""
    groups = []
    for group in certificate.singular_points:
        points, reason = list(group.points), group.reason
        if x is not None and reason != "dependent":
            reason = how_dependent(x[points])
        groups.append(replace(group, points=tuple(rows[points].tolist()), reason=reason))
    return replace(certificate, singular_points=tuple(groups))
