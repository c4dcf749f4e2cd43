"""From tiles to the kernel: in one program when everything fits the plan's memory, else row by row of tiles."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkit.empirical.blocks import (
    Masks,
    Task,
    block,
    compiled_block,
    compiled_derivatives,
    compiled_symmetric_block,
    symmetric_block,
    tile_derivatives,
)
from ntkit.empirical.by_outputs import traced_by_outputs
from ntkit.empirical.by_products import by_products, compiled_by_products
from ntkit.empirical.plan import Plan
from ntkit.engines.plan import check_result, tracked


def concrete_grams(task: Task, plan: Plan, params: Any, masks: Masks, x1: Any, x2: Any) -> list[np.ndarray]:
    """The kernel of each group between numbers, as NumPy.

    Raises:
        MemoryError: when the result is larger than the machine's memory.
    """
    check_result(
        f"A tangent kernel of {plan.n} x {plan.m} points and {plan.outputs} outputs",
        plan.n * plan.m * plan.entries * plan.itemsize,
        "Use fewer points, the traced kernel, float32 inputs, or NTKOperator, which never forms it.",
    )
    if plan.method == "products":
        return [np.array(gram) for gram in compiled_by_products(task, plan.limit, params, masks, x1, x2)]
    if not plan.whole:
        return _by_tiles(task, plan, params, masks, x1, x1 if x2 is None else x2)
    return [np.array(gram) for gram in _compiled_whole(task, params, masks, x1, x2)]


def _whole(task: Task, params: Any, masks: Masks, x1: Any, x2: Any) -> tuple[jax.Array, ...]:
    """The kernel of each group when all derivatives fit the memory."""
    if task.outputs_at_once is not None:
        return traced_by_outputs(task, params, masks, x1, x2)
    left = tile_derivatives(task, params, masks, x1)
    if x2 is None:
        return symmetric_block(task, left)
    return block(task, left, tile_derivatives(task, params, masks, x2))


_compiled_whole = jax.jit(_whole, static_argnums=0)


def _by_tiles(task: Task, plan: Plan, params: Any, masks: Masks, x1: Any, x2: Any) -> list[np.ndarray]:
    """Derivatives of a tile of rows are kept while tiles of columns pass; of a symmetric kernel the last one stays."""
    of = partial(compiled_derivatives, task, params, masks)
    results: list[np.ndarray] = []

    def write(blocks: tuple[jax.Array, ...], top: int, left: int) -> None:
        for group, values in enumerate(blocks):
            values = np.asarray(values)
            if len(results) <= group:
                results.append(np.empty((plan.n, plan.m, *values.shape[2:]), values.dtype))
            height, width = min(values.shape[0], plan.n - top), min(values.shape[1], plan.m - left)
            values = values[:height, :width]
            results[group][top : top + height, left : left + width] = values
            if plan.symmetric and left != top:
                mirrored = values.transpose(task.contraction.axes)
                results[group][left : left + width, top : top + height] = mirrored

    row = None
    for top, lefts in tracked(_tiles(plan), -(-plan.n // plan.rows), "tangent kernel"):
        if row is None:
            row = of(_cut(x1, top, plan.rows))
        if plan.symmetric:
            write(compiled_symmetric_block(task, row), top, top)
        column = None
        for left in lefts:
            column = None  # lets go of the tile before, or there were three
            column = of(_cut(x2, left, plan.columns))
            write(compiled_block(task, row, column), top, left)
        row = column if plan.symmetric else None
    return results


def _tiles(plan: Plan) -> list[tuple[int, range]]:
    """For every tile of rows, where it and its tiles of columns begin.

    Of a symmetric kernel no pair twice, and after the first one each tile of rows is the last one of columns before.
    """
    if not plan.symmetric:
        return [(top, range(0, plan.m, plan.columns)) for top in range(0, plan.n, plan.rows)]
    tops = range(0, plan.n, plan.rows)
    return [(0, tops[1:]), *((top, range(plan.rows, top, plan.rows)) for top in reversed(tops[1:]))]


def _cut(x: Any, start: int, size: int) -> Any:
    """`size` examples from `start`, the last one repeated where there are fewer: one shape, one compiled program."""

    def cut(leaf: jax.Array) -> jax.Array:
        part = leaf[start : start + size]
        if part.shape[0] == size:
            return part
        return jnp.concatenate([part, jnp.repeat(part[-1:], size - part.shape[0], axis=0)])

    return jax.tree_util.tree_map(cut, x)


def traced_grams(
    task: Task, plan: Plan, params: Any, masks: Masks, x1: Any, x2: Any
) -> tuple[jax.Array, ...]:
    """The same under a JAX transformation: one block when it fits, else a sequential map over tiles."""
    if plan.method == "products":
        return by_products(task, plan.limit, params, masks, x1, x2)
    if plan.whole:
        return _whole(task, params, masks, x1, x2)
    of = partial(tile_derivatives, task, params, masks)
    right = x1 if x2 is None else x2

    def line(point: Any) -> tuple[jax.Array, ...]:
        row = of(jax.tree_util.tree_map(lambda leaf: leaf[None], point))

        def entry(other: Any) -> tuple[jax.Array, ...]:
            column = of(jax.tree_util.tree_map(lambda leaf: leaf[None], other))
            return tuple(gram[0, 0] for gram in block(task, row, column))

        return jax.lax.map(entry, right, batch_size=plan.columns)

    grams = jax.lax.map(line, x1, batch_size=plan.rows)
    if x2 is None:
        return tuple((gram + gram.transpose(task.contraction.axes)) / 2 for gram in grams)
    return grams
