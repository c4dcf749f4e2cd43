"""Covariances of the raw inputs, accurate also where two inputs nearly coincide.

The angle of two nearly parallel or opposite inputs cannot be had from their scalar product: `1 - rho` loses
all its digits. Where inputs are concrete, those few pairs are taken from the chord between the
normalised inputs; where they are traced, a defect within rounding of 0 counts as 0.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ntkit.errors import KernelOverflowError
from ntkit.nn.state import KernelState
from ntkit.numerics.gaussian_pair import GaussianPair

CHORD_BYTES = 1 << 24
"""Memory for the differences of nearly parallel inputs, taken a slab at a time."""


class Points(NamedTuple):
    """Concrete inputs with what every tile needs of them.

    Attributes:
        x: inputs, shape (n, d).
        var: `x.x / d`, shape (n,).
        root: `sqrt(var)`, shape (n,).
    """

    x: np.ndarray
    var: np.ndarray
    root: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray) -> "Points":
        """The points, if their squares are numbers.

        Raises:
            KernelOverflowError: otherwise.
        """
        var = np.einsum("ij,ij->i", x, x) / x.shape[1]
        if not np.isfinite(var).all():
            worst = int(np.flatnonzero(~np.isfinite(var))[0])
            raise KernelOverflowError(
                f"The square of point {worst} needs more than {x.dtype} can hold (its largest feature is "
                f"{np.abs(x[worst]).max():.3g}). Standardise the inputs."
            )
        return cls(x, var, np.sqrt(var))

    def rows(self, block: slice) -> "Points":
        """A contiguous part of the points."""
        return Points(self.x[block], self.var[block], self.root[block])


class PairStatistics(NamedTuple):
    """Covariance, `1 - rho` and `1 + rho` between two blocks of inputs, each of shape (n1, n2)."""

    cov: np.ndarray
    defect: np.ndarray
    surplus: np.ndarray


def pair_statistics(points1: Points, points2: Points, diagonal: bool) -> PairStatistics:
    """What the first layer needs of every pair of concrete inputs.

    `diagonal` says that the blocks are the same inputs, paired with themselves on the diagonal.
    """
    cov = points1.x @ points2.x.T
    cov /= points1.x.shape[1]
    scale = points1.root[:, None] * points2.root[None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = cov / scale
    correlation[scale == 0] = 0.0
    np.clip(correlation, -1.0, 1.0, out=correlation)
    defect, surplus = 1.0 - correlation, 1.0 + correlation
    if diagonal:
        np.fill_diagonal(cov, points1.var)
        np.fill_diagonal(defect, np.where(points1.var > 0, 0.0, 1.0))
        np.fill_diagonal(surplus, np.where(points1.var > 0, 2.0, 1.0))
    for sign, distance in ((-1.0, defect), (1.0, surplus)):
        _refine(distance, points1, points2, sign, diagonal and sign < 0)
    return PairStatistics(cov, defect, surplus)


def _refine(distance: np.ndarray, points1: Points, points2: Points, sign: float, diagonal: bool) -> None:
    """Replace small entries of `1 + sign rho` by half the squared chord between normalised inputs."""
    features = points1.x.shape[1]
    near = distance < nearly_parallel(distance.dtype)
    if diagonal:
        np.fill_diagonal(near, False)
    rows, columns = np.nonzero(near)
    slab = max(1, CHORD_BYTES // (features * distance.itemsize))
    for start in range(0, len(rows), slab):
        i, j = rows[start : start + slab], columns[start : start + slab]
        chord = points1.x[i] / points1.root[i, None] + sign * (points2.x[j] / points2.root[j, None])
        distance[i, j] = np.einsum("ij,ij->i", chord, chord) / (2.0 * features)


def nearly_parallel(dtype: np.dtype) -> float:
    """The defect below which the chord is more accurate than the scalar product (angles 0.014 and 0.045)."""
    return 1e-4 if dtype == np.float64 else 1e-3


def traced_state(x1, x2, ntk: bool) -> KernelState:
    """The state before the first layer as a pure function of the inputs; `x2=None` pairs x1 with itself."""
    features = x1.shape[1]
    var1 = jnp.sum(x1 * x1, axis=1) / features
    var2 = var1 if x2 is None else jnp.sum(x2 * x2, axis=1) / features
    other = x1 if x2 is None else x2
    cov = jnp.matmul(x1, other.T, precision="highest") / features
    pair = GaussianPair.of(cov, var1[:, None], var2[None, :])
    # Rounding of a sum of `features` products; below it the angle is noise.
    noise = (4.0 + features**0.5 / 4.0) * float(jnp.finfo(cov.dtype).eps)
    defect, surplus = (jnp.where(distance < noise, 0.0, distance) for distance in (pair.defect, pair.surplus))
    if x2 is None:
        itself = jnp.eye(len(var1), dtype=bool)
        cov = jnp.where(itself, var1[:, None], cov)
        alive = itself & (var1[:, None] > 0)
        defect, surplus = jnp.where(alive, 0.0, defect), jnp.where(alive, 2.0, surplus)
    zeros = jnp.zeros_like(cov) if ntk else None
    return KernelState(cov, zeros, var1[:, None], var2[None, :], defect, surplus, features)
