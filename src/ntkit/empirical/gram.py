"""From tiles to the kernel: in one program when everything fits the plan's memory, else row by row of tiles."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkit.empirical.blocks import (
    Groups,
    block,
    compiled_block,
    compiled_cross_gram,
    compiled_derivatives,
    compiled_own_gram,
    compiled_symmetric_block,
    tile_derivatives,
)
from ntkit.empirical.by_products import by_products, compiled_by_products
from ntkit.empirical.contraction import Contraction
from ntkit.empirical.plan import Plan
from ntkit.engines.plan import physical_memory, tracked

Masks = dict[int, jax.Array]


def concrete_grams(
    f: Callable[[Any, Any], Any],
    groups: Groups,
    plan: Plan,
    contraction: Contraction,
    params: Any,
    masks: Masks,
    x1: Any,
    x2: Any,
) -> list[np.ndarray]:
    """The kernel of each group between numbers, as NumPy.

    Raises:
        MemoryError: when the result is larger than the machine's memory.
    """
    _check_result(plan, contraction, len(groups))
    if plan.method == "products":
        grams = compiled_by_products(f, groups, contraction, plan.limit, params, masks, x1, x2)
        return [np.array(gram) for gram in grams]
    if plan.symmetric and plan.rows >= plan.n:
        grams = compiled_own_gram(f, groups, plan.chunk, contraction, params, masks, x1)
        return [np.array(gram) for gram in grams]
    if not plan.symmetric and plan.rows >= plan.n and plan.columns >= plan.m:
        grams = compiled_cross_gram(f, groups, plan.chunk, contraction, params, masks, x1, x2)
        return [np.array(gram) for gram in grams]
    return _by_tiles(f, groups, plan, contraction, params, masks, x1, x1 if x2 is None else x2)


def _by_tiles(
    f: Callable[[Any, Any], Any],
    groups: Groups,
    plan: Plan,
    contraction: Contraction,
    params: Any,
    masks: Masks,
    x1: Any,
    x2: Any,
) -> list[np.ndarray]:
    """Derivatives of a tile of rows are kept while tiles of columns pass, of a symmetric kernel those to the right."""
    of = partial(compiled_derivatives, f, groups, plan.chunk, params, masks)
    results: list[np.ndarray] = []

    def write(blocks: tuple[jax.Array, ...], top: int, left: int) -> None:
        for group, values in enumerate(blocks):
            values = np.asarray(values)
            if len(results) <= group:
                results.append(np.empty((plan.n, plan.m, *values.shape[2:]), values.dtype))
            height, width = min(values.shape[0], plan.n - top), min(values.shape[1], plan.m - left)
            values = values[:height, :width]
            results[group][top : top + height, left : left + width] = values
            if plan.symmetric and left > top:
                mirrored = values.transpose(contraction.axes)
                results[group][left : left + width, top : top + height] = mirrored

    for top, lefts in tracked(_tiles(plan), -(-plan.n // plan.rows), "tangent kernel"):
        row = of(_cut(x1, top, plan.rows))
        if plan.symmetric:
            write(compiled_symmetric_block(contraction, row), top, top)
        for left in lefts:
            write(compiled_block(contraction, row, of(_cut(x2, left, plan.columns))), top, left)
    return results


def _tiles(plan: Plan) -> list[tuple[int, range]]:
    """For every tile of rows, where it and its tiles of columns begin."""
    return [
        (top, range(top + plan.rows if plan.symmetric else 0, plan.m, plan.columns))
        for top in range(0, plan.n, plan.rows)
    ]


def _cut(x: Any, start: int, size: int) -> Any:
    """`size` examples from `start`, the last one repeated where there are fewer: one shape, one compiled program."""

    def cut(leaf: jax.Array) -> jax.Array:
        part = leaf[start : start + size]
        if part.shape[0] == size:
            return part
        return jnp.concatenate([part, jnp.repeat(part[-1:], size - part.shape[0], axis=0)])

    return jax.tree_util.tree_map(cut, x)


def traced_grams(
    f: Callable[[Any, Any], Any],
    groups: Groups,
    plan: Plan,
    contraction: Contraction,
    params: Any,
    masks: Masks,
    x1: Any,
    x2: Any,
) -> tuple[jax.Array, ...]:
    """The same under a JAX transformation: one block when it fits, else a sequential map over tiles."""
    if plan.method == "products":
        return by_products(f, groups, contraction, plan.limit, params, masks, x1, x2)
    of = partial(tile_derivatives, f, groups, plan.chunk, params, masks)
    right = x1 if x2 is None else x2
    if plan.rows >= plan.n and plan.columns >= plan.m:
        left = of(x1)
        grams = block(contraction, left, left if x2 is None else of(x2))
    else:

        def line(point: Any) -> tuple[jax.Array, ...]:
            row = of(jax.tree_util.tree_map(lambda leaf: leaf[None], point))

            def entry(other: Any) -> tuple[jax.Array, ...]:
                column = of(jax.tree_util.tree_map(lambda leaf: leaf[None], other))
                return tuple(gram[0, 0] for gram in block(contraction, row, column))

            return jax.lax.map(entry, right, batch_size=plan.columns)

        grams = jax.lax.map(line, x1, batch_size=plan.rows)
    if x2 is None:
        return tuple((gram + gram.transpose(contraction.axes)) / 2 for gram in grams)
    return grams


def _check_result(plan: Plan, contraction: Contraction, groups: int) -> None:
    needed = plan.n * plan.m * contraction.entries(plan.outputs) * plan.itemsize * groups
    available = physical_memory()
    if available is not None and needed > available:
        raise MemoryError(
            f"A tangent kernel of {plan.n} x {plan.m} points and {plan.outputs} outputs needs "
            f"{needed / 2**30:.1f} GiB, got a machine with {available / 2**30:.1f} GiB. "
            "Use fewer points, the traced kernel, float32 inputs, or NTKOperator, which never forms it."
        )
