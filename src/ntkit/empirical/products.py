"""Products with the Jacobian J of `f(params, x)` and with the tangent kernel `J Jᵀ`, never holding J.

All functions are pure JAX functions, to be jitted with `f` and `memory_limit` static. Vectors come several at
once along a leading axis r, since they share the evaluation of `f`. With P parameters and F operations in an
evaluation of `f`, a product with J costs about F for the evaluation and F for each vector, a product with
`Jᵀ` F and 2 F, for each example.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ntkit.empirical.convolution import in_fast_order
from ntkit.empirical.function import Function, Params, one_example
from ntkit.empirical.tiles import Inputs, map_chunks, map_tiles, padded, plan, rows
from ntkit.numerics.points import number_of_points

PRECISION = "highest"
"""Of matrix products, as everywhere in the library: a float32 product is one on every device."""


def jacobian_product(
    f: Function, params: Params, x: Inputs, vectors: Params, memory_limit: int
) -> Float[jax.Array, "r n k"]:
    """`J v`: `Σ_p ∂_p f_o(x_i) v_p` by forward-mode differentiation.

    Args:
        f: inputs (n, ...) to outputs (n, k); every example is evaluated alone.
        params: pytree of floating-point arrays.
        x: array or pytree of arrays with a leading axis n.
        vectors: a tree like `params`, every leaf with another leading axis r.
        memory_limit: bytes beside arguments and result; see `tiles.plan`.
    """
    tile, at_once = plan(f, params, x, number_of_points(vectors), memory_limit)
    with jax.default_matmul_precision(PRECISION):
        return map_chunks(lambda vector: forward(f, params, x, vector, tile), vectors, at_once)


def transposed_product(
    f: Function, params: Params, x: Inputs, weights: Float[jax.Array, "r n k"], memory_limit: int
) -> Params:
    """`Jᵀ u`: `Σ_io u_io ∂_p f_o(x_i)` by reverse-mode differentiation: a tree like `params` with leading axes r."""
    tile, at_once = plan(f, params, x, len(weights), memory_limit)
    with jax.default_matmul_precision(PRECISION):
        return map_chunks(lambda single: _reverse(f, params, x, single, tile), weights, at_once)


def kernel_product(
    f: Function,
    params: Params,
    x1: Inputs,
    x2: Inputs,
    weights: Float[jax.Array, "r m k"],
    memory_limit: int,
) -> Float[jax.Array, "r n k"]:
    """`Θ(x1, x2) u = J(x1) J(x2)ᵀ u`: one reverse pass over `x2`, then one forward-mode pass over `x1`."""
    tile, at_once = plan(f, params, x2, len(weights), memory_limit)

    def product(single: jax.Array) -> jax.Array:
        return forward(f, params, x1, _reverse(f, params, x2, single, tile), tile)

    with jax.default_matmul_precision(PRECISION):
        return map_chunks(product, weights, at_once)


def squared_gradient_norms(
    f: Function, params: Params, x: Inputs, memory_limit: int
) -> Float[jax.Array, "n k"]:
    """`Θ_oo(x_i, x_i) = Σ_p (∂_p f_o(x_i))²`, a few gradients at a time."""
    outputs = outputs_of(f, params, x)
    _, at_once = plan(f, params, x, number_of_points(x) * outputs, memory_limit)

    def norms(point: Inputs) -> jax.Array:
        pull = _pull(f, params, point)

        def norm(output: jax.Array) -> jax.Array:
            squares = [jnp.sum(jnp.square(leaf)) for leaf in jax.tree_util.tree_leaves(pull(output))]
            return jnp.sum(jnp.stack(squares))

        return map_chunks(norm, _identity(f, params, x), at_once)

    with jax.default_matmul_precision(PRECISION):
        return map_chunks(norms, x, max(1, at_once // outputs))


def traced_by_products(
    f: Function, params: Params, x1: Inputs, x2: Inputs, memory_limit: int
) -> Float[jax.Array, "n m"]:
    """The output-traced kernel `(1/k) Σ_o Θ_oo(x1_i, x2_j)`, as `EmpiricalNTK` defines it, by columns.

    The column of the point j and the output o is `J(x1)` times the gradient of `f_o(x2_j)`: m k products
    with J of all of `x1`, in the memory of a few gradients.
    """
    outputs = outputs_of(f, params, x2)
    tile, at_once = plan(f, params, x1, number_of_points(x2) * outputs, memory_limit)

    def column(point: Inputs) -> jax.Array:
        pull = _pull(f, params, point)

        def term(output: jax.Array) -> jax.Array:
            return forward(f, params, x1, pull(output), tile) @ output

        basis = _identity(f, params, x2)
        if at_once >= outputs:
            return jax.vmap(term)(basis).sum(axis=0)
        start = jnp.zeros(number_of_points(x1), basis.dtype)
        return jax.lax.scan(lambda total, output: (total + term(output), None), start, basis)[0]

    with jax.default_matmul_precision(PRECISION):
        return map_chunks(column, x2, max(1, at_once // outputs)).T / outputs


def full_by_products(
    f: Function, params: Params, x1: Inputs, x2: Inputs, memory_limit: int
) -> Float[jax.Array, "n m k k"]:
    """`Θ_ab(x1_i, x2_j) = Σ_p ∂_p f_a(x1_i) ∂_p f_b(x2_j)` by columns, as `traced_by_products`."""
    outputs = outputs_of(f, params, x2)
    tile, at_once = plan(f, params, x1, number_of_points(x2) * outputs, memory_limit)

    def columns(point: Inputs) -> jax.Array:
        pull = _pull(f, params, point)
        return map_chunks(
            lambda output: forward(f, params, x1, pull(output), tile),
            _identity(f, params, x2),
            at_once,
        )

    with jax.default_matmul_precision(PRECISION):
        blocks = map_chunks(columns, x2, max(1, at_once // outputs))
    return blocks.transpose(2, 0, 3, 1)


def forward(f: Function, params: Params, x: Inputs, vector: Params, tile: int) -> jax.Array:
    """`J v` for one vector, tile by tile of the examples."""

    def push(points: Inputs) -> jax.Array:
        return jax.jvp(lambda p: rows(f, p, points), (params,), (vector,))[1]

    return map_tiles(push, x, tile)


def _reverse(f: Function, params: Params, x: Inputs, weights: jax.Array, tile: int) -> Params:
    """`Jᵀ u` for one vector, summed over tiles of the examples; copies that fill the last tile weigh nothing."""

    def pull(points: Inputs, cotangents: jax.Array) -> Params:
        return jax.vjp(lambda p: rows(f, p, points, reverse=True), params)[1](cotangents)[0]

    examples = number_of_points(x)
    if tile >= examples:
        return pull(x, weights)
    tiles = padded(x, tile)
    missing = -examples % tile
    padding = jnp.zeros((missing, weights.shape[1]), weights.dtype)
    cotangents = jnp.concatenate([weights, padding]).reshape(-1, tile, weights.shape[1])

    def add(total: Params, part: tuple[Inputs, jax.Array]) -> tuple[Params, None]:
        return jax.tree_util.tree_map(jnp.add, total, pull(*part)), None

    start = jax.tree_util.tree_map(jnp.zeros_like, params)
    return jax.lax.scan(add, start, (tiles, cotangents))[0]


def _pull(f: Function, params: Params, point: Inputs):
    """`o -> ∂f_o(x)` at one example, for a vector that weighs the outputs."""
    single = in_fast_order(one_example(f), reverse=True)
    pullback = jax.vjp(lambda p: single(p, point), params)[1]
    return lambda output: pullback(output)[0]


def outputs_of(f: Function, params: Params, x: Inputs) -> int:
    """The number of outputs k."""
    return jax.eval_shape(lambda p, points: rows(f, p, points), params, x).shape[1]


def _identity(f: Function, params: Params, x: Inputs) -> jax.Array:
    """The unit vectors of the outputs, in the outputs' dtype."""
    shape = jax.eval_shape(lambda p, points: rows(f, p, points), params, x)
    return jnp.eye(shape.shape[1], dtype=shape.dtype)
