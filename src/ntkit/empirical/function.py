"""What is asked of a finite function `f(params, x)`: floating parameters, inputs (n, ...), outputs (n, k)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkit.numerics.dtypes import Array, check_finite

Params = Any
"""A pytree of floating-point arrays."""

Function = Callable[[Params, jax.Array], jax.Array]
"""`f(params, x)`: inputs of shape (n, ...) to outputs of shape (n, k), each row for itself."""


def check_function(who: str, f: Function) -> None:
    """Raise for a function that cannot be hashed: compiled code is kept per function."""
    try:
        hash(f)
    except TypeError:
        raise ValueError(
            f"{who} needs a hashable function f, got {type(f).__name__}. Wrap it: lambda params, x: f(params, x)."
        ) from None


def as_inputs(who: str, x: Array, name: str = "x") -> Array:
    """Check inputs of shape (n, ...), images included: floating, not empty, finite.

    NumPy integers and booleans become float64.

    Raises:
        ValueError: naming `who`, the argument and the remedy.
    """
    if not isinstance(x, jax.Array | np.ndarray):
        raise ValueError(
            f"{who} needs {name} as an array, got {type(x).__name__}. Use numpy.asarray({name})."
        )
    if x.ndim == 0 or 0 in x.shape:
        raise ValueError(
            f"{who} needs {name} of shape (points, ...) with at least one point and one feature, got shape {x.shape}."
        )
    if isinstance(x, np.ndarray) and x.dtype.kind in "iub":
        x = x.astype(np.float64)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(
            f"{who} needs {name} in floating point, got {x.dtype}. Use {name}.astype('float64')."
        )
    check_finite(who, x, name)
    return x


def as_input_pair(who: str, x1: Array, x2: Array | None) -> tuple[Array, Array | None]:
    """Check two sets of inputs against each other: one shape of a point, one dtype."""
    x1 = as_inputs(who, x1, "x1")
    if x2 is None:
        return x1, None
    x2 = as_inputs(who, x2, "x2")
    if x1.shape[1:] != x2.shape[1:]:
        raise ValueError(
            f"{who} needs points of one shape, got {x1.shape[1:]} in x1 and {x2.shape[1:]} in x2."
        )
    if x1.dtype != x2.dtype:
        raise ValueError(
            f"{who} needs x1 and x2 of one dtype, got {x1.dtype} and {x2.dtype}. Convert one with astype."
        )
    return x1, x2


def as_params(who: str, params: Params, dtype: Any) -> Params:
    """The parameters as JAX arrays of `dtype`; call it inside `precision(dtype)` to keep 64 bits.

    Raises:
        ValueError: when there is no parameter, or one that is not floating point (no derivative exists).
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    for path, leaf in leaves:
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise ValueError(
                f"{who} needs floating-point parameters, got {jnp.result_type(leaf)} at "
                f"params{jax.tree_util.keystr(path)}. Keep what is not trained out of params, in f's closure."
            )
    if sum(np.size(leaf) for _, leaf in leaves) == 0:
        raise ValueError(
            f"{who} needs at least one parameter, got {params!r}. Pass the pytree that f takes first."
        )
    return jax.tree_util.tree_map(lambda leaf: jnp.asarray(leaf, dtype=dtype), params)


def count_outputs(who: str, f: Function, params: Params, x: Array) -> int:
    """The number of outputs k of `f`, found without computing anything.

    Raises:
        ValueError: when two points in are not a floating (2, k) array out.
    """
    two_points = jax.ShapeDtypeStruct((2, *x.shape[1:]), x.dtype)
    outputs = jax.eval_shape(f, params, two_points)
    if not isinstance(outputs, jax.ShapeDtypeStruct):
        raise ValueError(f"{who} needs f(params, x) to return one array, got {type(outputs).__name__}.")
    if outputs.ndim != 2 or outputs.shape[0] != 2 or outputs.shape[1] == 0:
        raise ValueError(
            f"{who} needs f(params, x) of shape (points, outputs), got {outputs.shape} for 2 points. "
            "A single output is returned as f[:, None]; further axes are flattened into outputs."
        )
    if not jnp.issubdtype(outputs.dtype, jnp.floating):
        raise ValueError(f"{who} needs f(params, x) in floating point, got {outputs.dtype}.")
    return outputs.shape[1]
