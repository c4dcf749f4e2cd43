"""How many examples, and how many vectors, are handled at once so that derivatives stay in a memory budget."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ntkit.empirical.convolution import in_fast_order
from ntkit.empirical.function import Function, Params, one_example
from ntkit.numerics.points import number_of_points

Inputs = Any
"""An array, or a pytree of arrays, with the examples along the leading axis."""


def rows(f: Function, params: Params, x: Inputs, *, reverse: bool = False) -> Float[jax.Array, "n k"]:
    """`f` of every example, each in a batch of its own, so that examples cannot mix.

    `reverse` says whether it will be differentiated in reverse mode; see `in_fast_order`.
    """
    single = in_fast_order(one_example(f), reverse=reverse)
    return jax.vmap(lambda point: single(params, point))(x)


def size(tree: Any) -> int:
    """The number of entries of all arrays in a tree: for parameters, P."""
    return sum(leaf.size for leaf in jax.tree_util.tree_leaves(tree))


def bytes_of(tree: Any) -> int:
    """The memory of all arrays in a tree, or of arrays of such shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree_util.tree_leaves(tree))


def bytes_per_example(f: Function, params: Params, x: Inputs) -> int:
    """What a reverse pass keeps of one more example, read off its abstract evaluation; nothing is computed."""

    def residuals(examples: int) -> int:
        shapes = jax.tree_util.tree_map(
            lambda leaf: jax.ShapeDtypeStruct((examples, *leaf.shape[1:]), leaf.dtype), x
        )
        backward = jax.eval_shape(
            lambda parameters, points: jax.vjp(lambda p: rows(f, p, points, reverse=True), parameters)[1],
            params,
            shapes,
        )
        return bytes_of(backward)

    inputs = bytes_of(x) // number_of_points(x)
    return max(residuals(2) - residuals(1), inputs, 1)


def plan(f: Function, params: Params, x: Inputs, vectors: int, memory_limit: int) -> tuple[int, int]:
    """`(examples per tile, vectors at once)` such that a product takes about `memory_limit` bytes.

    Half of the budget goes to copies of the parameters, three for each vector (one that is summed, one
    that is added, one in flight), half to the tile. At least one vector and one example pass at a time, so
    the least memory that a product takes is a few copies of the parameters.
    """
    at_once = min(vectors, max(1, memory_limit // 2 // (3 * bytes_of(params))))
    tile = max(1, memory_limit // 2 // (bytes_per_example(f, params, x) * (1 + at_once)))
    return min(tile, number_of_points(x)), at_once


def padded(tree: Any, tile: int) -> Any:
    """Leading axes n split into (tiles, tile); the last tile is filled up with copies of the first example."""
    examples = number_of_points(tree)
    tiles = -(-examples // tile)

    def split(leaf: jax.Array) -> jax.Array:
        missing = tiles * tile - examples
        if missing:
            leaf = jnp.concatenate([leaf, jnp.broadcast_to(leaf[:1], (missing, *leaf.shape[1:]))])
        return leaf.reshape(tiles, tile, *leaf.shape[1:])

    return jax.tree_util.tree_map(split, tree)


def map_tiles(function: Callable[[Any], jax.Array], x: Inputs, tile: int) -> jax.Array:
    """`function` of tiles of examples in sequence, its results (tile, ...) put together to (n, ...)."""
    if tile >= number_of_points(x):
        return function(x)
    result = jax.lax.map(function, padded(x, tile))
    return result.reshape(-1, *result.shape[2:])[: number_of_points(x)]


def map_chunks(function: Callable[[Any], Any], vectors: Any, at_once: int) -> Any:
    """`function` of every vector along the leading axis, `at_once` of them side by side."""
    if at_once >= number_of_points(vectors):
        return jax.vmap(function)(vectors)
    return jax.lax.map(function, vectors, batch_size=at_once)
