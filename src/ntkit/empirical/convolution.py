"""Convolutions in the one order of axes that XLA computes fast inside a loop, and so what is pulled back through them.

For processors XLA (jaxlib 0.9.2) brings convolutions into that order only outside of loops; inside, whatever comes in
another order, as a transposed convolution does, falls back to plain loops, at two to twenty times the time.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from ntkit.empirical.program import Operation, trace

NAME = "conv_general_dilated"

Settings = tuple[tuple[str, Any], ...]
"""JAX's own parameters of a convolution."""


def in_fast_order(f: Callable[[Any, Any], jax.Array], *, reverse: bool) -> Callable[[Any, Any], jax.Array]:
    """The function with its convolutions in the fast order.

    Args:
        f: of parameters and data.
        reverse: whether derivatives will be taken in reverse mode; both modes are right, the other one slow in loops.
    """

    def ordered(params: Any, x: Any) -> jax.Array:
        program = trace(f, params, x)
        if all(operation.name != NAME for operation in program.operations):
            return f(params, x)
        leaves, inputs = jax.tree_util.tree_leaves(params), jax.tree_util.tree_leaves(x)
        return program.evaluate(leaves, inputs, partial(step, reverse=reverse))[0]

    return ordered


def step(operation: Operation, arguments: list[Any], *, reverse: bool = True) -> list[Any]:
    """Run one operation of a program."""
    if operation.name != NAME:
        return operation.run(*arguments)
    return [_convolve(tuple(operation.settings.items()), reverse, *arguments)]


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _convolve(settings: Settings, reverse: bool, data: jax.Array, filters: jax.Array) -> jax.Array:
    return _ordered(settings, _fast(data.ndim), data, filters)


def _moved(
    settings: Settings, reverse: bool, primals: tuple[Any, Any], tangents: tuple[Any, Any]
) -> tuple[Any, Any]:
    """For reverse mode in orders whose transposes are the fast one."""
    result = _convolve(settings, reverse, *primals)
    (data, filters), (of_data, of_filters) = primals, tangents
    fast = _fast(data.ndim)
    moved = []
    if not isinstance(of_data, SymbolicZero):
        # A transpose exchanges data and result, and the inputs and outputs of filters.
        order = fast._replace(rhs_spec=_exchanged(fast.rhs_spec)) if reverse else fast
        moved.append(_ordered(settings, order, of_data, filters))
    if not isinstance(of_filters, SymbolicZero):
        # It exchanges filters and result, and in all three the first two roles.
        turned = lax.ConvDimensionNumbers(*map(_exchanged, (fast.lhs_spec, fast.out_spec, fast.rhs_spec)))
        moved.append(_ordered(settings, turned if reverse else fast, data, of_filters))
    return result, sum(moved) if moved else jnp.zeros_like(result)


_convolve.defjvp(_moved, symbolic_zeros=True)


def _fast(ndim: int) -> lax.ConvDimensionNumbers:
    """Data and result (images, places, channels), filters (places, inputs, outputs)."""
    data = (0, ndim - 1, *range(1, ndim - 1))
    return lax.ConvDimensionNumbers(data, (ndim - 1, ndim - 2, *range(ndim - 2)), data)


def _exchanged(places: Sequence[int]) -> tuple[int, ...]:
    return (places[1], places[0], *places[2:])


def _ordered(
    settings: Settings, order: lax.ConvDimensionNumbers, data: jax.Array, filters: jax.Array
) -> jax.Array:
    """The convolution in another order of axes."""
    given: lax.ConvDimensionNumbers = dict(settings)["dimension_numbers"]
    result = lax.conv_general_dilated(
        _arranged(data, given.lhs_spec, order.lhs_spec),
        _arranged(filters, given.rhs_spec, order.rhs_spec),
        **{**dict(settings), "dimension_numbers": order},
    )
    return _arranged(result, order.out_spec, given.out_spec)


def _arranged(array: jax.Array, given: Sequence[int], wanted: Sequence[int]) -> jax.Array:
    """The array with each axis where it is wanted; both say for each role of an axis which one it is."""
    axes = [axis for _, axis in sorted(zip(wanted, given, strict=True))]
    return array.transpose(axes)
