"""Per-example Jacobians of `f(params, x)` with respect to the parameters, and their contractions."""

import jax
import jax.numpy as jnp
import numpy as np

from ntkit.empirical.function import Function, Params

Jacobian = list[jax.Array]
"""For each leaf of the parameters an array (points, outputs, size of the leaf)."""


def jacobian(f: Function, params: Params, x: jax.Array) -> Jacobian:
    """`∂f_o(x_i)/∂θ_p` for every point: one reverse pass per output, or forward passes if P < k.

    Each point goes through `f` alone, so memory is that of the result, `n k P` numbers.
    """

    def single(parameters, point):
        return f(parameters, point[None])[0]

    parameters = sum(np.size(leaf) for leaf in jax.tree_util.tree_leaves(params))
    outputs = jax.eval_shape(single, params, jax.ShapeDtypeStruct(x.shape[1:], x.dtype)).shape[0]
    derivative = jax.jacfwd(single) if parameters < outputs else jax.jacrev(single)
    with jax.default_matmul_precision("highest"):
        tree = jax.vmap(lambda point: derivative(params, point))(x)
    return [leaf.reshape(x.shape[0], outputs, -1) for leaf in jax.tree_util.tree_leaves(tree)]


def contract_traced(left: Jacobian, right: Jacobian) -> jax.Array:
    """`(1/O) Σ_o Σ_p J_op(x) J_op(x')`, shape (n, m)."""
    outputs = left[0].shape[1]
    total = sum(
        jnp.matmul(a.reshape(a.shape[0], -1), b.reshape(b.shape[0], -1).T, precision="highest")
        for a, b in zip(left, right, strict=True)
    )
    return jnp.asarray(total) / outputs


def contract_full(left: Jacobian, right: Jacobian) -> jax.Array:
    """`Σ_p J_ap(x) J_bp(x')`, shape (n, m, k, k)."""
    n, k, _ = left[0].shape
    m = right[0].shape[0]
    total = sum(
        jnp.matmul(a.reshape(n * k, -1), b.reshape(m * k, -1).T, precision="highest")
        for a, b in zip(left, right, strict=True)
    )
    return jnp.asarray(total).reshape(n, k, m, k).transpose(0, 2, 1, 3)


def square_norms(rows: Jacobian) -> jax.Array:
    """`(1/O) Σ_o Σ_p J_op(x)²`, shape (n,): the diagonal of `contract_traced`."""
    outputs = rows[0].shape[1]
    return jnp.asarray(sum(jnp.sum(jnp.square(leaf), axis=(1, 2)) for leaf in rows)) / outputs
