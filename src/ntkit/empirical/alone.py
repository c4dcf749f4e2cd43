"""Whether a function treats each of its points alone; one that mixes them has no kernel between two points."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkit.numerics.dtypes import Array, to_jax


@partial(jax.jit, static_argnums=0)
def _together_and_alone(f: Callable[[Any, Any], Any], params: Any, two: Any) -> tuple[list, list]:
    each = [jax.tree_util.tree_map(lambda leaf, i=i: leaf[i : i + 1], two) for i in (0, 1)]
    with jax.default_matmul_precision("highest"):
        together = jax.tree_util.tree_leaves(f(params, two))
        alone = [jax.tree_util.tree_leaves(f(params, one)) for one in each]
    return (
        [output[i : i + 1] for i in (0, 1) for output in together],
        [output for outputs in alone for output in outputs],
    )


def check_examples_alone(who: str, f: Callable[[Any, Any], Any], params: Any, x: Any) -> None:
    """Compare the outputs of two points beside each other with their outputs alone.

    Raises:
        ValueError: when they differ by more than rounding in another order can explain.
    """

    def two_of(leaf: Array) -> jax.Array:
        # In NumPy: JAX would compile each of these steps for every shape.
        first, last = np.asarray(leaf[:1]), np.asarray(leaf[-1:])
        return to_jax(np.concatenate([first, last if leaf.shape[0] > 1 else np.zeros_like(first)]))

    together, alone = _together_and_alone(f, params, jax.tree_util.tree_map(two_of, x))
    for a, b in zip(map(np.asarray, together), map(np.asarray, alone), strict=True):
        scale = float(np.max(np.abs(b)))
        difference = float(np.max(np.abs(a - b)))
        # Rounding in another order errs by some thousand roundings at the most; statistics of a batch by parts of one.
        if difference > 1e4 * float(jnp.finfo(b.dtype).eps) * scale or (
            np.isnan(difference) and np.isfinite(scale)
        ):
            raise ValueError(
                f"{who} needs f to treat each point alone, got outputs of a point that change by "
                f"{difference / scale if scale else difference:.1e} (relative) when another point is beside it. Batch "
                "normalisation and dropout in training mode do that: there is no kernel between two points then. "
                "Use evaluation mode (stored statistics, no dropout)."
            )
