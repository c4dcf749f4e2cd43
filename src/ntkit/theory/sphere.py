"""The Mercer spectrum on a sphere of kernels that depend on the angle alone: Funk and Hecke's formula."""

import warnings
from dataclasses import dataclass
from functools import lru_cache
from math import comb

import numpy as np
from jaxtyping import Float
from scipy.special import betaln

from ntkit.errors import AccuracyWarning
from ntkit.kernels.base import Kernel
from ntkit.theory.power_law import PowerLaw, fit_power_law

NODES = 256
"""Quadrature nodes of one piece of [0, π]: the side of a kernel's tile, which compiles for one shape."""

MOST_NUMBERS = 1 << 22
"""Coordinates of points on which the kernel is evaluated at a time."""

MOST_NODES = 65_536
"""Where the doubling of nodes stops."""

TOLERANCE = 1e-13
"""Doubling stops when no degree's share of the variance moves by more."""

LARGEST_ERROR = 1e-4
"""A degree's share of the variance that is less certain than this is warned of."""

RESOLVED = 100.0
"""Eigenvalues that are not this many times their error are not told from 0."""

SAME_ANGLE = 1e-8
"""Values at one angle may differ by this much of `k(x, x)`: float32 constants inside a kernel are no dependence."""


@dataclass(frozen=True, eq=False)
class SphereSpectrum:
    """Eigenvalues of a kernel on the sphere of radius r in `R^dimension`, under the uniform distribution.

    `k(x, x') = Σ_l eigenvalue_l Σ_m Y_lm(x) Y_lm(x')` with spherical harmonics of mean square 1: each degree l has
    one eigenvalue, `multiplicity_l` times, and `k(x, x) = Σ_l multiplicity_l eigenvalue_l`.

    Attributes:
        dimension: of the space around the sphere, so the sphere itself has one less.
        radius: of the sphere.
        eigenvalues: of degrees 0, 1, ..., shape (degrees,): the n-th part of those of a Gram matrix of n
            points. What is not 100 times its error is 0: in high dimensions all but the lowest degrees.
        multiplicities: how many independent harmonics each degree has, shape (degrees,), as floats: they grow fast.
        errors: how far each eigenvalue may be off (doubling the nodes, and rounding), shape (degrees,).
        variance: `k(x, x)`.
    """

    dimension: int
    radius: float
    eigenvalues: Float[np.ndarray, " degrees"]
    multiplicities: Float[np.ndarray, " degrees"]
    errors: Float[np.ndarray, " degrees"]
    variance: float

    @property
    def shares(self) -> Float[np.ndarray, " degrees"]:
        """Each degree's share of the variance, `multiplicity eigenvalue / k(x, x)`."""
        return self.multiplicities * self.eigenvalues / self.variance

    @property
    def tail(self) -> float:
        """`k(x, x) − Σ_l multiplicity_l eigenvalue_l`, what the degrees beyond the last and those not resolved hold.

        Modes too weak to be learnt act as a ridge of this size on the others (Canatar et al. 2021): add it to the
        ridge of `learning_curve`.
        """
        return max(self.variance * (1.0 - float(self.shares.sum())), 0.0)

    @property
    def frequencies(self) -> Float[np.ndarray, " degrees"]:
        """`l + d/2 − 1` of every degree l."""
        return np.arange(len(self.eigenvalues)) + self.dimension / 2.0 - 1.0

    @property
    def resolved(self) -> np.ndarray:
        """Which eigenvalues are told from 0, a boolean per degree."""
        return self.eigenvalues > 0.0

    def effective_dimension(self, ridge: float | int) -> float:
        """`Σ_l multiplicity_l λ_l / (λ_l + ridge)`, in the eigenvalues' normalisation: that of `K + n ridge I`.

        Warns:
            AccuracyWarning: when the degrees left out could add more than a hundredth (at most `tail / ridge`).
        """
        if not (np.isfinite(ridge) and ridge > 0):
            raise ValueError(f"SphereSpectrum.effective_dimension needs a positive ridge, got {ridge}.")
        known = self.eigenvalues
        dimension = float((self.multiplicities * known / (known + ridge)).sum())
        if self.tail / ridge > 0.01 * dimension:
            warnings.warn(
                f"SphereSpectrum.effective_dimension: degrees above {len(known) - 1} may add up to "
                f"{self.tail / ridge:.3g} to {dimension:.3g}. Compute more degrees.",
                AccuracyWarning,
                stacklevel=2,
            )
        return dimension

    def decay_exponent(self, first: int = 1, last: int | None = None) -> PowerLaw:
        """The power law `λ_l = prefactor (l + d/2 − 1)^exponent` through the resolved degrees `first` to `last`.

        `l + d/2 − 1` is the root of the Laplacian's eigenvalue up to a constant, the variable in which spectra bend
        least at low degrees (`frequencies`). Degrees whose eigenvalue is zero (a ReLU network of one hidden layer
        without biases has none of odd degree above 1) are passed over. Known limits on the sphere in `R^d`: -d for
        the tangent kernel of ReLU networks, -(d + 2) for their NNGP kernel (Bietti & Bach 2021, Deep equals shallow
        for ReLU networks in kernel regimes).
        """
        last = len(self.eigenvalues) - 1 if last is None else last
        if not 1 <= first < last < len(self.eigenvalues):
            raise ValueError(
                f"SphereSpectrum.decay_exponent needs 1 <= first < last <= {len(self.eigenvalues) - 1} (the largest "
                f"degree), got first={first}, last={last}."
            )
        degrees = np.arange(first, last + 1)
        kept = degrees[self.resolved[first : last + 1]]
        if len(kept) < 3:
            raise ValueError(
                f"SphereSpectrum.decay_exponent needs 3 eigenvalues above their errors between degrees {first} and "
                f"{last}, got {len(kept)}. Choose lower degrees."
            )
        return fit_power_law(
            self.frequencies[kept], self.eigenvalues[kept], who="SphereSpectrum.decay_exponent"
        )


