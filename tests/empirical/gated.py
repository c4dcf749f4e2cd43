"""A small network in float64 and its Jacobian by hand, which products, sketches and operators are held to."""

import jax
import jax.numpy as jnp
import numpy as np

K = 2
"""Outputs."""


def network(params, x):
    """tanh layers with a gate by the input, without which `J(x) J(x')ᵀ` would be symmetric block by block."""
    (w, b), head = params["body"], params["head"]
    return (2 + x[:, :K]) * (jnp.tanh(x @ w + b[None, :]) @ head)


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def draw_parameters(width):
    """For points of three numbers."""
    return {"body": (draw(1, 3, width), draw(2, width)), "head": draw(3, width, K)}


def count_parameters(width):
    return 3 * width + width + width * K


def explicit_jacobian(params, x):
    """(n, k, P) in the order of the leaves, derived by hand."""
    (w, b), head = params["body"], params["head"]
    gate, hidden = 2 + x[:, :K], np.tanh(x @ w + b[None, :])
    of_shifts = gate[:, :, None] * head.T[None] * (1 - hidden**2)[:, None, :]
    of_weights = x[:, None, :, None] * of_shifts[:, :, None, :]
    of_head = gate[:, :, None, None] * hidden[:, None, :, None] * np.eye(K)[None, :, None, :]
    return np.concatenate(
        [of_weights.reshape(len(x), K, -1), of_shifts, of_head.reshape(len(x), K, -1)], axis=-1
    )


def looped(w, x):
    """tanh(tanh(x w) w) by a loop of which JAX cannot tell the length."""
    turn = lambda state: (state[0] + 1, jnp.tanh(state[1] @ w))  # noqa: E731
    return jax.lax.while_loop(lambda state: state[0] < 2, turn, (0, x))[1]
