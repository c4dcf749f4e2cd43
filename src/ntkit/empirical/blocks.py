"""Compiled steps of the tangent kernel: the derivatives of a tile of examples, and the block of two tiles."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp

from ntkit.empirical.contraction import (
    Contraction,
    inputs_of_single_positions,
    of_single_positions,
)
from ntkit.empirical.factors import Factors, derivatives, to_rows
from ntkit.empirical.formed import formed_sums
from ntkit.empirical.function import one_example
from ntkit.empirical.plan import Form

Groups = tuple[tuple[tuple[int, Form], ...], ...]
"""Leaves and their forms, in the groups whose kernels are wanted apart."""

Masks = dict[int, jax.Array]
"""Entries of leaves that count, by the leaf's number."""


@dataclass(frozen=True)
class Task:
    """What is to be computed, apart from all numbers: compiled programs depend on it.

    Attributes:
        f: the function.
        groups: leaves and forms.
        contraction: the kind of kernel.
        outputs: number of outputs k.
        chunk: examples whose derivatives are computed together.
        outputs_at_once: outputs whose derivatives are held together; None for all.
    """

    f: Callable[[Any, Any], Any]
    groups: Groups
    contraction: Contraction
    outputs: int
    chunk: int
    outputs_at_once: int | None = None


@partial(jax.tree_util.register_dataclass, data_fields=["factors"], meta_fields=[])
@dataclass(frozen=True)
class Deferred:
    """Factors whose gradients are formed only when they are multiplied."""

    factors: Factors


Derivatives = tuple[tuple[Any, ...], ...]
"""For each group its entries, rows or factors or deferred, with a leading axis of examples."""


def tile_derivatives(
    task: Task, params: Any, masks: Masks, x: Any, seeds: jax.Array | None = None
) -> Derivatives:
    """The derivatives of every example of `x`, a chunk of them at a time.

    With `seeds` (g, k) those of g combinations of the outputs instead of the k outputs.
    """
    single = one_example(task.f)
    flat = [pair for group in task.groups for pair in group]
    factored = tuple(leaf for leaf, form in flat if form not in ("rows", "shift"))
    rows = tuple(leaf for leaf, form in flat if form == "rows")
    shifts = tuple(leaf for leaf, form in flat if form == "shift")
    leaves = jax.tree_util.tree_leaves(params)

    def of_example(point: Any) -> Derivatives:
        in_factors, in_rows = derivatives(single, params, point, factored, rows, shifts, seeds)
        for leaf, mask in masks.items():
            in_rows[leaf] = in_rows[leaf] * mask.reshape(1, -1)
        result = []
        for group in task.groups:
            small = [in_rows[leaf] for leaf, form in group if form == "rows"]
            entries: list[Any] = [jnp.concatenate(small, axis=1)] if small else []
            for leaf, form in group:
                if form == "gradients":
                    entries.append(to_rows(in_factors[leaf], leaves[leaf].size, task.contraction.gradient))
                elif form == "deferred":
                    entries.append(Deferred(in_factors[leaf]))
                elif form == "pairs":
                    entries.append(in_factors[leaf])
            result.append(tuple(entries))
        return tuple(result)

    with jax.default_matmul_precision("highest"):
        if task.chunk >= examples_of(x):
            return jax.vmap(of_example)(x)
        return jax.lax.map(of_example, x, batch_size=task.chunk)


def examples_of(tree: Any) -> int:
    """The length of the leading axis."""
    return jax.tree_util.tree_leaves(tree)[0].shape[0]


def entry_sums(
    contraction: Contraction, left: list[Any], right: list[Any], wanted: list[tuple[int, int]]
) -> list[jax.Array]:
    """One entry's blocks of these pairs of a piece on the left and one on the right."""
    if isinstance(left[0], Deferred):
        mine = [piece.factors for piece in left]
        theirs = mine if right is left else [piece.factors for piece in right]
        return formed_sums(contraction, mine, theirs, wanted)
    if not isinstance(left[0], Factors):
        return [contraction.rows(left[row], right[column]) for row, column in wanted]
    if not of_single_positions(left[0]):
        return [contraction.pairs(left[row], right[column]) for row, column in wanted]
    together = [contraction.rows(outward(left[row]), outward(right[column])) for row, column in wanted]
    return weighed(contraction, left, right, wanted, together)


def outward(entry: Any) -> jax.Array:
    """The rows of an entry, or the cotangents of a layer that meets one position in each example, (n, k, P)."""
    return entry.came_out[:, :, 0, 0] if isinstance(entry, Factors) else entry


