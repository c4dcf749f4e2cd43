"""Random projections of Jacobians, `J(x) R` with a matrix R of random signs that is never stored."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt32

from ntkit.empirical.function import Function, Params
from ntkit.empirical.products import PRECISION, forward, outputs_of
from ntkit.empirical.tiles import Inputs, bytes_of, map_chunks, map_tiles, plan, rows, size
from ntkit.numerics.points import number_of_points

WORD = 32
"""Signs that one random integer holds."""

_rows = jax.jit(rows, static_argnums=0)


def random_signs(key: UInt32[jax.Array, "2"], column: jax.Array, params: Params) -> Params:
    """One column of R: a tree like the parameters of ±1, independent and equally likely.

    The signs depend on the key, the column, and the place of the leaf among the leaves: neither on the
    dtype, nor on which other columns are drawn, nor on the device.
    """
    base = jax.random.fold_in(jax.random.wrap_key_data(key, impl="threefry2x32"), column)
    leaves, structure = jax.tree_util.tree_flatten(params)
    places = jnp.arange(WORD, dtype=jnp.uint32)

    def signs(number: int, leaf: jax.Array) -> jax.Array:
        words = jax.random.bits(jax.random.fold_in(base, number), (-(-leaf.size // WORD),), jnp.uint32)
        bits = (words[:, None] >> places[None, :]) & jnp.uint32(1)
        return (2 * bits.reshape(-1)[: leaf.size].astype(leaf.dtype) - 1).reshape(leaf.shape)

    return structure.unflatten([signs(number, leaf) for number, leaf in enumerate(leaves)])


def project_forward(
    f: Function,
    params: Params,
    x: Inputs,
    key: UInt32[jax.Array, "2"],
    dimension: int,
    memory_limit: int,
) -> Float[jax.Array, "n k d"]:
    """`J(x) R` as forward-mode products with the columns of R, a few columns at a time."""
    tile, at_once = plan(f, params, x, dimension, memory_limit)

    def column(number: jax.Array) -> jax.Array:
        return forward(f, params, x, random_signs(key, number, params), tile)

    with jax.default_matmul_precision(PRECISION):
        result = map_chunks(column, jnp.arange(dimension, dtype=jnp.uint32), at_once)
    return jnp.moveaxis(result, 0, -1)


def project_reverse(
    f: Function,
    params: Params,
    x: Inputs,
    key: UInt32[jax.Array, "2"],
    dimension: int,
    memory_limit: int,
) -> Float[jax.Array, "n k d"]:
    """`J(x) R` by reverse-mode Jacobians of a tile of examples, each projected at once; R is drawn for each tile."""
    outputs = outputs_of(f, params, x)
    tile = jacobians_at_once(params, number_of_points(x), outputs, memory_limit)
    at_once = min(dimension, max(1, memory_limit // 2 // (2 * bytes_of(params))))
    columns = jnp.arange(dimension, dtype=jnp.uint32)

    def projected(points: Inputs) -> jax.Array:
        def single(point: Inputs) -> Params:
            alone = jax.tree_util.tree_map(lambda leaf: leaf[None], point)
            return jax.jacrev(lambda p: f(p, alone)[0])(params)

        leaves = jax.tree_util.tree_leaves(jax.vmap(single)(points))
        rows_of = [leaf.reshape(number_of_points(points), outputs, -1) for leaf in leaves]

        def column(number: jax.Array) -> jax.Array:
            signs = jax.tree_util.tree_leaves(random_signs(key, number, params))
            parts = [jnp.matmul(a, b.reshape(-1)) for a, b in zip(rows_of, signs, strict=True)]
            return jnp.sum(jnp.stack(parts), axis=0)

        return jnp.moveaxis(map_chunks(column, columns, at_once), 0, -1)

    with jax.default_matmul_precision(PRECISION):
        return map_tiles(projected, x, max(tile, 1))


def jacobians_at_once(params: Params, examples: int, outputs: int, memory_limit: int) -> int:
    """How many examples' Jacobians (two copies) fit half of the budget; 0 when not one does."""
    return min(examples, memory_limit // 2 // (2 * outputs * bytes_of(params)))


def cheaper_projection(f: Function, params: Params, x: Inputs, dimension: int, memory_limit: int) -> str:
    """`"forward"` or `"reverse"`, by the number of operations.

    With F operations in an evaluation of `f`, P parameters, k outputs and d columns an example costs `d F`
    by forward-mode products, and `2 k F + 2 k P d` by a reverse-mode Jacobian and its projection. So the first is
    cheaper where every weight is used once (dense layers, F = 2 P), the second where weights are shared by many
    more pixels or tokens than there are outputs. XLA counts F; of loops it counts one round.
    """
    outputs = outputs_of(f, params, x)
    if jacobians_at_once(params, number_of_points(x), outputs, memory_limit) == 0:
        return "forward"
    shapes = jax.tree_util.tree_map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), params)
    point = jax.tree_util.tree_map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape[1:]), leaf.dtype), x)
    analysis = _rows.lower(f, shapes, point).cost_analysis() or {}
    evaluation = float(analysis.get("flops", 2.0 * size(params)))
    reverse = 2 * outputs * evaluation + 2 * outputs * size(params) * dimension
    return "forward" if dimension * evaluation <= reverse else "reverse"


def dimension_for(error: float, confidence: float, points: int, outputs: int = 1) -> int:
    """The dimension d that keeps all entries of a kernel within `error` at once; see `SketchedNTK.dimension_for`."""
    if not (0 < error < 1 and 0 < confidence < 1 and points >= 1 and outputs >= 1):
        raise ValueError(
            "dimension_for needs error and confidence between 0 and 1 and at least one point and output, got "
            f"error={error}, confidence={confidence}, points={points}, outputs={outputs}."
        )
    vectors = float(points * outputs)
    return int(np.ceil(2 * np.log(2 * vectors**2 / (1 - confidence)) / (error**2 / 2 - error**3 / 3)))
