"""A proof, on given data, that training reaches zero loss: bounds of eigenvalues that rounding cannot undo."""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np
import scipy.linalg
import scipy.sparse
from scipy.sparse.csgraph import connected_components

from ntkit.dynamics.arguments import as_learning_rate, as_times
from ntkit.dynamics.squared_loss import Reduction, loss_weight
from ntkit.kernels.base import Kernel
from ntkit.numerics.dtypes import is_concrete
from ntkit.numerics.host import on_host
from ntkit.numerics.points import number_of_points, points_of
from ntkit.solvers import decompose
from ntkit.solvers.checks import check_gram

ENTRY_ACCURACY = {np.dtype(np.float64): 1e-12, np.dtype(np.float32): 1e-5}
"""How far entries of a kernel may be off, relative to `sqrt(k(x, x) k(x', x'))`: what the tests of accuracy promise."""

UNIT_ROUNDOFF = np.finfo(np.float64).eps / 2.0

WIDENINGS = 40
"""How often the trial shift is moved away from the estimate, doubling, before a bound is given up."""

SAME = 64.0
"""Correlations within so many roundings of 1 or -1 count as 1 or -1."""

INVOLVED = 1e-6
"""A point takes part in a dependence if the null directions hold more than this share of it."""

Verdict = Literal["positive definite", "singular", "undecided"]


@dataclass(frozen=True)
class DependentPoints:
    """Points that make a kernel singular.

    Attributes:
        points: their row numbers, increasing.
        reason: "duplicates" (equal rows), "collinear" (multiples of one another, which a homogeneous network without
            biases cannot tell apart), "indistinguishable" (the kernel's correlation is 1 or -1 for another reason),
            or "dependent" (a linear relation between more than two).
    """

    points: tuple[int, ...]
    reason: Literal["duplicates", "collinear", "indistinguishable", "dependent"]


@dataclass(frozen=True, eq=False)
class Certificate:
    """What the smallest eigenvalue of a tangent kernel proves about training (see `convergence_certificate`).

    Attributes:
        verdict: "positive definite" if the lower bound is positive; "singular" if points were found that make it so;
            "undecided" if the smallest eigenvalue cannot be told from zero in this arithmetic.
        smallest_eigenvalue: the computed `λ_min`.
        lower: a bound below the true `λ_min`, including the rounding of everything done here.
        upper: a bound above it.
        largest_eigenvalue: a bound above the true `λ_max`.
        entry_accuracy: the relative accuracy of the kernel's entries that the bounds allow for.
        singular_points: groups of points that make the kernel singular.
        rank: how many computed eigenvalues can be told from zero.
        size: the number of points n.
        learning_rate: η.
        weight: the reduction's factor c of the loss.
    """

    verdict: Verdict
    smallest_eigenvalue: float
    lower: float
    upper: float
    largest_eigenvalue: float
    entry_accuracy: float
    singular_points: tuple[DependentPoints, ...]
    rank: int
    size: int
    learning_rate: float
    weight: float

    @property
    def error_bound(self) -> float:
        """How far the computed smallest eigenvalue can be from the true one."""
        return max(self.smallest_eigenvalue - self.lower, self.upper - self.smallest_eigenvalue)

    @property
    def is_positive_definite(self) -> bool:
        """Whether the kernel is proved to be positive definite on the data."""
        return self.verdict == "positive definite"

    @property
    def rate(self) -> float:
        """The proved rate `2 η c λ_min` at which the squared loss falls at least; 0 if nothing is proved."""
        return 2.0 * self.learning_rate * self.weight * max(self.lower, 0.0)

    def loss_bound(self, initial_loss: float | int, t: Any) -> Any:
        """The proved bound `C(t) <= exp(-2 η c λ_min t) C(0)` of gradient flow on the squared loss."""
        times = as_times("Certificate.loss_bound", t)
        exponent = self.rate * np.where(np.isinf(times) & (self.rate == 0.0), 0.0, times)
        bound = float(initial_loss) * np.exp(-exponent)
        return float(bound) if times.ndim == 0 else bound

    def max_learning_rate(self, momentum: float | int = 0.0) -> float:
        """A learning rate at which descent with this momentum is proved to be stable, `2 (1 + β) / (c λ_max)`."""
        bound = self.weight * self.largest_eigenvalue
        return 2.0 * (1.0 + float(momentum)) / bound if bound > 0 else np.inf

    def __str__(self) -> str:
        lines = [
            f"{self.verdict} on {self.size} points: smallest eigenvalue {self.smallest_eigenvalue:.6g}, proved to "
            f"lie in [{self.lower:.6g}, {self.upper:.6g}]",
            f"rank {self.rank}; squared loss falls at least as exp(-{self.rate:.3g} t); stable learning rates up to "
            f"{self.max_learning_rate():.6g}",
        ]
        lines += [f"{group.reason}: points {list(group.points)}" for group in self.singular_points]
        return "\n".join(lines)


