"""The tangent kernel with no derivative kept: products with the Jacobian and its transpose, column by column."""

from typing import Any

import jax
import jax.numpy as jnp

from ntkit.empirical.blocks import Masks, Task
from ntkit.empirical.contraction import PerOutput, Traced
from ntkit.empirical.products import full_by_products, traced_by_products


def by_products(
    task: Task, memory_limit: int, params: Any, masks: Masks, x1: Any, x2: Any
) -> tuple[jax.Array, ...]:
    """The kernel of each group of leaves; see `products` for its cost."""
    leaves, structure = jax.tree_util.tree_flatten(params)
    right = x1 if x2 is None else x2
    grams = []
    for group in task.groups:
        numbers = [number for number, _ in group]

        def moved(chosen: list[jax.Array], x: Any, numbers: list[int] = numbers) -> jax.Array:
            current = list(leaves)
            for number, leaf in zip(numbers, chosen, strict=True):
                fixed = jax.lax.stop_gradient(leaf)
                current[number] = jnp.where(masks[number], leaf, fixed) if number in masks else leaf
            outputs = jax.tree_util.tree_leaves(task.f(jax.tree_util.tree_unflatten(structure, current), x))
            return jnp.concatenate([output.reshape(output.shape[0], -1) for output in outputs], axis=1)

        parts = (moved, [leaves[number] for number in numbers], x1, right, memory_limit)
        if isinstance(task.contraction, Traced):
            gram = traced_by_products(*parts)
        else:
            gram = full_by_products(*parts)
            gram = jnp.einsum("nmoo->nmo", gram) if isinstance(task.contraction, PerOutput) else gram
        grams.append((gram + gram.transpose(task.contraction.axes)) / 2 if x2 is None else gram)
    return tuple(grams)


compiled_by_products = jax.jit(by_products, static_argnums=(0, 1))
