"""The Taylor expansion of a finite function in its parameters, to any degree."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkit.empirical.function import (
    Function,
    Params,
    as_examples,
    as_params,
    check_function,
    count_joined_outputs,
    working_dtype,
)
from ntkit.numerics.dtypes import at_once, is_concrete, is_numpy, precision, to_jax


def taylor_expand(f: Function, params: Params, degree: int) -> Callable[[Params, Any], Any]:
    """The Taylor polynomial `f_taylor(θ, x) = Σ_{j<=degree} D^j f(x; θ_0)[θ - θ_0]^j / j!` at `θ_0 = params`.

    Degree 0 is `f` at `params` whatever `θ` is; degree 1 is `linearize`; degree 2 adds
    `½ (θ - θ_0)ᵀ H(x) (θ - θ_0)`, the first term in which the tangent kernel moves.

    The derivatives along `θ - θ_0` are nested forward-mode derivatives (`jax.jvp`), exact to rounding,
    which exist for whatever JAX can differentiate forward. The work grows with `2^degree` evaluations of
    `f` at worst. (`jax.experimental.jet` would grow with `degree^2`, but has no rule for a rectifier, a
    pooling by the maximum or a loop.) Where `f` has kinks the derivatives are those of the piece `θ_0`
    lies in.

    Args:
        f: `f(params, x)` with inputs (n, ...), tokens included, and outputs (n, k); either may be a pytree of arrays.
        params: θ_0, a pytree of floating-point arrays.
        degree: the highest power of `θ - θ_0`, at least 0.

    Returns:
        `f_taylor(params, x)`, used like `f` and returning what `f` does; NumPy inputs give NumPy outputs, JAX inputs
        JAX outputs, in the dtype of the inputs' floating arrays, to which the parameters are converted. Integers alone
        (tokens) take the dtype of `params`.

    Raises:
        ValueError: for a degree that is no whole number of at least 0; on evaluation, for parameters that
            are not those of `params` in structure and shape.

    >>> import numpy as np
    >>> f = lambda w, x: x * w**3
    >>> x = np.array([[1.0], [2.0]])
    >>> [taylor_expand(f, np.array(2.0), degree)(np.array(3.0), x).ravel().tolist() for degree in range(4)]
    [[8.0, 16.0], [20.0, 40.0], [26.0, 52.0], [27.0, 54.0]]
    """
    if isinstance(degree, bool) or not isinstance(degree, int | np.integer) or degree < 0:
        raise ValueError(f"taylor_expand needs degree as a whole number of at least 0, got {degree!r}.")
    return expansion("taylor_expand", f, params, int(degree))


def expansion(who: str, f: Function, params: Params, degree: int) -> Callable[[Params, Any], Any]:
    """`taylor_expand` under the name of the public function that asks, which appears in its messages."""
    check_function(who, f)

    def expanded(new_params: Params, x: Any) -> Any:
        as_examples(who, x)
        dtype = working_dtype(params, x)
        if not is_numpy(x) or not is_concrete((params, new_params)):
            return _evaluate(who, f, degree, params, new_params, to_jax(x), dtype)
        with precision(dtype), at_once():
            values = _evaluate(who, f, degree, params, new_params, to_jax(x), dtype)
            return jax.tree_util.tree_map(np.array, values)

    return expanded


def _evaluate(
    who: str, f: Function, degree: int, params: Params, new_params: Params, x: Any, dtype: Any
) -> Any:
    origin = as_params(who, params, dtype)
    target = as_params(who, new_params, dtype)
    _check_alike(who, origin, target)
    count_joined_outputs(who, f, origin, x)
    # Step by step every operation of every shape is compiled by itself, and derivatives are held at once.
    polynomial = _compiled_polynomial if is_concrete((origin, target, x)) else _polynomial
    return polynomial(f, degree, origin, target, x)


def _polynomial(f: Function, degree: int, origin: Params, target: Params, x: Any) -> Any:
    displacement = jax.tree_util.tree_map(jnp.subtract, target, origin)
    tower: Callable[[Params], tuple] = partial(_value, f, x)
    for _ in range(degree):
        tower = _raised(tower, displacement)
    with jax.default_matmul_precision("highest"):
        derivatives = tower(origin)
    total = derivatives[0]
    for order, derivative in enumerate(derivatives[1:], start=1):
        total = jax.tree_util.tree_map(partial(_add, math.factorial(order)), total, derivative)
    return total


_compiled_polynomial = jax.jit(_polynomial, static_argnums=(0, 1))


def _add(factorial: int, total: jax.Array, derivative: jax.Array) -> jax.Array:
    return total + derivative / factorial


def _value(f: Function, x: Any, parameters: Params) -> tuple:
    return (f(parameters, x),)


def _raised(tower: Callable[[Params], tuple], direction: Params) -> Callable[[Params], tuple]:
    """From a function that returns derivatives 0 to j along a direction, the one that returns 0 to j + 1."""

    def raised(parameters: Params) -> tuple:
        values, changes = jax.jvp(tower, (parameters,), (direction,))
        return (*values, changes[-1])

    return raised


def _check_alike(who: str, origin: Params, target: Params) -> None:
    """Raise unless the parameters have the structure and shapes of those expanded at."""
    ours, theirs = (jax.tree_util.tree_structure(params) for params in (origin, target))
    if ours != theirs:
        raise ValueError(f"{who} needs parameters of the structure expanded at, {ours}, got {theirs}.")
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(origin), jax.tree_util.tree_leaves(target), strict=True
    ):
        if a.shape != b.shape:
            raise ValueError(
                f"{who} needs parameters of the shapes expanded at, {a.shape} at params{jax.tree_util.keystr(path)}, "
                f"got {b.shape}."
            )
