"""Compiled steps of the tangent kernel: the derivatives of a tile of examples, and the block of two tiles."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp

from ntkit.empirical.contraction import Contraction, Traced
from ntkit.empirical.factors import Factors, derivatives, to_rows
from ntkit.empirical.function import one_example
from ntkit.empirical.plan import Form

STRIP = 128
"""Rows of a symmetric block computed at a time, from the diagonal on: what lies below is mirrored."""

Groups = tuple[tuple[tuple[int, Form], ...], ...]
"""Leaves and their forms, in the groups whose kernels are wanted apart."""


@partial(jax.tree_util.register_dataclass, data_fields=["factors"], meta_fields=[])
@dataclass(frozen=True)
class Deferred:
    """Factors whose gradients are formed only when they are multiplied."""

    factors: Factors


Derivatives = tuple[tuple[Any, ...], ...]
"""For each group its entries, rows or factors or deferred, with a leading axis of examples."""


def tile_derivatives(
    f: Callable[[Any, Any], Any], groups: Groups, chunk: int, params: Any, masks: dict[int, jax.Array], x: Any
) -> Derivatives:
    """The derivatives of every example of `x`, `chunk` of them at a time."""
    single = one_example(f)
    flat = [pair for group in groups for pair in group]
    factored = tuple(leaf for leaf, form in flat if form not in ("rows", "shift"))
    rows = tuple(leaf for leaf, form in flat if form == "rows")
    shifts = tuple(leaf for leaf, form in flat if form == "shift")
    leaves = jax.tree_util.tree_leaves(params)

    def of_example(point: Any) -> Derivatives:
        in_factors, in_rows = derivatives(single, params, point, factored, rows, shifts)
        for leaf, mask in masks.items():
            in_rows[leaf] = in_rows[leaf] * mask.reshape(1, -1)
        result = []
        for group in groups:
            small = [in_rows[leaf] for leaf, form in group if form == "rows"]
            entries: list[Any] = [jnp.concatenate(small, axis=1)] if small else []
            for leaf, form in group:
                if form == "gradients":
                    entries.append(to_rows(in_factors[leaf], leaves[leaf].size))
                elif form == "deferred":
                    entries.append(Deferred(in_factors[leaf]))
                elif form == "pairs":
                    entries.append(in_factors[leaf])
            result.append(tuple(entries))
        return tuple(result)

    examples = jax.tree_util.tree_leaves(x)[0].shape[0]
    with jax.default_matmul_precision("highest"):
        if chunk >= examples:
            return jax.vmap(of_example)(x)
        return jax.lax.map(of_example, x, batch_size=chunk)


def block(contraction: Contraction, left: Derivatives, right: Derivatives) -> tuple[jax.Array, ...]:
    """The kernel of each group between the examples of two tiles."""
    with jax.default_matmul_precision("highest"):
        grams = [
            reduce(jnp.add, [_contract(contraction, a, b) for a, b in zip(mine, theirs, strict=True)])
            for mine, theirs in zip(left, right, strict=True)
        ]
        return tuple(gram.transpose(contraction.order) for gram in grams)


def _contract(contraction: Contraction, left: Any, right: Any) -> jax.Array:
    if isinstance(left, Deferred):
        return contraction.deferred(left.factors, right.factors, (0,))[0]
    return contraction.factors(left, right) if isinstance(left, Factors) else contraction.rows(left, right)


def symmetric_block(contraction: Contraction, tile: Derivatives) -> tuple[jax.Array, ...]:
    """The kernel of each group of a tile with itself: strips from the diagonal on, exactly symmetric."""
    examples = jax.tree_util.tree_leaves(tile)[0].shape[0]
    starts = tuple(range(0, examples, max(STRIP, -(-examples // 16))))
    with jax.default_matmul_precision("highest"):
        return tuple(
            _mirrored(contraction, _own_strips(contraction, group, starts), starts) for group in tile
        )


def _own_strips(contraction: Contraction, group: tuple[Any, ...], starts: tuple[int, ...]) -> list[jax.Array]:
    """For every start the block of the examples up to the next start with all examples from there on."""
    total: list[Any] = [0.0] * len(starts)
    for entry in group:
        if isinstance(entry, Deferred):
            strips = contraction.deferred(entry.factors, None, starts)
        else:
            ends = (*starts[1:], None)
            strips = tuple(
                _contract(contraction, _part(entry, slice(start, end)), _part(entry, slice(start, None)))
                for start, end in zip(starts, ends, strict=True)
            )
        total = [old + new for old, new in zip(total, strips, strict=True)]
    return total


def _part(entry: Any, examples: slice) -> Any:
    return jax.tree_util.tree_map(lambda leaf: leaf[examples], entry)


def _mirrored(contraction: Contraction, strips: list[jax.Array], starts: tuple[int, ...]) -> jax.Array:
    """Whole rows from strips that begin at the diagonal, finished."""
    axis, mirror = contraction.columns, contraction.mirror
    lines = []
    for row, (start, strip) in enumerate(zip(starts, strips, strict=True)):
        size = strip.shape[0]
        square = _columns(strip, axis, 0, size)
        below = [
            _columns(strips[column], axis, start - starts[column], size).transpose(mirror)
            for column in range(row)
        ]
        rest = _columns(strip, axis, size, strip.shape[axis] - size)
        lines.append(jnp.concatenate([*below, (square + square.transpose(mirror)) / 2, rest], axis=axis))
    return jnp.concatenate(lines, axis=0).transpose(contraction.order)


def _columns(strip: jax.Array, axis: int, start: int, size: int) -> jax.Array:
    return jax.lax.slice_in_dim(strip, start, start + size, axis=axis)


def own_gram(
    f: Callable[[Any, Any], Any],
    groups: Groups,
    chunk: int,
    contraction: Contraction,
    params: Any,
    masks: dict[int, jax.Array],
    x: Any,
) -> tuple[jax.Array, ...]:
    """Derivatives and kernel of one set of examples in one program."""
    return symmetric_block(contraction, tile_derivatives(f, groups, chunk, params, masks, x))


def cross_gram(
    f: Callable[[Any, Any], Any],
    groups: Groups,
    chunk: int,
    contraction: Contraction,
    params: Any,
    masks: dict[int, jax.Array],
    x1: Any,
    x2: Any,
) -> tuple[jax.Array, ...]:
    """Derivatives and kernel between two sets of examples in one program."""
    of = partial(tile_derivatives, f, groups, chunk, params, masks)
    return block(contraction, of(x1), of(x2))


def own_diagonal(
    f: Callable[[Any, Any], Any], groups: Groups, chunk: int, params: Any, masks: dict[int, jax.Array], x: Any
) -> jax.Array:
    """`(1/k) Σ_op (∂_p f_o(x_i))²` for each example."""

    def of_example(point: Any) -> jax.Array:
        one = jax.tree_util.tree_map(lambda leaf: leaf[None], point)
        tile = tile_derivatives(f, groups, 1, params, masks, one)
        return reduce(jnp.add, block(Traced(), tile, tile))[0, 0]

    return jax.lax.map(of_example, x, batch_size=chunk)


compiled_derivatives = jax.jit(tile_derivatives, static_argnums=(0, 1, 2))
compiled_block = jax.jit(block, static_argnums=0)
compiled_symmetric_block = jax.jit(symmetric_block, static_argnums=0)
compiled_own_gram = jax.jit(own_gram, static_argnums=(0, 1, 2, 3))
compiled_cross_gram = jax.jit(cross_gram, static_argnums=(0, 1, 2, 3))
compiled_diagonal = jax.jit(own_diagonal, static_argnums=(0, 1, 2))
