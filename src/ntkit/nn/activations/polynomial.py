"""Polynomials: their Hermite expansion ends, so the dual is exact (Isserlis' theorem, organised by degree)."""

from abc import abstractmethod
from dataclasses import dataclass
from math import comb, factorial, prod, sqrt
from typing import Any

import jax
import jax.numpy as jnp

from ntkit.nn.activations.base import Activation
from ntkit.numerics.gaussian_pair import GaussianPair
from ntkit.numerics.trees import as_leaf, pytree


def _hermite_weight(power: int, order: int) -> float:
    """`E[z^power h_order(z)]`: what a monomial contributes to an orthonormal Hermite polynomial."""
    if order > power or (power - order) % 2:
        return 0.0
    pairings = prod(range(power - order - 1, 0, -2))
    return comb(power, order) * pairings * sqrt(factorial(order))


def _derivative(coefficients: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(power * value for power, value in enumerate(coefficients))[1:]


def _expand(coefficients: tuple[Any, ...], var: jax.Array) -> list[jax.Array]:
    """Hermite coefficients `E[p(sqrt(var) z) h_n(z)]` divided by `sqrt(var)^n`: polynomials in `var`."""
    degree = len(coefficients)
    return [
        sum(
            (
                value * _hermite_weight(power, order) * var ** ((power - order) // 2)
                for power, value in enumerate(coefficients)
                if _hermite_weight(power, order)
            ),
            jnp.zeros_like(var),
        )
        for order in range(degree)
    ]


def _expectation(coefficients: tuple[Any, ...], pair: GaussianPair) -> jax.Array:
    """`E[p(u) p(v)]`: powers of `cov` weighted by the two expansions, smooth also at variance 0."""
    left, right = _expand(coefficients, pair.var1), _expand(coefficients, pair.var2)
    total = jnp.zeros_like(pair.cov)
    for a, b in zip(reversed(left), reversed(right), strict=True):
        total = total * pair.cov + a * b
    return total


class _PolynomialActivation(Activation):
    """`phi(x) = sum_p c_p x^p`."""

    @abstractmethod
    def _coefficients(self) -> tuple[Any, ...]:
        """The coefficients `c_0, c_1, ...` of the powers of x."""

    def __call__(self, x: jax.Array) -> jax.Array:
        total = jnp.zeros_like(x)
        for coefficient in reversed(self._coefficients()):
            total = total * x + coefficient
        return total

    def mean(self, var: jax.Array) -> jax.Array:
        return _expand(self._coefficients(), var)[0]

    def dual(self, pair: GaussianPair) -> jax.Array:
        return _expectation(self._coefficients(), pair)

    def dual_derivative(self, pair: GaussianPair) -> jax.Array:
        return _expectation(_derivative(self._coefficients()), pair)


@pytree()
@dataclass(frozen=True, eq=False)
class Polynomial(_PolynomialActivation):
    """`phi(x) = sum_p coefficients[p] x^p`.

    Raises:
        ValueError: without coefficients.
    """

    coefficients: tuple[Any, ...]

    def __post_init__(self) -> None:
        if len(self.coefficients) == 0:
            raise ValueError("Polynomial needs at least one coefficient, got none.")
        leaves = tuple(
            as_leaf("Polynomial", f"coefficients[{i}]", c) for i, c in enumerate(self.coefficients)
        )
        object.__setattr__(self, "coefficients", leaves)

    def _coefficients(self) -> tuple[Any, ...]:
        return self.coefficients


@pytree("degree")
@dataclass(frozen=True, eq=False)
class Monomial(_PolynomialActivation):
    """`phi(x) = x^degree`, degree at least 0."""

    degree: int

    def __post_init__(self) -> None:
        _check_degree("Monomial", self.degree)

    def _coefficients(self) -> tuple[Any, ...]:
        return (0.0,) * self.degree + (1.0,)


@pytree("degree")
@dataclass(frozen=True, eq=False)
class Hermite(_PolynomialActivation):
    """Orthonormal probabilists' Hermite polynomial `phi(x) = h_degree(x)`, so that `C = cov^degree` at variance 1."""

    degree: int

    def __post_init__(self) -> None:
        _check_degree("Hermite", self.degree)

    def _coefficients(self) -> tuple[Any, ...]:
        n = self.degree
        coefficients = [0.0] * (n + 1)
        for k in range(n // 2 + 1):
            # Divide the exact integers first: their ratio is moderate where they are not.
            magnitude = factorial(n) / (factorial(k) * factorial(n - 2 * k) * 2**k)
            coefficients[n - 2 * k] = (-1.0) ** k * magnitude / sqrt(factorial(n))
        return tuple(coefficients)


def _check_degree(name: str, degree: int) -> None:
    if not 0 <= degree <= 60:
        raise ValueError(f"{name} needs a degree from 0 to 60, got {degree}.")
