"""Hermite coefficients of a scalar function by quadrature, and Mehler's expansion built from them.

With orthonormal probabilists' Hermite polynomials `h_n` and `a_n(q) = E[f(sqrt(q) z) h_n(z)]`,
`E[f(u) f(v)] = sum_n a_n(q) a_n(q') rho^n` for a Gaussian pair of variances q, q', correlation rho.
"""

from collections.abc import Callable
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np

from ntkit.numerics.safe import safe_sqrt

HALF_RANGE = 13.0
"""Quadrature ends here: the Gaussian weight times any `h_n` is below 1e-18 beyond it."""

TERMS_PER_BLOCK = 16
"""Terms of a Mehler sum evaluated in one fused pass; reverse-mode differentiation stores one carry a block."""


@lru_cache(maxsize=4)
def nodes(panels: int = 16, order: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Nodes `z_j` and weights `w_j` with `sum_j w_j g(z_j) = E[g(z)]`, `z ~ N(0, 1)`; shape (2 panels order,).

    Composite Gauss-Legendre in `t` with `z = s sinh(t)`, separately left and right of 0. The nodes
    crowd around 0, where a function of `sqrt(q) z` with a large `q` has its features, and an integrand
    may have a kink there.
    """
    crowding = 0.05
    edges = np.linspace(0.0, np.arcsinh(HALF_RANGE / crowding), panels + 1)
    legendre_nodes, legendre_weights = np.polynomial.legendre.leggauss(order)
    half = np.diff(edges)[:, None] / 2.0
    t = ((edges[:-1] + edges[1:])[:, None] / 2.0 + half * legendre_nodes).ravel()
    z = crowding * np.sinh(t)
    weight = (
        (half * legendre_weights).ravel()
        * crowding
        * np.cosh(t)
        * np.exp(-(z**2) / 2.0)
        / np.sqrt(2.0 * np.pi)
    )
    return np.concatenate([-z[::-1], z]), np.concatenate([weight[::-1], weight])


@lru_cache(maxsize=16)
def weighted_polynomials(degree: int) -> np.ndarray:
    """`w_j h_n(z_j)` for n < degree at the nodes, shape (degree, nodes); the weight keeps it bounded."""
    z, weight = nodes()
    # The recurrence runs on sqrt-weighted values, which stay bounded where h_n alone would overflow.
    root = np.exp(-(z**2) / 4.0)
    rows = np.empty((degree, z.size))
    rows[0] = root
    if degree > 1:
        rows[1] = z * root
    for n in range(1, degree - 1):
        rows[n + 1] = (z * rows[n] - np.sqrt(n) * rows[n - 1]) / np.sqrt(n + 1)
    return rows * (weight / root)


def coefficients(function: Callable[[jax.Array], jax.Array], var: jax.Array, degree: int) -> jax.Array:
    """`a_n(q) = E[f(sqrt(q) z) h_n(z)]` for n < degree; shape (degree, *var.shape)."""
    values = _at_nodes(function, var)
    basis = jnp.asarray(weighted_polynomials(degree), values.dtype)
    return jnp.moveaxis(jnp.matmul(values, basis.T, precision="highest"), -1, 0)


def second_moment(function: Callable[[jax.Array], jax.Array], var: jax.Array) -> jax.Array:
    """`E[f(sqrt(q) z)^2]`, the shape of `var`."""
    weight = jnp.asarray(nodes()[1], var.dtype)
    return jnp.matmul(jnp.square(_at_nodes(function, var)), weight, precision="highest")


def outer_moment(function: Callable[[jax.Array], jax.Array], var: jax.Array) -> jax.Array:
    """The part of `second_moment` from the outermost nodes: a sign of what lies beyond them."""
    z, weight = nodes()
    far = np.abs(z) > HALF_RANGE - 1.0
    z, weight = jnp.asarray(z[far], var.dtype), jnp.asarray(weight[far], var.dtype)
    values = function(safe_sqrt(var)[..., None] * z.reshape((1,) * var.ndim + (-1,)))
    return jnp.matmul(jnp.square(values), weight, precision="highest")


def _at_nodes(function: Callable[[jax.Array], jax.Array], var: jax.Array) -> jax.Array:
    z = jnp.asarray(nodes()[0], var.dtype).reshape((1,) * var.ndim + (-1,))
    return function(safe_sqrt(var)[..., None] * z)


@jax.jit  # a call by name, which the fused engine knows as one operation
def mehler(left: jax.Array, right: jax.Array, correlation: jax.Array) -> jax.Array:
    """`sum_n left_n right_n rho^n` by Horner's rule.

    Args:
        left: coefficients, shape (degree, *a); `a` broadcasts to the shape of `correlation`.
        right: coefficients, shape (degree, *b), likewise.
        correlation: rho, in [-1, 1].
    """
    degree = left.shape[0]
    padding = -degree % TERMS_PER_BLOCK
    blocks = (degree + padding) // TERMS_PER_BLOCK

    def in_blocks(rows: jax.Array) -> jax.Array:
        padded = (
            jnp.concatenate([rows, jnp.zeros((padding, *rows.shape[1:]), rows.dtype)]) if padding else rows
        )
        return padded.reshape(blocks, TERMS_PER_BLOCK, *rows.shape[1:])

    @jax.checkpoint
    def step(total: jax.Array, block: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        for n in reversed(range(TERMS_PER_BLOCK)):
            total = total * correlation + block[0][n] * block[1][n]
        return total, None

    total, _ = jax.lax.scan(
        step, jnp.zeros_like(correlation), (in_blocks(left), in_blocks(right)), reverse=True
    )
    return total
