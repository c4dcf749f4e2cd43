"""The largest step of functional gradient descent that converges, for quadratic functionals."""

import numpy as np
import scipy.sparse.linalg

from ntkit.rkhs.expansion import Expansion
from ntkit.rkhs.functional import Functional
from ntkit.rkhs.span import Coordinates, Span

SMALLEST_ITERATIVE = 16
"""Below this many coordinates the second derivative is written out: the Arnoldi iteration needs room."""


def largest_stable_step(functional: Functional, f0: Expansion) -> float:
    """`2 / L`, L the largest eigenvalue of the second derivative of a quadratic functional.

    Steps of functional gradient descent converge if and only if they are smaller. For
    `EmpiricalRisk(optax.squared_error, x, y) + λ SquaredNorm()` it is `1 / (λ_max(K(X, X)) + λ)`. The eigenvalue
    is that of the functional's own gradients, by the Arnoldi iteration, on the centres of `f0` and the
    functional's points; infinite when it is not positive.

    Args:
        functional: a functional whose gradient is affine: of `SquaredNorm`, `InnerProduct`, `Evaluation` and
            `EmpiricalRisk` with `optax.squared_error` or `optax.l2_loss`, sums and multiples.
        f0: any function of the space, with as many outputs as are trained.

    Raises:
        ValueError: for any other functional.

    >>> import numpy as np, optax
    >>> from ntkit.kernels.stationary import RBF
    >>> from ntkit.rkhs import EmpiricalRisk, SquaredNorm
    >>> x = np.array([[0.0]])
    >>> ridge = EmpiricalRisk(optax.squared_error, x, x) + 3.0 * SquaredNorm()
    >>> largest_stable_step(ridge, Expansion.zero(RBF(), x))   # 1 / (1 + 3)
    0.25
    """
    points = functional.points
    if not functional.is_quadratic or points is None:
        raise ValueError(
            f"largest_stable_step needs a quadratic functional, got {functional!r}. For any other the bound depends "
            "on where the descent goes: try steps, those too large are refused."
        )
    span = Span.of(f0.kernel, (f0.centers, *points))
    return stable_step(functional, span.coordinates(f0))


def stable_step(functional: Functional, f0: Coordinates) -> float:
    """The same for a quadratic functional at a function of a span, whose Gram matrix is there already."""
    span, shape = f0.span, f0.coefficients.shape

    def gradient(coefficients: np.ndarray) -> np.ndarray:
        there = span.at(coefficients)
        return span.gradient(there, functional.differential(there))

    def curvature(flat: np.ndarray) -> np.ndarray:
        # The gradient is affine: half the difference of two is its linear part, whatever their distance.
        change = flat.reshape(shape)
        return ((gradient(change) - gradient(-change)) / 2.0).ravel()

    size = shape[0] * shape[1]
    if size < SMALLEST_ITERATIVE:
        matrix = np.stack([curvature(unit) for unit in np.eye(size)], axis=1)
        largest = float(np.linalg.eigvals(matrix).real.max())
    else:
        largest = _largest_eigenvalue(curvature, size)
    return 2.0 / largest if largest > 0 else np.inf


def _largest_eigenvalue(operator, size: int) -> float:
    """The algebraically largest eigenvalue of an operator that is self-adjoint in the norm of the space."""
    start = np.random.default_rng(0).normal(size=size)
    if not operator(start).any():
        return 0.0
    linear = scipy.sparse.linalg.LinearOperator((size, size), matvec=operator, dtype=np.float64)
    try:
        found = scipy.sparse.linalg.eigs(linear, k=1, which="LR", v0=start, return_eigenvectors=False)
    except scipy.sparse.linalg.ArpackNoConvergence as trouble:
        # An eigenvalue half found is a bound too loose; the descent itself notices what then diverges.
        found = trouble.eigenvalues
    return float(np.real(found).max()) if len(found) else 0.0
