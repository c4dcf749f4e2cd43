"""Precision policy: NumPy in, NumPy out in the same dtype; JAX in, JAX out; no global switches.

`evaluate` runs a pure JAX function at the precision of its NumPy inputs inside a *local* x64
context, so that float64 stays float64 whatever the user's JAX configuration.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import numpy as np

Array = jax.Array | np.ndarray
"""An array of either library; what goes in decides what comes out."""


def is_concrete(tree: Any) -> bool:
    """Whether every array in `tree` holds numbers now (is not a value traced by jit, grad or vmap)."""
    for leaf in jax.tree_util.tree_leaves(tree):
        if isinstance(leaf, jax.Array):
            try:
                leaf.devices()
            except jax.errors.ConcretizationTypeError:
                return False
    return True


def is_numpy(*trees: Any) -> bool:
    """Whether none of the arrays, or of a pytree's arrays, is a JAX array, so that the answer is due as NumPy."""
    return not any(isinstance(leaf, jax.Array) for leaf in jax.tree_util.tree_leaves(trees))


def precision(dtype: Any):
    """A local context in which JAX keeps `dtype`: 64-bit for float64, the user's setting otherwise."""
    return jax.enable_x64(True) if np.dtype(dtype) == np.float64 else nullcontext()


_probe = jax.jit(lambda: False)


def at_once() -> AbstractContextManager[None]:
    """Where operations on numbers are carried out now, also inside a function that JAX is tracing.

    Elsewhere it does nothing: inside `jax.ensure_compile_time_eval` every operation on constants of a function being
    compiled is compiled by itself, at tens of milliseconds each.
    """
    return nullcontext() if is_concrete(_probe()) else jax.ensure_compile_time_eval()


def to_jax(tree: Any, dtype: Any = None) -> Any:
    """Every array of a tree as a JAX array, those of NumPy in `dtype` where it is given.

    NumPy arrays are copied: of one that a jitted function closed over in 32 bits, JAX 0.9.2 otherwise hands out that
    buffer again inside a 64-bit context, labelled float64. NumPy makes the copy; JAX would compile one for each shape.
    """
    return jax.tree_util.tree_map(
        lambda leaf: leaf if isinstance(leaf, jax.Array) else jax.device_put(np.array(leaf, dtype)), tree
    )


def evaluate(function: Callable[..., Any], *arrays: Array) -> Any:
    """Call a pure JAX function with the arrays' own precision; NumPy in gives writable NumPy out, also under `jit`."""
    if not is_numpy(*arrays):
        return function(*arrays)
    with precision(np.result_type(*arrays)), at_once():
        result = function(*to_jax(arrays))
        return jax.tree_util.tree_map(np.array, result)


def as_points(who: str, x: Any, name: str = "x") -> Array:
    """Check a set of inputs, shape (n, d): floating, two-dimensional, not empty, finite.

    NumPy integers and booleans become float64. Values traced by JAX cannot be checked for finiteness.

    Raises:
        ValueError: naming `who`, the argument and the remedy.
    """
    _check_array(who, x, name)
    if x.ndim != 2:
        raise ValueError(
            f"{who} needs {name} of shape (points, features), got shape {x.shape}. Use {name}.reshape(len({name}), -1)."
        )
    return _as_floats(who, x, name)


def as_inputs(who: str, x: Any, name: str = "x") -> Array:
    """`as_points` for the inputs of a network: vectors, shape (n, d), or images, shape (n, *S, c), S of 1 to 3 axes.

    Raises:
        ValueError: naming `who`, the argument and the remedy.
    """
    _check_array(who, x, name)
    if not 2 <= x.ndim <= 5:
        raise ValueError(
            f"{who} needs {name} of shape (points, features), or (images, *pixels, channels) with one to three axes of "
            f"pixels, got shape {x.shape}. Use {name}.reshape(len({name}), -1) for vectors."
        )
    return _as_floats(who, x, name)


def _check_array(who: str, x: Any, name: str) -> None:
    if not isinstance(x, jax.Array | np.ndarray):
        raise ValueError(
            f"{who} needs {name} as an array, got {type(x).__name__}. Use numpy.asarray({name})."
        )


def _as_floats(who: str, x: Array, name: str) -> Array:
    if 0 in x.shape:
        raise ValueError(f"{who} needs {name} with at least one point and one feature, got shape {x.shape}.")
    if isinstance(x, np.ndarray) and x.dtype.kind in "iub":
        x = x.astype(np.float64)
    if x.dtype not in (np.float32, np.float64):
        raise ValueError(
            f"{who} needs {name} in float32 or float64, got {x.dtype}. Use {name}.astype('float64')."
        )
    check_finite(who, x, name)
    return x


def check_finite(who: str, x: Array, name: str) -> None:
    """Raise when a concrete array holds a NaN or an infinity, and say where the first one is."""
    if not is_concrete(x):
        return
    finite = np.isfinite(np.asarray(x))
    if not finite.all():
        where = tuple(int(index) for index in np.argwhere(~finite)[0])
        raise ValueError(
            f"{who} needs finite values, got {np.asarray(x)[where]} at {name}{list(where)}. "
            "Drop or impute missing values first."
        )


def as_point_pair(who: str, x1: Any, x2: Any) -> tuple[Array, Array | None]:
    """Check two sets of points against each other: same features, same dtype, same array library."""
    return _as_pair(who, as_points(who, x1, "x1"), None if x2 is None else as_points(who, x2, "x2"))


def as_input_pair(who: str, x1: Any, x2: Any) -> tuple[Array, Array | None]:
    """`as_point_pair` for the inputs of a network, vectors or images."""
    return _as_pair(who, as_inputs(who, x1, "x1"), None if x2 is None else as_inputs(who, x2, "x2"))


def _as_pair(who: str, x1: Array, x2: Array | None) -> tuple[Array, Array | None]:
    if x2 is None:
        return x1, None
    if x1.ndim > 2 and x1.shape[1:] != x2.shape[1:]:
        raise ValueError(
            f"{who} needs x1 and x2 of images of one size, got {x1.shape[1:]} and {x2.shape[1:]}."
        )
    if x1.shape[1:] != x2.shape[1:]:
        raise ValueError(
            f"{who} needs x1 and x2 with equally many features, got {x1.shape[1]} and {x2.shape[1]}."
        )
    if x1.dtype != x2.dtype:
        raise ValueError(
            f"{who} needs x1 and x2 of one dtype, got {x1.dtype} and {x2.dtype}. Convert one with astype."
        )
    return x1, x2


def as_targets(who: str, y: Any, points: int) -> Array:
    """Check targets, shape (points, outputs), finite and floating.

    Raises:
        ValueError: naming `who`, the argument and the remedy.
    """
    if not isinstance(y, jax.Array | np.ndarray) or y.ndim != 2:
        shape = getattr(y, "shape", type(y).__name__)
        raise ValueError(
            f"{who} needs y of shape (points, outputs), got {shape}. A vector y goes in as y[:, None]."
        )
    if y.shape[0] != points or y.shape[1] == 0:
        raise ValueError(f"{who} needs one row of y per point: x has {points}, y has shape {y.shape}.")
    if isinstance(y, np.ndarray) and y.dtype.kind in "iub":
        y = y.astype(np.float64)
    check_finite(who, y, "y")
    return y