def convergence_certificate(
    kernel: Kernel,
    x: Any,
    *,
    learning_rate: float | int = 1.0,
    reduction: Reduction = "sum",
    outputs: int = 1,
    entry_accuracy: float | None = None,
) -> Certificate:
    """Whether gradient flow with this tangent kernel is proved to reach zero training loss, and how fast.

    If `λ_min > 0` the squared loss obeys `C(t) <= exp(-2 η c λ_min t) C(0)`, and any loss that is convex in the outputs
    falls to its minimum. The lower bound of `λ_min` is proved by a Cholesky factorisation of `Θ - s I` that succeeds:
    its rounding is at most `γ_{n+1} / (1 - γ_{n+1}) tr(Θ - s I)`. The upper bound is a Rayleigh quotient with its
    rounding. Both are widened by what inaccurate entries can do, `entry_accuracy tr Θ`.

    Args:
        kernel: a tangent kernel (or any other).
        x: n training points, as the kernel takes them: an array, or a pytree of arrays.
        learning_rate: η.
        reduction: of the loss, as in `gradient_flow`.
        outputs: the number of outputs k, which only `reduction="mean"` asks for.
        entry_accuracy: relative accuracy of the entries; by default what ntkit's tests promise, 1e-12 in float64.

    Raises:
        ValueError: for points that are traced, empty or not finite, or a kernel that is not symmetric.
        NotPositiveDefiniteError: for a kernel with a materially negative eigenvalue.

    Source:
        Rump (2006), Verification of positive definiteness, theorem 2.3; Du et al. (2019), theorem 3.2, for the rate.

    >>> import numpy as np
    >>> from ntkit.kernels.stationary import RBF
    >>> certificate = convergence_certificate(RBF(), np.array([[0.0], [1.0], [1.0]]))
    >>> certificate.verdict, certificate.singular_points[0]
    ('singular', DependentPoints(points=(1, 2), reason='duplicates'))
    """
    who = "convergence_certificate"
    x = kernel.as_inputs(who, x)
    rate = as_learning_rate(who, learning_rate)
    weight = loss_weight(who, reduction, number_of_points(x), outputs)
    if not is_concrete((kernel, x)):
        raise ValueError(
            f"{who} needs arrays that hold numbers, got values traced by JAX. Call it outside jit."
        )
    gram = kernel(x)
    check_gram(who, gram, 0.0, repr(kernel))
    if entry_accuracy is None:
        entry_accuracy = ENTRY_ACCURACY[np.dtype(gram.dtype)]
    matrix = on_host(gram)
    matrix = (matrix + matrix.T) / 2.0
    spectrum = decompose(gram, name=repr(kernel), who=who)
    allowance = float(entry_accuracy) * float(np.abs(np.diag(matrix)).sum())
    smallest, largest = float(spectrum.eigenvalues[0]), float(spectrum.eigenvalues[-1])
    lower = _proved_below(matrix, smallest) - allowance
    upper = _rayleigh_above(matrix, spectrum.eigenvectors[:, 0]) + allowance
    above = -_proved_below(-matrix, -largest) + allowance
    groups = _dependent_points(
        jax.tree_util.tree_map(np.asarray, x), np.asarray(gram), spectrum.eigenvectors[:, ~spectrum.retained]
    )
    verdict: Verdict = "positive definite" if lower > 0 else "singular" if groups else "undecided"
    return Certificate(
        verdict=verdict,
        smallest_eigenvalue=smallest,
        lower=lower,
        upper=max(upper, lower),
        largest_eigenvalue=above,
        entry_accuracy=float(entry_accuracy),
        singular_points=() if lower > 0 else groups,
        rank=spectrum.rank,
        size=len(matrix),
        learning_rate=rate,
        weight=weight,
    )


