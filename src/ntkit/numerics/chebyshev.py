"""Chebyshev series that keep their digits at one end of their interval."""

import jax
import jax.numpy as jnp

BLOCK = 8
"""Series have one term more than a multiple of this: the fused engine sums so many at a time."""


@jax.jit  # a call by name, which the fused engine knows as one operation
def chebyshev_series(coefficients: jax.Array, turn: jax.Array) -> jax.Array:
    """`sum_k c_k T_k(1 - 2 turn)` for `turn` in [0, 1], accurate relative to `turn` near 0.

    Clenshaw's recurrence in Reinsch's form (Oliver 1977, "An error analysis of the modified Clenshaw method"): with
    `d_k = b_k - b_{k+1}`, `d_k = c_k - 4 turn b_{k+1} + d_{k+1}`.
    """
    zero = jnp.zeros_like(turn)

    def step(carry: tuple[jax.Array, jax.Array], term: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        total, difference = carry
        difference = difference + term - 4.0 * turn * total
        return (total + difference, difference), None

    (total, difference), _ = jax.lax.scan(step, (zero, zero), coefficients[1:], reverse=True)
    return coefficients[0] - 2.0 * turn * total + difference
