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
from ntkit.numerics.points import number_of_points

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


CHAINS = 2
"""How many sums of gradients formed in parts run side by side: all at once, each takes the memory of its parts.

Summed over outputs all do, since their matrices are small: one or two alone leave cores idle.
"""

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
        if task.chunk >= number_of_points(x):
            return jax.vmap(of_example)(x)
        return jax.lax.map(of_example, x, batch_size=task.chunk)


def _sums(
    contraction: Contraction, entries: list[tuple[Any, Any]], pieces: "Pieces | None"
) -> list[jax.Array]:
    """The blocks of the wanted pairs of pieces, summed over all entries, each a left and a right one.

    With pieces the right ones are the left ones themselves; without, there is one block.
    """
    wanted = [(0, 0)] if pieces is None else pieces.wanted
    spans = None if pieces is None else pieces.spans
    chains = len(entries) if contraction.sums_outputs else CHAINS
    sums: list[list[jax.Array] | None] = [None] * chains
    held: list[list[jax.Array]] = []
    turn = 0
    for left, right in entries:
        if isinstance(left, Deferred):
            mine = left.factors
            theirs = mine if right is left else right.factors
            sums[turn] = formed_sums(contraction, mine, theirs, spans, wanted, sums[turn])
            turn = (turn + 1) % chains
            continue
        cut = [left] if pieces is None else pieces.cut(left)
        others = [right] if pieces is None else cut
        if not isinstance(left, Factors):
            held.append([contraction.rows(cut[row], others[column]) for row, column in wanted])
        elif not of_single_positions(left):
            held.append([contraction.pairs(cut[row], others[column]) for row, column in wanted])
        else:
            together = [
                contraction.rows(outward(cut[row]), outward(others[column])) for row, column in wanted
            ]
            held.append(weighed(contraction, cut, others, wanted, together))
    blocks = [*(total for total in sums if total is not None), *held]
    return [reduce(jnp.add, of_pair) for of_pair in zip(*blocks, strict=True)]


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
    grams = []
    with jax.default_matmul_precision("highest"):
        for mine, theirs in zip(left, right, strict=True):
            entries = list(zip(mine, theirs, strict=True))
            (gram,) = _sums(task.contraction, entries, None)
            grams.append(task.contraction.finish(gram, task.outputs))
    return tuple(grams)


def symmetric_block(task: Task, tile: Derivatives) -> tuple[jax.Array, ...]:
    """The kernel of each group of a tile with itself: no pair of pieces twice, exactly symmetric."""
    pieces = Pieces.of(task, number_of_points(tile))
    grams = []
    with jax.default_matmul_precision("highest"):
        for group in tile:
            entries = [(entry, entry) for entry in group]
            grams.append(pieces.joined(task, _sums(task.contraction, entries, pieces)))
    return tuple(grams)


@dataclass(frozen=True)
class Pieces:
    """A tile's examples in a few pieces, of whose pairs only one half is multiplied.

    Attributes:
        spans: where each begins and ends.
        wanted: pairs of pieces, on and above the diagonal.
    """

    spans: list[tuple[int, int]]
    wanted: list[tuple[int, int]]

    @classmethod
    def of(cls, task: Task, examples: int) -> "Pieces":
        """Products of matrices with fewer than some hundred rows gain nothing from being cut."""
        rows = task.contraction.matrix_rows(examples, task.outputs)
        count = 8 if rows >= 1024 else 4 if rows >= 128 else 1
        size = -(-examples // count)
        spans = [(start, min(start + size, examples)) for start in range(0, examples, size)]
        wanted = [(row, column) for row in range(len(spans)) for column in range(row, len(spans))]
        return cls(spans, wanted)

    def cut(self, entry: Any) -> list[Any]:
        """An entry's pieces."""
        return [
            jax.tree_util.tree_map(lambda leaf, part=slice(*span): leaf[part], entry) for span in self.spans
        ]

    def joined(self, task: Task, sums: list[jax.Array]) -> jax.Array:
        """The whole block from its upper half, finished."""
        axis, mirror = task.contraction.columns, task.contraction.mirror
        of = dict(zip(self.wanted, sums, strict=True))
        lines = []
        for row in range(len(self.spans)):
            below = [of[column, row].transpose(mirror) for column in range(row)]
            above = [of[row, column] for column in range(row + 1, len(self.spans))]
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
