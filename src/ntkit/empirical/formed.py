"""Gradients that are formed from factors a part at a time, while they are in cache, multiplied, and forgotten."""

from math import prod
from typing import Any

import jax
from jax import lax

from ntkit.empirical.contraction import Contraction
from ntkit.empirical.factors import Factors

PART_BYTES = 2**23
"""Memory of the part of one side's gradients that is formed at a time: it should not leave the cache."""

OUTPUT_BYTES = 5 * PART_BYTES
"""The same for the part of a single output, which costs more to cut: products with few columns are slow ones."""


def formed_sums(
    contraction: Contraction, left: list[Factors], right: list[Factors], wanted: list[tuple[int, int]]
) -> list[jax.Array]:
    """The blocks of these pairs of a piece on the left and one on the right; every piece is formed once.

    `right` may be `left` itself.
    """
    examples = max(sum(piece.came_out.shape[0] for piece in side) for side in (left, right))
    outputs, batches, _, width = left[0].came_out.shape[1:]
    inputs = left[0].went_in.shape[-1]
    each = examples * batches * left[0].came_out.dtype.itemsize
    later = OUTPUT_BYTES if contraction.sums_outputs else PART_BYTES
    parts = _parts(
        (outputs if contraction.sums_outputs else 1, width, inputs),
        outputs * width * inputs,
        (PART_BYTES // each, later // each, later // each),
    )
    count = prod(parts)

    def blocks(part: Any) -> list[jax.Array]:
        def rows(piece: Factors) -> jax.Array:
            went_in = _part(piece.went_in, 3, part // (parts[0] * parts[1]), parts[2])
            came_out = _part(piece.came_out, 4, part // parts[0] % parts[1], parts[1])
            came_out = _part(came_out, 1, part % parts[0], parts[0])
            return jax.vmap(contraction.gradient)(went_in, came_out)

        mine = [rows(piece) for piece in left]
        theirs = mine if right is left else [rows(piece) for piece in right]
        return [contraction.rows(mine[row], theirs[column]) for row, column in wanted]

    def add(part: Any, total: list[jax.Array]) -> list[jax.Array]:
        return [old + new for old, new in zip(total, blocks(part), strict=True)]

    return blocks(0) if count == 1 else lax.fori_loop(1, count, add, blocks(0))


def _parts(lengths: tuple[int, ...], numbers: int, most: tuple[int, ...]) -> tuple[int, ...]:
    """Into how many equal parts each axis is cut, one after the other, until of `numbers` `most` of the axis remain."""
    parts = []
    for length, enough in zip(lengths, most, strict=True):
        divisors = [divisor for divisor in range(1, length + 1) if length % divisor == 0]
        cut = next((divisor for divisor in divisors if numbers // divisor <= enough), length)
        numbers //= cut
        parts.append(cut)
    return tuple(parts)


def _part(values: jax.Array, axis: int, part: Any, parts: int) -> jax.Array:
    """One of equal parts along an axis."""
    if parts == 1:
        return values
    size = values.shape[axis] // parts
    return lax.dynamic_slice_in_dim(values, part * size, size, axis=axis)
