"""What is asked of a finite function `f(params, x)`: floating parameters, and points along a first axis."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkit.numerics.dtypes import check_finite, to_jax

Params = Any
"""A pytree of floating-point arrays."""

Function = Callable[[Params, Any], Any]
"""`f(params, x)`: inputs of shape (n, ...), or a pytree of such arrays, to outputs (n, k), each row for itself."""

FLOATING = frozenset(np.dtype(kind) for kind in (np.float16, np.float32, np.float64))
"""The dtypes of most parameters, told apart at once; `jnp.issubdtype` knows the others."""


def check_function(who: str, f: Function) -> None:
    """Raise for a function that cannot be hashed: compiled code is kept per function."""
    try:
        hash(f)
    except TypeError:
        raise ValueError(
            f"{who} needs a hashable function f, got {type(f).__name__}. Wrap it: lambda params, x: f(params, x)."
        ) from None


def as_examples(who: str, x: Any, name: str = "x") -> int:
    """Check a pytree of arrays that share their first axis, one entry of it an example; returns their number.

    Floating arrays must be finite; integers (tokens) and booleans (masks) are handed to f as they are.

    Raises:
        ValueError: naming `who`, the argument and the remedy.
    """
    leaves = jax.tree_util.tree_leaves_with_path(x)
    for path, leaf in leaves:
        here = name + jax.tree_util.keystr(path)
        if not isinstance(leaf, jax.Array | np.ndarray):
            raise ValueError(
                f"{who} needs {here} as an array, got {type(leaf).__name__}. Use numpy.asarray({here})."
            )
        if leaf.ndim == 0 or 0 in leaf.shape:
            raise ValueError(
                f"{who} needs {here} of shape (points, ...) with at least one point and one feature, "
                f"got shape {leaf.shape}."
            )
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            check_finite(who, leaf, here)
        elif leaf.dtype.kind not in "iub":
            raise ValueError(
                f"{who} needs {here} of floating-point numbers, integers or booleans, got {leaf.dtype}. "
                f"Use {here}.astype('float64')."
            )
    lengths = {leaf.shape[0] for _, leaf in leaves}
    if len(lengths) != 1:
        raise ValueError(
            f"{who} needs {name} as an array, or arrays with one first axis (the points), "
            f"got lengths {sorted(lengths)}."
        )
    return lengths.pop()


def as_example_pair(who: str, x1: Any, x2: Any) -> tuple[int, int]:
    """Check two sets of examples against each other, one shape and dtype of an example; returns their numbers."""
    n = as_examples(who, x1, "x1")
    if x2 is None:
        return n, n
    m = as_examples(who, x2, "x2")
    if jax.tree_util.tree_structure(x1) != jax.tree_util.tree_structure(x2):
        raise ValueError(f"{who} needs x1 and x2 of one structure, got {_shapes(x1)} and {_shapes(x2)}.")
    for left, right in zip(jax.tree_util.tree_leaves(x1), jax.tree_util.tree_leaves(x2), strict=True):
        if left.shape[1:] != right.shape[1:]:
            raise ValueError(
                f"{who} needs points of one shape, got {left.shape[1:]} in x1 and {right.shape[1:]} in x2."
            )
        if left.dtype != right.dtype:
            raise ValueError(
                f"{who} needs x1 and x2 of one dtype, got {left.dtype} and {right.dtype}. Convert one with astype."
            )
    return n, m


def _shapes(x: Any) -> Any:
    return jax.tree_util.tree_map(lambda leaf: leaf.shape, x)


def working_dtype(params: Params, x: Any) -> np.dtype:
    """The precision of a derivative: that of the inputs' floating arrays; where there are none, the parameters'."""
    for tree in (x, params):
        # NumPy's own dtypes: JAX would round float64 down to its current setting.
        kinds = [
            np.asarray(leaf).dtype if np.isscalar(leaf) else leaf.dtype
            for leaf in jax.tree_util.tree_leaves(tree)
        ]
        floating = [kind for kind in kinds if jnp.issubdtype(kind, jnp.floating)]
        if floating:
            return np.result_type(*floating)
    raise ValueError("A derivative needs floating-point parameters.")


def in_precision(x: Any, dtype: Any) -> Any:
    """Examples as JAX arrays, the floating ones in `dtype`; integers and booleans stay what they are."""
    return jax.tree_util.tree_map(
        lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, to_jax(x)
    )


def as_params(who: str, params: Params, dtype: Any) -> Params:
    """The parameters as JAX arrays of `dtype`; call it inside `precision(dtype)` to keep 64 bits.

    Raises:
        ValueError: when there is no parameter, or one that is not floating point (no derivative exists).
    """
    dtype = jax.dtypes.canonicalize_dtype(dtype)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    for path, leaf in leaves:
        # JAX takes microseconds to tell a type, for every leaf of every call.
        given = leaf.dtype if isinstance(leaf, jax.Array | np.ndarray) else jnp.result_type(leaf)
        if given not in FLOATING and not jnp.issubdtype(given, jnp.floating):
            raise ValueError(
                f"{who} needs floating-point parameters, got {jnp.result_type(leaf)} at "
                f"params{jax.tree_util.keystr(path)}. Keep what is not trained out of params, in f's closure."
            )
    if sum(np.size(leaf) for _, leaf in leaves) == 0:
        raise ValueError(
            f"{who} needs at least one parameter, got {params!r}. Pass the pytree that f takes first."
        )
    return jax.tree_util.tree_map(lambda leaf: _as_array(leaf, dtype), params)


def _as_array(leaf: Any, dtype: Any) -> jax.Array:
    """A conversion that does nothing still takes JAX tens of microseconds, for every leaf of every call."""
    if not isinstance(leaf, jax.Array):
        return to_jax(leaf, dtype)
    return leaf if leaf.dtype == dtype else jnp.array(leaf, dtype=dtype)


@contextmanager
def reverse_derivatives(who: str, remedy: str) -> Iterator[None]:
    """Where reverse-mode derivatives of f are taken: JAX's refusal names neither the argument nor the way out.

    Raises:
        ValueError: for a function with a loop of unknown length.
    """
    try:
        yield
    except ValueError as error:
        # JAX alone sees the loops inside of other loops; it has no class of its own for this error.
        if "Reverse-mode differentiation does not work" not in str(error):
            raise
        raise ValueError(
            f"{who} needs f with reverse-mode derivatives, got a loop of unknown length (lax.while_loop, or fori_loop "
            f"with traced bounds). Use lax.scan or fori_loop with static bounds, or {remedy}."
        ) from error


def one_example(f: Callable[[Params, Any], Any]) -> Callable[[Params, Any], jax.Array]:
    """The function of a single example, its outputs (arrays of any shape, in any pytree) joined to a vector (k,)."""

    def single(params: Params, point: Any) -> jax.Array:
        outputs = f(params, jax.tree_util.tree_map(lambda leaf: leaf[None], point))
        parts = [leaf.reshape(-1) for leaf in jax.tree_util.tree_leaves(outputs)]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts)

    return single


def count_joined_outputs(who: str, f: Callable[[Params, Any], Any], params: Params, x: Any) -> int:
    """How many numbers f returns for one point, over all its outputs; found without computing anything.

    Raises:
        ValueError: when f returns something else than floating arrays of shape (points, outputs, ...).
    """
    outputs = jax.tree_util.tree_leaves(_outputs_of_two(f, params, x))
    for output in outputs:
        if output.ndim < 2 or output.shape[0] != 2 or 0 in output.shape:
            raise ValueError(
                f"{who} needs f(params, x) of shape (points, outputs), got {output.shape} for 2 points. "
                "A single output is returned as f[:, None]; further axes are joined to outputs."
            )
        if not jnp.issubdtype(output.dtype, jnp.floating):
            raise ValueError(f"{who} needs f(params, x) in floating point, got {output.dtype}.")
    if not outputs:
        raise ValueError(f"{who} needs f(params, x) to return an array, got nothing.")
    return sum(int(np.prod(output.shape[1:])) for output in outputs)


def count_outputs(who: str, f: Callable[[Params, Any], Any], params: Params, x: Any) -> int:
    """The number of outputs k of `f`, of which one array (n, k) is demanded; found without computing anything.

    Raises:
        ValueError: when two points in are not a floating (2, k) array out.
    """
    outputs = _outputs_of_two(f, params, x)
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


def _outputs_of_two(f: Callable[[Params, Any], Any], params: Params, x: Any) -> Any:
    """Shapes and dtypes of what f returns for two points."""
    two = jax.tree_util.tree_map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape[1:]), leaf.dtype), x)
    return jax.eval_shape(f, params, two)
