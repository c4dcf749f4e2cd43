"""Powers of the rectifier: the arc-cosine kernels of every degree."""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import comb, factorial, gamma, pi, prod

import jax
import jax.numpy as jnp

from ntkit.nn.activations.base import Activation
from ntkit.nn.activations.step import undefined_ntk
from ntkit.numerics.gaussian_pair import GaussianPair
from ntkit.numerics.safe import safe_sqrt, sine
from ntkit.numerics.trees import pytree


@lru_cache(maxsize=64)
def _moment(degree: int) -> tuple[Fraction, ...]:
    """Coefficients in rho of `M_n(rho) = E[z^n z'^n]` for unit normals of correlation rho (Isserlis)."""
    coefficients = [Fraction(0)] * (degree + 1)
    for order in range(degree % 2, degree + 1, 2):
        pairings = comb(degree, order) * prod(range(degree - order - 1, 0, -2))
        coefficients[order] = Fraction(pairings**2 * factorial(order))
    return tuple(coefficients)


@lru_cache(maxsize=64)
def _remainder(degree: int) -> tuple[Fraction, ...]:
    """Coefficients of `P_n` in `2 pi C_n = (pi - t) M_n(rho) + sin(t) P_n(rho)` at unit variances.

    Price's theorem, `dC_n / drho = n^2 C_{n-1}`, turns into
    `M_n + (1 - rho^2) P_n' - rho P_n = n^2 (1 - rho^2) P_{n-1}`, solved from the highest power down.
    """
    if degree == 0:
        return (Fraction(0),)
    if degree == 1:
        return (Fraction(1),)
    below = _remainder(degree - 1)
    target = [Fraction(0)] * (degree + 2)
    for power, value in enumerate(below):
        target[power] += degree**2 * value
        target[power + 2] -= degree**2 * value
    for power, value in enumerate(_moment(degree)):
        target[power] -= value
    solution = [Fraction(0)] * (degree + 2)
    for power in range(degree - 1, -1, -1):
        # Coefficient of rho^(power + 1): (power + 2) s_(power+2) - power s_power - s_power = target.
        solution[power] = ((power + 2) * solution[power + 2] - target[power + 1]) / (power + 1)
    return tuple(solution[:degree])


def _evaluate(coefficients: tuple[Fraction, ...], rho: jax.Array) -> jax.Array:
    total = jnp.zeros_like(rho)
    for coefficient in reversed(coefficients):
        total = total * rho + float(coefficient)
    return total


def _arc_cosine(degree: int, pair: GaussianPair) -> jax.Array:
    """`E[max(u, 0)^n max(v, 0)^n]`, the step's dual for n = 0."""
    rho, theta = pair.correlation, pair.angle
    smooth = (jnp.pi - theta) * _evaluate(_moment(degree), rho)
    return (
        pair.scale**degree
        * (smooth + sine(pair.defect, pair.surplus) * _evaluate(_remainder(degree), rho))
        / (2.0 * jnp.pi)
    )


@pytree("degree")
@dataclass(frozen=True, eq=False)
class RectifiedMonomial(Activation):
    """`phi(x) = max(x, 0)^degree`, with the step for degree 0 (Cho and Saul 2009, eq. 3).

    `C_n = scale^n ((pi - t) M_n(rho) + sin(t) P_n(rho)) / (2 pi)` with polynomials M, P.

    Args:
        degree: from 0 (the step, whose NTK is undefined) to 30.
    """

    degree: int

    def __post_init__(self) -> None:
        if not 0 <= self.degree <= 30:
            raise ValueError(f"RectifiedMonomial needs a degree from 0 to 30, got {self.degree}.")

    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.where(x > 0, jnp.where(x > 0, x, 1.0) ** self.degree, 0.0).astype(x.dtype)

    @property
    def homogeneity(self) -> float:
        return float(self.degree)

    def dual(self, pair: GaussianPair) -> jax.Array:
        alive = (pair.var1 > 0) & (pair.var2 > 0)
        return jnp.where(alive, _arc_cosine(self.degree, pair), 0.0)

    def dual_derivative(self, pair: GaussianPair) -> jax.Array:
        if self.degree == 0:
            raise undefined_ntk("RectifiedMonomial(degree=0)")
        return self.degree**2 * _arc_cosine(self.degree - 1, pair)

    def mean(self, var: jax.Array) -> jax.Array:
        half: float = 2.0 ** (self.degree / 2.0 - 1.0) * gamma((self.degree + 1.0) / 2.0) / pi**0.5
        return jnp.where(var > 0, half * safe_sqrt(var) ** self.degree, 0.0)

    def second_moment(self, var: jax.Array) -> jax.Array:
        half = float(prod(range(2 * self.degree - 1, 0, -2))) / 2.0
        return jnp.where(var > 0, half * safe_sqrt(var) ** (2 * self.degree), 0.0)
