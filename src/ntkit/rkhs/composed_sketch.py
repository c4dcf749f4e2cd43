"""Random features of networks' kernels that are one function of the angle: a polynomial, and sketches of its powers."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special
from sklearn.utils import check_random_state

from ntkit.kernels.base import Kernel
from ntkit.rkhs.angle_profile import AngleProfile
from ntkit.rkhs.feature_map import FeatureMap
from ntkit.rkhs.tensor_sketch import TensorSketch

CONCENTRATED = 0.5
"""From this length of the mean of unit inputs on, the polynomial is expanded about their mean direction."""

NEGLIGIBLE = 1e-3
"""Directions of the scalar factors below this share of the largest are left out."""


@dataclass(frozen=True, eq=False)
class Degree:
    """The part of degree i in the inputs: features of `A(c)·A(c') (v·v')^i`.

    Attributes:
        power: i.
        weights: maps the powers of c to A, shape (powers, rank).
        sketch: how `A ⊗ v ⊗ ... ⊗ v` is sketched; None for the product itself.
    """

    power: int
    weights: np.ndarray
    sketch: TensorSketch | None

    def __call__(self, cosines: np.ndarray, rest: np.ndarray) -> np.ndarray:
        scalars = _powers(cosines, len(self.weights)) @ self.weights
        if self.sketch is not None:
            return self.sketch([scalars] + [rest] * self.power)
        if self.power == 0:
            return scalars
        return (scalars[:, :, None] * rest[:, None, :]).reshape(len(rest), -1)


class ComposedSketch(FeatureMap):
    """Random features of a kernel `K(x, x') = |x|^p |x'|^p κ(ρ)`, ρ the cosine of the angle, by sketched powers of ρ.

    Infinitely wide dense networks have such kernels, however deep, if their activations are homogeneous (ReLU, leaky
    ReLU, absolute value, powers) without biases, or if all inputs have one norm. κ is replaced by the nearest
    polynomial with non-negative coefficients, `Σ_j b_j ρ^j`. Where the inputs share a mean direction μ (pixels do),
    `ρ = c c' + v·v'` with `c = u·μ` and v the rest of the unit input u, and the powers are expanded in `v·v'`,
    which is smaller: `Σ_i A_i(c)·A_i(c') (v·v')^i`. Degrees 0 and 1 are exact where they fit, the others
    tensor sketches that share the remaining features by their size. The sketched part of each point is scaled so
    that the diagonal `φ(x)·φ(x) = K(x, x)` is exact, which takes most of the variance and costs a bias of the order
    of one over the number of features.

    Features do not depend on the data but for μ and the shares; unlike `Nystrom` nothing is solved, so fitting takes
    O(n d).

    Args:
        kernel: the kernel, e.g. `NTK(network)` of Dense layers and activations.
        count: number of features.
        degree: degree of the polynomial.
        random_state: seed of the sketches.

    Attributes:
        profile_: the function κ.
        coefficients_: the b_j, shape (degree + 1,).
        n_features_in_: number of features seen at fit.
        n_features_out_: number of features, at most `count`.

    Raises:
        ValueError: at fit, for a kernel that is not of this form on the data.

    Source:
        Zandieh et al. (2021), Scaling neural tangent kernels via sketching and random features; Pham & Pagh (2013),
        Fast and scalable polynomial kernels via explicit feature maps.

    >>> import numpy as np
    >>> from ntkit.kernels import NTK
    >>> from ntkit.nn import Dense, Relu, Serial
    >>> x = np.random.default_rng(0).normal(size=(50, 8))
    >>> kernel = NTK(Serial(Dense(1), Relu(), Dense(1)))
    >>> features = ComposedSketch(kernel, count=400).fit(x)
    >>> bool(np.linalg.norm(features(x) - kernel(x)) < 0.1 * np.linalg.norm(kernel(x)))
    True
    """

    def __init__(self, kernel: Kernel, count: int = 1024, degree: int = 16, random_state: Any = 0) -> None:
        self.kernel = kernel
        self.count = count
        self.degree = degree
        self.random_state = random_state

    def _prepare(self, X: np.ndarray) -> int:
        if self.count < 1 or self.degree < 1:
            raise ValueError(
                f"ComposedSketch needs a count and a degree of at least 1, got {self.count} and {self.degree}."
            )
        self.profile_ = AngleProfile.of("ComposedSketch", self.kernel, X)
        self.coefficients_ = self.profile_.power_series(int(self.degree))
        self._total = float(self.profile_(np.ones(1))[0])
        units = _units(X)[0]
        mean = units.mean(axis=0)
        length = float(np.linalg.norm(mean))
        self._direction = mean / length if length >= CONCENTRATED else np.zeros(X.shape[1])
        cosines, rest = self._split(units)
        self._degrees = _degrees(
            self.coefficients_, cosines, rest, int(self.count), check_random_state(self.random_state)
        )
        return self._features(X[:1]).shape[1]

    def _features(self, X: np.ndarray) -> np.ndarray:
        units, norms = _units(X)
        sizes = self.profile_.size("ComposedSketch", norms)
        cosines, rest = self._split(units)
        exact = [degree(cosines, rest) for degree in self._degrees if degree.sketch is None]
        sketched = [degree(cosines, rest) for degree in self._degrees if degree.sketch is not None]
        features = np.concatenate(exact + sketched, axis=1)
        known = sum(part.shape[1] for part in exact)
        squares = features**2
        missing = np.maximum(self._total - squares[:, :known].sum(axis=1), 0.0)
        drawn = squares[:, known:].sum(axis=1)
        features[:, known:] *= np.sqrt(missing / np.where(drawn > 0, drawn, 1.0))[:, None]
        return features * sizes[:, None]

    def _split(self, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The cosine with the mean direction, and what is orthogonal to it."""
        cosines = units @ self._direction
        return cosines, units - cosines[:, None] * self._direction[None, :]