def weighed(
    contraction: Contraction,
    left: list[Any],
    right: list[Any],
    wanted: list[tuple[int, int]],
    together: list[jax.Array],
) -> list[jax.Array]:
    """The Grams of what came out of a layer times those of what went in; rows as they are."""
    if not isinstance(left[0], Factors):
        return together
    return [
        contraction.weigh(inputs_of_single_positions(left[row], right[column]), gram)
        for (row, column), gram in zip(wanted, together, strict=True)
    ]


def block(task: Task, left: Derivatives, right: Derivatives) -> tuple[jax.Array, ...]:
    """The kernel of each group between the examples of two tiles."""
    with jax.default_matmul_precision("highest"):
        grams = [
            _added(
                [entry_sums(task.contraction, [a], [b], [(0, 0)]) for a, b in zip(mine, theirs, strict=True)]
            )
            for mine, theirs in zip(left, right, strict=True)
        ]
        return tuple(task.contraction.finish(gram, task.outputs) for (gram,) in grams)


def symmetric_block(task: Task, tile: Derivatives) -> tuple[jax.Array, ...]:
    """The kernel of each group of a tile with itself: no pair of pieces twice, exactly symmetric."""
    pieces = Pieces.of(task, examples_of(tile))
    grams = []
    with jax.default_matmul_precision("highest"):
        for group in tile:
            cut = [pieces.cut(entry) for entry in group]
            sums = _added([entry_sums(task.contraction, entry, entry, pieces.wanted) for entry in cut])
            grams.append(pieces.joined(task, sums))
    return tuple(grams)


def _added(entries: list[list[jax.Array]]) -> list[jax.Array]:
    return [reduce(jnp.add, blocks) for blocks in zip(*entries, strict=True)]


@dataclass(frozen=True)
class Pieces:
    """A tile's examples in a few pieces, of whose pairs only one half is multiplied.

    Attributes:
        starts: where each begins.
        wanted: pairs of pieces, on and above the diagonal.
    """

    starts: tuple[int, ...]
    wanted: list[tuple[int, int]]

    @classmethod
    def of(cls, task: Task, examples: int) -> "Pieces":
        """Products of matrices with fewer than some hundred rows gain nothing from being cut."""
        rows = task.contraction.matrix_rows(examples, task.outputs)
        count = 8 if rows >= 1024 else 4 if rows >= 128 else 1
        starts = tuple(range(0, examples, -(-examples // count)))
        wanted = [(row, column) for row in range(len(starts)) for column in range(row, len(starts))]
        return cls(starts, wanted)

    def cut(self, entry: Any) -> list[Any]:
        """An entry's pieces."""
        ends = (*self.starts[1:], None)
        return [
            jax.tree_util.tree_map(lambda leaf, part=slice(start, end): leaf[part], entry)
            for start, end in zip(self.starts, ends, strict=True)
        ]

    def joined(self, task: Task, sums: list[jax.Array]) -> jax.Array:
        """The whole block from its upper half, finished."""
        axis, mirror = task.contraction.columns, task.contraction.mirror
        of = dict(zip(self.wanted, sums, strict=True))
        lines = []
        for row in range(len(self.starts)):
            below = [of[column, row].transpose(mirror) for column in range(row)]
            above = [of[row, column] for column in range(row + 1, len(self.starts))]
            own = (of[row, row] + of[row, row].transpose(mirror)) / 2
            lines.append(jnp.concatenate([*below, own, *above], axis=axis))
        return task.contraction.finish(jnp.concatenate(lines, axis=0), task.outputs)


def own_diagonal(task: Task, params: Any, masks: Masks, x: Any) -> jax.Array:
    """The kernel of each example with itself: what the task's contraction makes of one pair, (n, ...)."""
    single = replace(task, chunk=1)

    def of_example(point: Any) -> jax.Array:
        one = jax.tree_util.tree_map(lambda leaf: leaf[None], point)
        tile = tile_derivatives(single, params, masks, one)
        return reduce(jnp.add, block(task, tile, tile))[0, 0]

    return jax.lax.map(of_example, x, batch_size=task.chunk)


compiled_derivatives = jax.jit(tile_derivatives, static_argnums=0)
compiled_block = jax.jit(block, static_argnums=0)
compiled_symmetric_block = jax.jit(symmetric_block, static_argnums=0)
compiled_diagonal = jax.jit(own_diagonal, static_argnums=0)
