"""The working precision of linear algebra: float64 NumPy for numbers, JAX for traced values.

Everything downstream of a Gram matrix is written once, in operators that both libraries share.
`working` chooses the library before a formula, `like` returns the result as the caller's arrays were.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkit.numerics.dtypes import Array, is_concrete, precision


def on_host(array: Any) -> np.ndarray:
    """A concrete array as float64 NumPy; no copy when it is that already."""
    return np.asarray(array, dtype=np.float64)


def working(*arrays: Any) -> tuple[Any, ...]:
    """All arrays as float64 NumPy; if one of them is traced, all as JAX arrays of its dtype."""
    traced = [array for array in arrays if not is_concrete(array)]
    if not traced:
        return tuple(on_host(array) for array in arrays)
    dtype = jnp.result_type(*traced)
    return tuple(jnp.asarray(array, dtype) for array in arrays)


def like(value: Any, template: Array) -> Any:
    """`value` in the array library and dtype of `template`; traced values stay JAX arrays."""
    if isinstance(template, jax.Array) or not is_concrete(value):
        with precision(template.dtype):
            return jnp.asarray(value, template.dtype)
    return np.asarray(value, dtype=template.dtype)
