"""Activations with a kink and no elementary dual: the kink in closed form, the smooth rest expanded."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from ntkit.nn.activations.base import Activation
from ntkit.nn.activations.expansion import DEGREES, Expansion
from ntkit.nn.activations.piecewise_linear import Abs
from ntkit.nn.activations.rectified_monomial import RectifiedMonomial
from ntkit.nn.state import KernelState
from ntkit.numerics import hermite
from ntkit.numerics.gaussian_pair import GaussianPair
from ntkit.numerics.safe import safe_divide, safe_sqrt
from ntkit.numerics.trees import pytree

SMALLEST_VARIANCE = 1e-12
"""Below it, a hard tanh clips nothing that any dtype could show."""

LARGEST_VARIANCE = 1e24
"""Above it, a hard tanh is the sign function to the last digit, and a square of it still fits float64."""

LARGEST_SPLIT_VARIANCE = 1e8
"""Above it, the split-off `x |x|` outgrows the activation by more digits than can be spared."""

SMALLEST_ANGLE = 1e-11
"""Where the logarithmic nodes of the hard tanh's integral end; what they leave out is as small."""

INTEGRATION_NODES = 128


def _odd_square(pair: GaussianPair) -> jax.Array:
    """`E[u |u| v |v|]`, from the arc-cosine kernel of degree 2 on both sides of zero."""
    square = RectifiedMonomial(2)
    return 2.0 * (square.dual(pair) - square.dual(pair.mirrored))


class _KinkAtZero(Expansion):
    """`phi = bend |x| + curl x |x| + rest`, where the rest has two continuous derivatives at 0.

    The two kinked parts have closed duals and, being even and odd, no cross term:
    `C = bend^2 E|u||v| + curl^2 E[u|u|v|v|] + sum_n (a_n a'_n - g_n g'_n) rho^n` with the Hermite
    coefficients a of phi and g of the kinked parts. The series converges as fast as the cross terms
    of kinks and rest allow, so the bound is by Cauchy-Schwarz on those, for each parity.
    """

    @abstractmethod
    def _kink(self) -> tuple[float, float]:
        """The weights `bend` (of |x|) and `curl` (of x|x|)."""

    def _kinked(self, x: jax.Array) -> jax.Array:
        bend, curl = self._kink()
        return jnp.abs(x) * (bend + curl * x)

    def _kinked_derivative(self, x: jax.Array) -> jax.Array:
        bend, curl = self._kink()
        return bend * jnp.sign(x) + 2.0 * curl * jnp.abs(x)

    def dual(self, pair: GaussianPair) -> jax.Array:
        bend, curl = self._kink()
        closed = bend**2 * Abs().dual(pair) + curl**2 * _odd_square(pair)
        return self._corrected(closed, self.__call__, self._kinked, pair)

    def dual_derivative(self, pair: GaussianPair) -> jax.Array:
        bend, curl = self._kink()
        closed = bend**2 * Abs().dual_derivative(pair) + 4.0 * curl**2 * Abs().dual(pair)
        return self._corrected(closed, self.derivative, self._kinked_derivative, pair)

    def _corrected(
        self,
        closed: jax.Array,
        function: Callable[[jax.Array], jax.Array],
        kinked: Callable[[jax.Array], jax.Array],
        pair: GaussianPair,
    ) -> jax.Array:
        series = self._expectation(function, pair) - self._expectation(kinked, pair)
        return closed + series

    def adapt(self, state: KernelState, resolution: float) -> "Expansion":
        largest = float(jnp.max(state.var1))
        if largest > LARGEST_SPLIT_VARIANCE:
            raise ValueError(
                f"{type(self).__name__} needs pre-activations of variance up to {LARGEST_SPLIT_VARIANCE:.0e}, "
                f"got {largest:.3g}. Standardise the inputs, or use a smaller w_std."
            )
        return super().adapt(state, resolution)

    def missing(self, function: Callable[[jax.Array], jax.Array], var: jax.Array) -> jax.Array:
        kinked = self._kinked if function == self.__call__ else self._kinked_derivative

        def rest(x: jax.Array) -> jax.Array:
            return function(x) - kinked(x)

        total = hermite.second_moment(function, var)[None]
        error = hermite.outer_moment(function, var)[None]
        for sign in (1.0, -1.0):
            tails = [_tail(part, sign, var) for part in (kinked, rest)]
            error = error + 2.0 * jnp.sqrt(tails[0] * tails[1]) + tails[1]
        return safe_divide(error, total, 0.0)


def _tail(function: Callable[[jax.Array], jax.Array], sign: float, var: jax.Array) -> jax.Array:
    """What each order leaves of the second moment of a function's even (+1) or odd (-1) part."""

    def part(x: jax.Array) -> jax.Array:
        return (function(x) + sign * function(-x)) / 2.0

    total = hermite.second_moment(part, var)[None]
    energies = jnp.cumsum(jnp.square(hermite.coefficients(part, var, DEGREES[-1])), axis=0)
    return jnp.abs(total - energies[np.asarray(DEGREES) - 1])