def _units(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inputs scaled to norm 1 (zeros stay), and their norms."""
    norms = np.linalg.norm(x, axis=1)
    return x / np.where(norms > 0, norms, 1.0)[:, None], norms


def _powers(cosines: np.ndarray, count: int) -> np.ndarray:
    return cosines[:, None] ** np.arange(count)[None, :]


def _degrees(
    coefficients: np.ndarray,
    cosines: np.ndarray,
    rest: np.ndarray,
    count: int,
    random: np.random.RandomState,
) -> list[Degree]:
    """Divide `count` features among the degrees of `Σ_j b_j (c c' + v·v')^j` in `v·v'`."""
    weights = [_scalar_weights(coefficients, power, cosines) for power in range(len(coefficients))]
    dimensions = rest.shape[1]
    norms = (rest**2).sum(axis=1)
    sizes = np.array(
        [
            float((((_powers(cosines, len(part)) @ part) ** 2).sum(axis=1) * norms**power).mean())
            for power, part in enumerate(weights)
        ]
    )
    degrees: list[Degree] = []
    sketched: list[int] = []
    for power, part in enumerate(weights):
        needed = part.shape[1] * dimensions**power if power < 2 else count + 1
        if sizes[power] == 0:
            continue
        # The linear part may take half of the features; the constant one always goes first.
        if needed <= (count if power == 0 else count // 2) and needed <= count - _taken(degrees, dimensions):
            degrees.append(Degree(power, part, None))
        else:
            sketched.append(power)
    shares = _shares(sizes[sketched], count - _taken(degrees, dimensions))
    for power, size in zip(sketched, shares, strict=True):
        if size:
            part = weights[power]
            sketch = TensorSketch.drawn([part.shape[1]] + [dimensions] * power, int(size), random)
            degrees.append(Degree(power, part, sketch))
    return degrees


def _scalar_weights(coefficients: np.ndarray, power: int, cosines: np.ndarray) -> np.ndarray:
    """The map of `(1, c, c², ...)` to A with `A(c)·A(c') = Σ_l b_{l+i} C(l+i, i) (c c')^l`, nearly, on the data."""
    orders = np.arange(len(coefficients) - power)
    roots = np.sqrt(coefficients[power:] * scipy.special.comb(orders + power, power))
    scaled = _powers(cosines, len(orders)) * roots[None, :]
    _, singular, right = np.linalg.svd(scaled, full_matrices=False)
    kept = right[singular > NEGLIGIBLE * singular[0]] if singular[0] > 0 else right[:1]
    return roots[:, None] * kept.T


def _taken(degrees: list[Degree], dimensions: int) -> int:
    """The features of the exact degrees."""
    return sum(degree.weights.shape[1] * dimensions**degree.power for degree in degrees)


def _shares(sizes: np.ndarray, count: int) -> np.ndarray:
    """Whole numbers proportional to `sizes` that sum to `count`, by largest remainders."""
    if count <= 0 or not sizes.any():
        return np.zeros(len(sizes), dtype=int)
    ideal = count * sizes / sizes.sum()
    shares = np.floor(ideal).astype(int)
    largest = np.argsort(shares - ideal, kind="stable")[: count - shares.sum()]
    shares[largest] += 1
    return shares