def sphere_spectrum(
    kernel: Kernel, dimension: int, max_degree: int, radius: float | int = 1.0
) -> SphereSpectrum:
    """The spectrum of a kernel on the sphere, by Funk and Hecke's formula.

    `λ_l = (∫ k(cos θ) P_l(cos θ) sin(θ)^(d−2) dθ) / (∫ sin(θ)^(d−2) dθ)` over [0, π], with the Gegenbauer (Legendre)
    polynomials of dimension d, `P_l(1) = 1`. In the angle, kernels of networks are smooth up to both ends even where
    they have a kink in the cosine (ReLU), so Gauss and Legendre's nodes converge fast; their number is doubled until
    nothing moves, and what moved last is part of `errors`.

    Args:
        kernel: a kernel that depends on the angle alone when both inputs have norm `radius`: NNGP and NTK of dense
            networks, RBF of one length scale, and their sums and products.
        dimension: d, the number of features, at least 2.
        max_degree: the largest degree.
        radius: the norm of the inputs. Standardised data have norms of about `sqrt(d)`.

    Raises:
        ValueError: for a kernel that also depends on the direction, or is zero.

    Warns:
        AccuracyWarning: when the nodes run out before the eigenvalues stand still.

    Source:
        Dai & Xu (2013), Approximation theory and harmonic analysis on spheres and balls, theorem 1.2.9;
        Bach (2017), Breaking the curse of dimensionality with convex neural networks, appendix D.

    >>> from ntkit import NNGP, nn
    >>> linear = sphere_spectrum(NNGP(nn.Dense(1, w_std=1.0, b_std=0.5)), dimension=3, max_degree=2, radius=3**0.5)
    >>> linear.eigenvalues[:2].round(9).tolist(), linear.multiplicities.tolist()
    ([0.25, 0.333333333], [1.0, 3.0, 5.0])
    """
    if dimension < 2 or max_degree < 0:
        raise ValueError(
            f"sphere_spectrum needs a dimension of at least 2 and a max_degree of at least 0, "
            f"got {dimension} and {max_degree}."
        )
    if not (np.isfinite(radius) and radius > 0):
        raise ValueError(f"sphere_spectrum needs a positive, finite radius, got {radius}.")
    radius = float(radius)
    variance = _check_zonal(kernel, dimension, radius)
    multiplicities = np.array([multiplicity(dimension, degree) for degree in range(max_degree + 1)])

    # The integrand has about l + d/2 half-waves; four nodes for each are plenty where it is smooth.
    nodes = NODES * -(-(4 * max_degree + 2 * dimension) // NODES)
    eigenvalues, rounding = _integrate(kernel, dimension, max_degree, radius, nodes)
    worst = np.inf
    while True:
        nodes *= 2
        before, worst_before = eigenvalues, worst
        eigenvalues, rounding = _integrate(kernel, dimension, max_degree, radius, nodes)
        moved = np.abs(eigenvalues - before)
        worst = float((moved * multiplicities).max()) / variance
        # Where doubling no longer helps, what moves is the rounding of the kernel itself.
        if worst <= TOLERANCE or worst > worst_before / 2.0 or 2 * nodes > MOST_NODES:
            break
    errors = moved + rounding
    eigenvalues = np.where(eigenvalues > RESOLVED * errors, eigenvalues, 0.0)
    uncertain = float((errors * multiplicities)[eigenvalues > 0].max(initial=0.0)) / variance
    if uncertain > LARGEST_ERROR:
        warnings.warn(
            f"sphere_spectrum: with {nodes} nodes a degree's share of the variance is known to {uncertain:.1e}. "
            "The errors of the result say how far each eigenvalue may be off; lower degrees are better.",
            AccuracyWarning,
            stacklevel=2,
        )
    return SphereSpectrum(dimension, radius, eigenvalues, multiplicities, errors, variance)


def _integrate(
    kernel: Kernel, dimension: int, max_degree: int, radius: float, nodes: int
) -> tuple[np.ndarray, np.ndarray]:
    """The eigenvalues by `nodes` nodes, and how far rounding of the integrand moves each."""
    # Pieces of equal length, with Gauss and Legendre's nodes on each.
    positions, weights = _piece()
    pieces = nodes // NODES
    theta = (((positions[None, :] + 1.0) / 2.0 + np.arange(pieces)[:, None]) * np.pi / pieces).ravel()
    weights = np.tile(weights / pieces, pieces)
    # 1 / ∫ sin^(d-2) = 1 / B((d-1)/2, 1/2); by logarithms, which no dimension overflows.
    log_measure = (dimension - 2) * np.log(np.sin(theta)) - betaln((dimension - 1) / 2.0, 0.5)
    measure = weights * (np.pi / 2.0) * np.exp(log_measure)
    first, second = np.zeros((2, dimension))
    first[0], second[1] = 1.0, 1.0
    values = _along_circle(kernel, first, second, radius, theta)
    polynomials = _legendre_polynomials(dimension, max_degree, np.cos(theta))
    eigenvalues = polynomials @ (measure * values)
    # Each term is off by a few roundings; a sum of terms of either sign by their root mean square, generously.
    rounding = 8 * np.finfo(np.float64).eps * (np.abs(polynomials) @ (measure * np.abs(values)))
    return eigenvalues, rounding


@lru_cache(maxsize=1)
def _piece() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(NODES)


def _along_circle(
    kernel: Kernel, first: np.ndarray, second: np.ndarray, radius: float, theta: np.ndarray
) -> np.ndarray:
    """`k(r first, r (cos θ first + sin θ second))` for orthonormal directions, shape (nodes,)."""
    values = []
    block = NODES * max(1, MOST_NUMBERS // (NODES * len(first)))
    for start in range(0, len(theta), block):
        angles = theta[start : start + block, None]
        points = radius * (np.cos(angles) * first[None, :] + np.sin(angles) * second[None, :])
        values.append(np.asarray(kernel(radius * first[None, :], points), np.float64)[0])
    return np.concatenate(values)


def _check_zonal(kernel: Kernel, dimension: int, radius: float) -> float:
    """Raise unless the kernel is the same function of the angle along several great circles; returns `k(x, x)`."""
    generator = np.random.default_rng(0)
    theta = np.linspace(0.0, np.pi, NODES)
    profiles = []
    for circle in range(4):
        frame = np.eye(dimension)[:, :2]
        if circle:
            frame = np.linalg.qr(generator.normal(size=(dimension, 2)))[0]
        profiles.append(_along_circle(kernel, frame[:, 0], frame[:, 1], radius, theta))
    profile = np.array(profiles)
    variance = float(profile[0, 0])
    if not np.isfinite(profile).all() or variance <= 0.0:
        raise ValueError(f"sphere_spectrum needs a kernel with finite k(x, x) > 0, got {variance}.")
    spread = float(np.ptp(profile, axis=0).max()) / variance
    if spread > SAME_ANGLE:
        raise ValueError(
            f"sphere_spectrum needs a kernel of the angle alone, got {type(kernel).__name__} whose values at one angle "
            f"differ by {spread:.2g} of k(x, x) between great circles. Use eigensystem(kernel, x) on data instead; "
            "scales of single features and finite networks have no rotation symmetry."
        )
    return variance


def _legendre_polynomials(dimension: int, max_degree: int, t: np.ndarray) -> np.ndarray:
    """`P_l(t)` of dimension d with `P_l(1) = 1`, shape (max_degree + 1, nodes).

    `C_l^(d/2−1)(t) / C_l^(d/2−1)(1)`, whose parts overflow in high dimensions while their quotient stays within ±1.
    """
    rows = np.empty((max_degree + 1, len(t)))
    rows[0] = 1.0
    if max_degree:
        rows[1] = t
    for degree in range(1, max_degree):
        rows[degree + 1] = (2 * degree + dimension - 2) * t * rows[degree] - degree * rows[degree - 1]
        rows[degree + 1] /= degree + dimension - 2
    return rows


def multiplicity(dimension: int, degree: int) -> float:
    """The number of independent spherical harmonics of a degree in `R^dimension`."""
    lower = comb(degree + dimension - 3, dimension - 1) if degree >= 2 else 0
    return float(comb(degree + dimension - 1, dimension - 1) - lower)
