"""Kernels that are one function of the angle: which function, and whether a kernel is one."""

from dataclasses import dataclass

import numpy as np
import scipy.optimize
from jaxtyping import Float

from ntkit.kernels.base import Kernel

NODES = 400
"""Angles at which the function is compared with a polynomial."""

SAMPLE = 24
"""Points of the data on which the kernel is compared with its profile."""

AGREEMENT = 1e-6
"""What the angle of two nearly parallel inputs costs at most, relative to the kernel's size."""


@dataclass(frozen=True, eq=False)
class AngleProfile:
    """`K(x, x') = (|x| |x'| / r²)^p κ(ρ)` with ρ the cosine of the angle, `κ(ρ) = K` of two points of norm r.

    Attributes:
        kernel: K.
        features: the dimension d of the inputs.
        radius: r.
        power: p, the degree of homogeneity; None where K is a function of the angle at norm r only.
    """

    kernel: Kernel
    features: int
    radius: float
    power: float | None

    @classmethod
    def of(cls, who: str, kernel: Kernel, x: Float[np.ndarray, "n d"]) -> "AngleProfile":
        """Find the profile on data and check it.

        Raises:
            ValueError: when the kernel depends on more than the angle and, homogeneously, the norms of the data.
        """
        features = x.shape[1]
        norms = np.linalg.norm(x, axis=1)
        radius = float(np.sqrt((norms**2).mean()))
        if radius == 0:
            raise ValueError(f"{who} needs inputs that are not all zero.")
        power = _homogeneity(kernel, features, radius)
        if power is None and np.ptp(norms) > AGREEMENT * radius:
            raise ValueError(
                f"{who} needs a homogeneous kernel or inputs of one norm, got norms from {norms.min():.6g} to "
                f"{norms.max():.6g} and {kernel!r}. Use activations such as Relu without biases, or scale the inputs: "
                "x / numpy.linalg.norm(x, axis=1, keepdims=True)."
            )
        if power == 0 and not norms.all():
            raise ValueError(f"{who} needs inputs other than zero, got a row of zeros for {kernel!r}.")
        profile = cls(kernel, features, radius, power)
        profile._check(who, x[np.unique(np.linspace(0, len(x) - 1, SAMPLE).astype(int))])
        return profile

    def __call__(self, cosines: Float[np.ndarray, " c"]) -> Float[np.ndarray, " c"]:
        """`κ(ρ)`."""
        first, others = (_circle(self.features, at, self.radius) for at in (np.ones(1), cosines))
        return np.asarray(self.kernel(first, others))[0]

    def size(self, who: str, norms: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """`(|x| / r)^p` of points of these norms.

        Raises:
            ValueError: for another norm than r where only that is known.
        """
        if self.power is not None:
            return (norms / self.radius) ** self.power
        wrong = np.flatnonzero(np.abs(norms - self.radius) > 10 * AGREEMENT * self.radius)
        if len(wrong):
            raise ValueError(
                f"{who} needs inputs of the norm {self.radius:.6g} of those it was fitted on, got "
                f"{norms[wrong[0]]:.6g} in row {wrong[0]}. Scale them alike."
            )
        return np.ones(len(norms))

    def power_series(self, degree: int) -> Float[np.ndarray, " j"]:
        """Coefficients `b_j ≥ 0` of the polynomial `Σ_j b_j ρ^j` nearest to κ on [-1, 1], in least squares.

        A function of the angle that is a kernel in every dimension has such an expansion (Schoenberg 1942). The
        norm is that of the arcsine distribution, whose nodes are Chebyshev's.
        """
        if self.features == 1:
            # Only the angles 0 and π exist.
            nodes, degree = np.array([1.0, -1.0]), 1
        else:
            nodes = np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)
        powers = nodes[:, None] ** np.arange(degree + 1)[None, :]
        return scipy.optimize.nnls(powers, self(nodes))[0]

    def _check(self, who: str, x: np.ndarray) -> None:
        """Raise unless the kernel agrees with its profile on the points."""
        norms = np.linalg.norm(x, axis=1)
        units = x / np.where(norms > 0, norms, 1.0)[:, None]
        cosines = np.clip(units @ units.T, -1.0, 1.0)
        # The angle of a point with itself is 0, not the root of a rounding.
        np.fill_diagonal(cosines, np.sign(norms))
        sizes = self.size(who, norms)
        found, scale = self.kernel(x), np.sqrt(self.kernel.diag(x))
        expected = self(cosines.ravel()).reshape(cosines.shape) * sizes[:, None] * sizes[None, :]
        error = np.abs(found - expected) / np.maximum(scale[:, None] * scale[None, :], np.finfo(float).tiny)
        if error.max() > AGREEMENT:
            raise ValueError(
                f"{who} needs a kernel of the angle between the inputs, got {self.kernel!r} that differs "
                f"from one by {error.max():.2g} of its size. Use a network of Dense layers and activations, without "
                "Scale; Nystrom serves any kernel."
            )


def _circle(features: int, cosines: np.ndarray, radius: float) -> np.ndarray:
    """Points at these cosines from the first axis, on a circle of the radius; shape (c, features)."""
    points = np.zeros((len(cosines), features))
    points[:, 0] = radius * cosines
    if features > 1:
        points[:, 1] = radius * np.sqrt((1.0 - cosines) * (1.0 + cosines))
    return points


def _homogeneity(kernel: Kernel, features: int, radius: float) -> float | None:
    """The p with `K(a x, b x') = (a b)^p K(x, x')`, None if there is none."""
    scales = np.array([1.0, 2.0, 0.5, 3.0])
    cosines = np.array([1.0, 0.3, -0.6, 0.9]) if features > 1 else np.array([1.0, 1.0, -1.0, 1.0])
    directions = _circle(features, cosines, radius)
    base = kernel(directions)
    doubled = float(kernel.diag(2.0 * directions[:1])[0])
    if not (base[0, 0] > 0 and doubled > 0):
        return None
    power = 0.5 * np.log2(doubled / base[0, 0])
    scaled = kernel(directions * scales[:, None])
    expected = base * (scales[:, None] * scales[None, :]) ** power
    deviation = np.abs(scaled - expected).max() / np.abs(expected).max()
    return float(power) if deviation <= AGREEMENT**1.5 else None