@pytree("degree", "tolerance")
@dataclass(frozen=True, eq=False)
class Elu(_KinkAtZero):
    """Exponential linear unit, `phi(x) = x` for x > 0, else `exp(x) - 1` (Clevert et al. 2016).

    Its second derivative jumps at 0, so that the default tolerance is 1e-6.
    """

    degree: int | None = None
    tolerance: float = 1e-6

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.elu(x)

    def _kink(self) -> tuple[float, float]:
        return 0.0, -0.25


@pytree("degree", "tolerance")
@dataclass(frozen=True, eq=False)
class Selu(_KinkAtZero):
    """Scaled exponential linear unit (Klambauer et al. 2017): `1.0507 (x for x > 0, else 1.6733 (exp(x) - 1))`.

    It has a kink at 0, so that the default tolerance is 1e-4.
    """

    degree: int | None = None
    tolerance: float = 1e-4

    def __call__(self, x: jax.Array) -> jax.Array:
        return jax.nn.selu(x)

    def _kink(self) -> tuple[float, float]:
        scale, alpha = 1.0507009873554805, 1.6732632423543772
        return scale * (1.0 - alpha) / 2.0, -scale * alpha / 4.0


@pytree()
@dataclass(frozen=True, eq=False)
class HardTanh(Activation):
    """`phi(x) = min(max(x, -1), 1)`, by one integral over the correlation.

    The second derivative is a pair of Dirac deltas, so that by Price's theorem
    `C'(rho) = C'(0) + int_0^rho [p_r(1, 1) - p_r(1, -1)] 2 scale dr` with the normal density `p_r`
    of correlation r, and `C` by one more integration; `C'(0) = P(|u| < 1) P(|v| < 1)`, `C(0) = 0`.
    With `r = sin(f)` and nodes that crowd towards `f = pi/2` logarithmically the integrand is smooth.
    """

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.clip(x, -1.0, 1.0)

    def mean(self, var: jax.Array) -> jax.Array:
        return jnp.zeros_like(var)

    def second_moment(self, var: jax.Array) -> jax.Array:
        # E[min(u^2, 1)] by parts; for small variances nothing is clipped.
        edge = safe_divide(jnp.ones_like(var), safe_sqrt(2.0 * var), jnp.inf)
        inside = jax.scipy.special.erf(edge)
        density = jnp.where(var > 0, edge * jnp.exp(-jnp.square(jnp.where(var > 0, edge, 0.0))), 0.0)
        return var * (inside - 2.0 / jnp.pi**0.5 * density) + jax.scipy.special.erfc(edge)

    def dual(self, pair: GaussianPair) -> jax.Array:
        # The nodes end a little short of u = v.
        own = (self.second_moment(pair.var1) + self.second_moment(pair.var2)) / 2.0
        return jnp.where(pair.coincide, own, self._integrals(pair)[0])

    def dual_derivative(self, pair: GaussianPair) -> jax.Array:
        # For u = v it is P(|u| < 1).
        inside = jax.scipy.special.erf(jnp.sqrt(0.5 / jnp.maximum(pair.var1, SMALLEST_VARIANCE)))
        return jnp.where(pair.coincide, inside, self._integrals(pair)[1])

    def _integrals(self, pair: GaussianPair) -> tuple[jax.Array, jax.Array]:
        """`C` and `C'`; only |rho| is integrated, C being odd and C' even in rho."""
        var1, var2 = (jnp.clip(var, SMALLEST_VARIANCE, LARGEST_VARIANCE) for var in (pair.var1, pair.var2))
        root1, root2 = jnp.sqrt(1.0 / var1), jnp.sqrt(1.0 / var2)
        apart, product = jnp.square(root1 - root2) / 2.0, root1 * root2
        nearest = pair.nearer.angle
        lowest = jnp.log(jnp.maximum(nearest, SMALLEST_ANGLE))
        span = jnp.log(jnp.pi / 2.0) - lowest
        cosine = jnp.abs(pair.correlation)
        independent = jax.scipy.special.erf(root1 / 2.0**0.5) * jax.scipy.special.erf(root2 / 2.0**0.5)

        @jax.checkpoint
        def step(
            sums: tuple[jax.Array, jax.Array], node: jax.Array
        ) -> tuple[tuple[jax.Array, jax.Array], None]:
            position, weight = node
            theta = jnp.exp(lowest + span * position)
            common = jnp.exp(-apart / jnp.square(jnp.sin(theta)))
            half = jnp.square(jnp.cos(theta / 2.0)), jnp.square(jnp.sin(theta / 2.0))
            density = common * (jnp.exp(-product / (2.0 * half[0])) - jnp.exp(-product / (2.0 * half[1])))
            measure = weight * span * theta * density / jnp.pi
            # cos(nearest) - cos(theta), as a product that keeps small differences.
            gap = 2.0 * jnp.sin((theta + nearest) / 2.0) * jnp.sin((theta - nearest) / 2.0)
            return (sums[0] + gap * measure, sums[1] + measure), None

        positions, weights = np.polynomial.legendre.leggauss(INTEGRATION_NODES)
        nodes = jnp.asarray(np.stack([(positions + 1.0) / 2.0, weights / 2.0], axis=1), pair.defect.dtype)
        empty = jnp.zeros_like(pair.defect)
        (first, second), _ = jax.lax.scan(step, (empty, empty), nodes)
        dual = jnp.sign(pair.correlation) * pair.scale * (cosine * independent + first)
        return dual, independent + second