def _proved_below(matrix: np.ndarray, estimate: float) -> float:
    """A number proved to lie below the smallest eigenvalue, by factorisations at shifts below its estimate."""
    size = len(matrix)
    # γ_{n+1}, doubled so that its own rounding, and that of the trace, cannot matter.
    gamma = 2.0 * (size + 1) * UNIT_ROUNDOFF
    entries = np.abs(np.diag(matrix)).max()
    step = gamma * max(float(np.abs(np.trace(matrix) - size * estimate)), entries)
    for widening in range(WIDENINGS):
        shift = estimate - step * 2.0**widening
        shifted = np.array(matrix.T, order="F")
        np.einsum("ii->i", shifted)[...] -= shift
        trace = float(np.trace(shifted))
        _, failed_at = scipy.linalg.lapack.dpotrf(shifted, lower=1, overwrite_a=1)
        if failed_at == 0:
            # Subtracting the shift rounded every diagonal entry once.
            return shift - gamma / (1.0 - gamma) * trace - 2.0 * UNIT_ROUNDOFF * (entries + abs(shift))
    return -np.inf


def _rayleigh_above(matrix: np.ndarray, vector: np.ndarray) -> float:
    """A number proved to lie above the smallest eigenvalue: a Rayleigh quotient plus its rounding."""
    gamma = 2.0 * (2 * len(matrix) + 4) * UNIT_ROUNDOFF
    image, length = vector @ (matrix @ vector), vector @ vector
    rounding = gamma * (np.abs(vector) @ (np.abs(matrix) @ np.abs(vector)) + abs(image))
    return float((image + rounding) / length + gamma * abs(image) / length)


def _dependent_points(x: Any, gram: np.ndarray, null: np.ndarray) -> tuple[DependentPoints, ...]:
    """Groups of points whose pairs have correlation 1 or -1, and what else the null directions involve."""
    roots = np.sqrt(np.clip(np.diag(gram), np.finfo(gram.dtype).tiny, None))
    tolerance = SAME * np.finfo(gram.dtype).eps
    together = np.abs(gram) >= (1.0 - tolerance) * roots[:, None] * roots[None, :]
    together |= np.diag(np.diag(gram) <= 0)
    _, labels = connected_components(scipy.sparse.csr_array(together), directed=False)
    counts = np.bincount(labels)
    groups = []
    for label in np.flatnonzero(counts > 1):
        points = np.flatnonzero(labels == label)
        groups.append(DependentPoints(tuple(points.tolist()), how_dependent(points_of(x, points))))
    covered = np.isin(labels, np.flatnonzero(counts > 1))
    involved = np.flatnonzero(((null**2).sum(axis=1) > INVOLVED) & ~covered)
    if len(involved):
        groups.append(DependentPoints(tuple(involved.tolist()), "dependent"))
    return tuple(sorted(groups, key=lambda group: group.points))


def how_dependent(rows: Any) -> Any:
    """Why points that a kernel cannot tell apart are alike: "duplicates", "collinear" or "indistinguishable"."""
    if all(bool((leaf == leaf[:1]).all()) for leaf in jax.tree_util.tree_leaves(rows)):
        return "duplicates"
    if not isinstance(rows, np.ndarray) or rows.dtype.kind != "f":
        return "indistinguishable"  # tokens and pytrees have no multiples
    rows = rows.reshape(len(rows), -1)
    norms = np.linalg.norm(rows, axis=1)
    if (norms > 0).all():
        units = rows / norms[:, None]
        gaps = np.minimum(np.abs(units - units[:1]).max(axis=1), np.abs(units + units[:1]).max(axis=1))
        if (gaps <= SAME * np.finfo(rows.dtype).eps).all():
            return "collinear"
    return "indistinguishable"
