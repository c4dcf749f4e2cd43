"""Windows that slide over pixels: how many, what is padded, and sums over them of arrays over pixels or pairs.

Padding is that of XLA: "valid" none, "same" so many zeros that a stride of 1 keeps the size (the larger half behind),
"circular" as many pixels from the other side.
"""

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any, Literal

import jax
import jax.numpy as jnp

Padding = Literal["same", "valid", "circular"]


def as_sizes(who: str, name: str, value: Any, axes: int | None = None) -> tuple[int, ...]:
    """Positive whole numbers, one a spatial axis.

    Raises:
        ValueError: for anything else, or a number of axes other than `axes`, or not between 1 and 3.
    """
    sizes = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not all(isinstance(size, int) and size >= 1 for size in sizes) or not 1 <= len(sizes) <= 3:
        raise ValueError(f"{who} needs {name} as one to three whole numbers of at least 1, got {value!r}.")
    if axes is not None and len(sizes) != axes:
        raise ValueError(f"{who} needs {name} of {axes} numbers, one a spatial axis, got {value!r}.")
    return sizes


def check_padding(who: str, padding: str) -> None:
    """Raise for an unknown padding."""
    if padding not in ("same", "valid", "circular"):
        raise ValueError(f'{who} needs padding "same", "valid" or "circular", got {padding!r}.')


def check_spatial(who: str, shape: Sequence[int], axes: int) -> tuple[int, ...]:
    """The spatial sizes of inputs of this shape, (n, *S, c).

    Raises:
        ValueError: when there are not so many spatial axes.
    """
    if len(shape) != axes + 2:
        remedy = (
            "Images go in as (n, *pixels, channels): leave out Flatten and pooling before it."
            if len(shape) == 2
            else "Give one number a spatial axis."
        )
        raise ValueError(
            f"{who} needs inputs of {axes} spatial axes, shape (n, {'pixels, ' * axes}channels), got shape "
            f"{tuple(shape)}. {remedy}"
        )
    return tuple(shape[1:-1])


def amounts(size: int, window: int, stride: int, padding: Padding) -> tuple[int, int]:
    """How many pixels are added before and behind."""
    if padding == "valid":
        return 0, 0
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def count(size: int, window: int, stride: int, padding: Padding) -> int:
    """The number of windows along an axis, 0 when it is too short for one."""
    return (size + sum(amounts(size, window, stride, padding)) - window) // stride + 1


def output_sizes(
    who: str, sizes: Sequence[int], window: Sequence[int], strides: Sequence[int], padding: Padding
) -> tuple[int, ...]:
    """The number of windows along each axis.

    Raises:
        ValueError: when a window does not fit.
    """
    result = tuple(
        count(size, w, stride, padding) for size, w, stride in zip(sizes, window, strides, strict=True)
    )
    if min(result) < 1:
        raise ValueError(
            f'{who} needs at least {tuple(window)} pixels, got {tuple(sizes)}. Use padding="same", a smaller window '
            "or fewer strides before it."
        )
    return result


def padded(
    array: jax.Array,
    axes: Sequence[Sequence[int]],
    window: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
) -> jax.Array:
    """Add the pixels that the windows need, along every one of the axes that stand for a spatial axis."""
    widths = [(0, 0)] * array.ndim
    for group, w, stride in zip(axes, window, strides, strict=True):
        for axis in group:
            widths[axis] = amounts(array.shape[axis], w, stride, padding)
    if not any(map(any, widths)):
        return array
    return jnp.pad(array, widths, mode="wrap" if padding == "circular" else "constant")


def window_sums(
    array: jax.Array, axes: Sequence[Sequence[int]], window: Sequence[int], strides: Sequence[int]
) -> jax.Array:
    """Sums over windows of a padded array; where a spatial axis stands twice, both pixels move by equal offsets."""
    for group, w, stride in zip(axes, window, strides, strict=True):
        total = _shifted(array, group, 0, w, stride)
        for offset in range(1, w):
            total = total + _shifted(array, group, offset, w, stride)
        array = total
    return array


def windows_present(
    present: Any, window: Sequence[int], strides: Sequence[int], padding: Padding
) -> jax.Array:
    """Which windows exist, from which pixels do, shape (n, *S).

    Without padding those of which every pixel does, otherwise those whose middle pixel does: just those that slide over
    a sequence by itself, without what it was padded with (for strides, where these divide both lengths).
    """
    axes = tuple((axis,) for axis in range(1, present.ndim))
    values = padded(jnp.asarray(present), axes, window, strides, padding)
    if padding == "valid":
        return window_sums(values.astype(jnp.int32), axes, window, strides) == prod(window)
    for (axis,), w, stride in zip(axes, window, strides, strict=True):
        values = _shifted(values, (axis,), (w - 1) // 2, w, stride)
    return values


def window_parts(values: jax.Array, window: Sequence[int], strides: Sequence[int], spatial: int) -> jax.Array:
    """The entries of every window of padded values, shape (entries, ..., *windows); the last axes are spatial."""
    axes = range(values.ndim - spatial, values.ndim)
    parts = []
    for offsets in product(*map(range, window)):
        part = values
        for axis, offset, w, stride in zip(axes, offsets, window, strides, strict=True):
            part = _shifted(part, (axis,), offset, w, stride)
        parts.append(part)
    return jnp.stack(parts)


def _shifted(array: jax.Array, axes: Sequence[int], offset: int, window: int, stride: int) -> jax.Array:
    """Entry number `offset` of every window."""
    starts, limits, steps = [0] * array.ndim, list(array.shape), [1] * array.ndim
    for axis in axes:
        last = (array.shape[axis] - window) // stride * stride
        starts[axis], limits[axis], steps[axis] = offset, offset + last + 1, stride
    return jax.lax.slice(array, starts, limits, steps)
