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
    contraction: Contraction,
    left: Factors,
    right: Factors,
    spans: list[tuple[int, int]] | None,
    wanted: list[tuple[int, int]],
    total: list[jax.Array] | None,
) -> list[jax.Array]:
    """The blocks of these pairs of a piece on the left and one on the right, added to `total`.

    Args:
        contraction: the kind of kernel.
        left: factors of n examples.
        right: those of m, or `left` itself: then every piece is formed once.
        spans: where the pieces of both begin and end; None for one piece each.
        wanted: pairs of pieces.
        total: a block for every pair. It passes through the loop over parts, so that loops with one total wait for each
            other and use the same memory. None for nothing yet.
    """
    examples = max(factors.came_out.shape[0] for factors in (left, right))
    outputs, batches, _, width = left.came_out.shape[1:]
    inputs = left.went_in.shape[-1]
    each = examples * batches * left.came_out.dtype.itemsize
    later = OUTPUT_BYTES if contraction.sums_outputs else PART_BYTES
    parts = _parts(
        (outputs if contraction.sums_outputs else 1, width, inputs),
        outputs * width * inputs,
        (PART_BYTES // each, later // each, later // each),
    )
    mine = _Pieces(contraction, left, spans, parts)
    theirs = mine if right is left else _Pieces(contraction, right, spans, parts)

    def blocks(part: Any) -> list[jax.Array]:
        rows = mine.formed(part)
        columns = rows if theirs is mine else theirs.formed(part)
        return [contraction.rows(rows[row], columns[column]) for row, column in wanted]

    def add(part: Any, total: list[jax.Array]) -> list[jax.Array]:
        return [old + new for old, new in zip(total, blocks(part), strict=True)]

    if total is None:
        return lax.fori_loop(1, prod(parts), add, blocks(0))
    return lax.fori_loop(0, prod(parts), add, total)


class _Pieces:
    """The factors of one side, from which the gradients of each piece are formed a part at a time.

    What is large, the cotangents, is cut only inside the loop over parts: no copy is made of all of it.
    """

    def __init__(
        self,
        contraction: Contraction,
        factors: Factors,
        spans: list[tuple[int, int]] | None,
        parts: tuple[int, ...],
    ) -> None:
        self.contraction = contraction
        self.spans = spans or [(0, factors.came_out.shape[0])]
        self.parts = parts
        self.came_out = factors.came_out
        self.went_in = [factors.went_in[start:stop] for start, stop in self.spans]

    def formed(self, part: Any) -> list[jax.Array]:
        """A part of the gradients of every piece."""
        of_outputs, of_width, of_inputs = self.parts
        _, outputs, batches, positions, width = self.came_out.shape
        numbers = part % of_outputs, part // of_outputs % of_width, part // (of_outputs * of_width)
        sizes = outputs // of_outputs, width // of_width, self.went_in[0].shape[-1] // of_inputs
        result = []
        for (start, stop), went_in in zip(self.spans, self.went_in, strict=True):
            came_out = lax.dynamic_slice(
                self.came_out,
                (start, numbers[0] * sizes[0], 0, 0, numbers[1] * sizes[1]),
                (stop - start, sizes[0], batches, positions, sizes[1]),
            )
            if of_inputs > 1:
                went_in = lax.dynamic_slice_in_dim(went_in, numbers[2] * sizes[2], sizes[2], axis=3)
            result.append(jax.vmap(self.contraction.gradient)(went_in, came_out))
        return result


def _parts(lengths: tuple[int, ...], numbers: int, most: tuple[int, ...]) -> tuple[int, ...]:
    """Into how many equal parts each axis is cut, one after the other, until of `numbers` `most` of the axis remain."""
    parts = []
    for length, enough in zip(lengths, most, strict=True):
        divisors = [divisor for divisor in range(1, length + 1) if length % divisor == 0]
        cut = next((divisor for divisor in divisors if numbers // divisor <= enough), length)
        numbers //= cut
        parts.append(cut)
    return tuple(parts)
