"""Square roots and angles that stay exact at the diagonal and whose derivatives stay finite there.

Everything about two directions is computed from the *defect* `1 - rho` and the *surplus* `1 + rho` of
their correlation, never from `rho`: near the diagonal `arccos(1 - eps)` has lost half the digits, the
defect none; near opposite directions the same holds of the surplus.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import spherical_jn


@jax.custom_jvp
def safe_sqrt(x: jax.Array) -> jax.Array:
    """`sqrt(max(x, 0))` with derivative 0 instead of infinity at 0."""
    return jnp.sqrt(jnp.maximum(x, 0.0))


@safe_sqrt.defjvp
def _safe_sqrt_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x,), (dx,) = primals, tangents
    positive = x > 0
    slope = jnp.where(positive, 0.5 / jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)
    return safe_sqrt(x), slope * dx


def safe_divide(numerator: jax.Array, denominator: jax.Array, otherwise: float) -> jax.Array:
    """`numerator / denominator` where the denominator is positive, else the constant `otherwise`."""
    positive = denominator > 0
    return jnp.where(positive, numerator / jnp.where(positive, denominator, 1.0), otherwise)


@jax.custom_jvp
def angle(defect: jax.Array, surplus: jax.Array) -> jax.Array:
    """The angle `theta = arccos(rho)` in [0, pi] from `1 - rho` and `1 + rho`, accurate near both ends.

    The derivative `1 / sin(theta)` is infinite where two points coincide; there, every one-sided
    slope has its mirror image, and the symmetric choice 0 is taken.
    """
    smaller = jnp.minimum(defect, surplus)
    nearer = safe_sqrt(smaller) * _polynomial(_angle_over_root(17 if _double(defect) else 8), smaller)
    return jnp.where(defect <= surplus, nearer, jnp.pi - nearer)


def _double(values: jax.Array) -> bool:
    return values.dtype == jnp.float64


def _polynomial(coefficients: tuple[float, ...], defect: jax.Array) -> jax.Array:
    """A polynomial in `2 defect - 1`, lowest power first: unlike a library's arctangent it vectorises."""
    return _split(coefficients, 2.0 * defect - 1.0)


def _split(coefficients: Sequence[float], t: jax.Array) -> jax.Array:
    """Even and odd powers by themselves: short chains of operations keep a processor busy, one long one does not."""
    if len(coefficients) > 5:
        square = t * t
        return _split(coefficients[1::2], square) * t + _split(coefficients[::2], square)
    highest, *others = reversed(coefficients)
    series = jnp.full_like(t, highest)
    for coefficient in others:
        series = series * t + coefficient
    return series


@lru_cache(maxsize=4)
def _angle_over_root(degree: int) -> tuple[float, ...]:
    """`theta / sqrt(1 - cos(theta))` for defects in [0, 1]."""
    return _interpolant(lambda theta, defect: theta / np.sqrt(defect), degree)


@lru_cache(maxsize=4)
def _excess_over_root_cubed(degree: int) -> tuple[float, ...]:
    """`(sin(theta) - theta cos(theta)) / (1 - cos(theta))^(3/2)` for defects in [0, 1].

    The numerator is `theta^2 j1(theta)` with a spherical Bessel function, which loses no digits near 0.
    """
    return _interpolant(lambda theta, defect: theta**2 * spherical_jn(1, theta) / defect**1.5, degree)


def _interpolant(function: Callable, degree: int) -> tuple[float, ...]:
    """Coefficients of the interpolant at Chebyshev points of a function of the angle and the defect.

    The functions' nearest singularity is a defect of 2, so that each degree gains a factor of 5.8.
    """

    def shifted(t: np.ndarray) -> np.ndarray:
        defect = (t + 1.0) / 2.0
        return function(2.0 * np.arcsin(np.sqrt(defect / 2.0)), defect)

    chebyshev = np.polynomial.chebyshev.chebinterpolate(shifted, degree)  # type: ignore[arg-type]
    return tuple(float(value) for value in np.polynomial.chebyshev.cheb2poly(chebyshev))


@angle.defjvp
def _angle_jvp(primals, tangents):
    (defect, surplus), (d_defect, d_surplus) = primals, tangents
    slope = safe_divide(jnp.ones_like(defect), sine(defect, surplus), 0.0)
    # The two arguments move oppositely; their mean motion is rounding-free at either end.
    return angle(defect, surplus), slope * (d_defect - d_surplus) / 2.0


def sine(defect: jax.Array, surplus: jax.Array) -> jax.Array:
    """`sin(theta) = sqrt((1 - rho) (1 + rho))`."""
    return safe_sqrt(defect * surplus)


@jax.custom_jvp
def arc_excess(defect: jax.Array, surplus: jax.Array) -> jax.Array:
    """`sin(theta) - theta cos(theta) >= 0` for angles up to pi/2: the curved part of the arc-cosine kernel.

    It keeps its relative accuracy at 0, where it is `theta^3 / 3`; of its parts nothing would be left. As a function
    of the defect its derivative is `theta`: finite everywhere, unlike its parts'.
    """
    series = _polynomial(_excess_over_root_cubed(15 if _double(defect) else 7), defect)
    return safe_sqrt(defect) * defect * series


@arc_excess.defjvp
def _arc_excess_jvp(primals, tangents):
    (defect, surplus), (d_defect, d_surplus) = primals, tangents
    return arc_excess(defect, surplus), angle(defect, surplus) * (d_defect - d_surplus) / 2.0
