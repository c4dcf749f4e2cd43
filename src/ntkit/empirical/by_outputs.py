"""A kernel summed over groups of outputs: cotangents of all outputs are never held together.

Layers that meet one position in each example need of the outputs only the Gram of their cotangents, so what is held at
a time is a few numbers an example, which stay in cache.
"""

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

from ntkit.empirical.blocks import (
    Masks,
    Pieces,
    Task,
    outward,
    tile_derivatives,
    weighed,
)
from ntkit.numerics.points import number_of_points


def traced_by_outputs(task: Task, params: Any, masks: Masks, x1: Any, x2: Any) -> tuple[jax.Array, ...]:
    """The kernel of each group between two sets of examples, or of one with itself where x2 is None."""
    pieces = Pieces.of(task, number_of_points(x1)) if x2 is None else None
    wanted = [(0, 0)] if pieces is None else pieces.wanted
    at_once = task.outputs_at_once or task.outputs
    steps = -(-task.outputs // at_once)
    # Rows of zeros beyond the last output add nothing.
    seeds = jnp.eye(steps * at_once, task.outputs).reshape(steps, at_once, task.outputs)

    def entries(seeds: jax.Array) -> list[list[tuple[list[Any], list[Any]]]]:
        """For each group its entries, each in pieces of the left and of the right."""
        left = tile_derivatives(task, params, masks, x1, seeds)
        if pieces is not None:
            cut = [[pieces.cut(entry) for entry in group] for group in left]
            return [[(entry, entry) for entry in group] for group in cut]
        right = tile_derivatives(task, params, masks, x2, seeds)
        return [
            [([a], [b]) for a, b in zip(mine, theirs, strict=True)]
            for mine, theirs in zip(left, right, strict=True)
        ]

    def together(seeds: jax.Array) -> list[list[list[jax.Array]]]:
        return [
            [
                [task.contraction.rows(outward(a[row]), outward(b[column])) for row, column in wanted]
                for a, b in group
            ]
            for group in entries(seeds)
        ]

    def add(total: Any, seeds: jax.Array) -> tuple[Any, None]:
        return jax.tree_util.tree_map(jnp.add, total, together(seeds)), None

    with jax.default_matmul_precision("highest"):
        zeros = jax.tree_util.tree_map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(together, seeds[0])
        )
        summed, _ = jax.lax.scan(add, zeros, seeds)
        grams = []
        # What went into the layers is the same for every output; the cotangents made beside it are dropped.
        for group, totals in zip(entries(seeds[0, :1]), summed, strict=True):
            weighted = [
                weighed(task.contraction, a, b, wanted, total)
                for (a, b), total in zip(group, totals, strict=True)
            ]
            sums = [reduce(jnp.add, blocks) for blocks in zip(*weighted, strict=True)]
            finished = (
                task.contraction.finish(sums[0], task.outputs)
                if pieces is None
                else pieces.joined(task, sums)
            )
            grams.append(finished)
        return tuple(grams)
