"""Convolutions, and what is pulled back through them, in the one order of axes that XLA computes fast inside a loop.

For processors XLA (jaxlib 0.9.2) brings convolutions into that order only outside of loops; inside, whatever comes in
another order, and so each transposed convolution, falls back to plain loops at two to six times the time.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from ntkit.empirical.program import Operation

Settings = tuple[tuple[str, Any], ...]
"""JAX's own parameters of a convolution."""


def step(operation: Operation, arguments: list[Any]) -> list[Any]:
    """Run one operation of a program, a convolution in the fast order."""
    if operation.name != "conv_general_dilated":
        return operation.run(*arguments)
    return [_convolve(tuple(operation.settings.items()), *arguments)]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _convolve(settings: Settings, data: jax.Array, filters: jax.Array) -> jax.Array:
    return _ordered(settings, data, filters)


def _moved(settings: Settings, primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Any, Any]:
    """Where the data moves, filters come in the order that the transpose exchanges for the fast one."""
    result = _convolve(settings, *primals)
    (data, filters), (of_data, of_filters) = primals, tangents
    moved = []
    if not isinstance(of_data, SymbolicZero):
        moved.append(_ordered(settings, of_data, filters, outputs_last=False))
    if not isinstance(of_filters, SymbolicZero):
        moved.append(_ordered(settings, data, of_filters))
    return result, sum(moved) if moved else jnp.zeros_like(result)


_convolve.defjvp(_moved, symbolic_zeros=True)


def _ordered(
    settings: Settings, data: jax.Array, filters: jax.Array, *, outputs_last: bool = True
) -> jax.Array:
    """The convolution of (images, places, channels) with filters (places, inputs, outputs), the last two so or so."""
    numbers: lax.ConvDimensionNumbers = dict(settings)["dimension_numbers"]
    count = data.ndim - 2
    of_data = (0, count + 1, *range(1, count + 1))
    of_filters = (count + 1, count) if outputs_last else (count, count + 1)
    order = lax.ConvDimensionNumbers(of_data, (*of_filters, *range(count)), of_data)
    images, channels, *places = numbers.lhs_spec
    outputs, inputs, *filter_places = numbers.rhs_spec
    last = (inputs, outputs) if outputs_last else (outputs, inputs)
    result = lax.conv_general_dilated(
        data.transpose(images, *places, channels),
        filters.transpose(*filter_places, *last),
        **{**dict(settings), "dimension_numbers": order},
    )
    images, channels, *places = numbers.out_spec
    axes = [images, *places, channels]
    return result.transpose([axes.index(axis) for axis in range(len(axes))])
