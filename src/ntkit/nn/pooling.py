"""Pooling: means and sums over windows of pixels, or over all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from ntkit.nn.mixing import Mixing
from ntkit.nn.windows import (
    Padding,
    as_sizes,
    check_padding,
    check_spatial,
    output_sizes,
    padded,
    window_sums,
    windows_present,
)
from ntkit.numerics.safe import safe_divide
from ntkit.numerics.trees import pytree


class _Pool(Mixing):
    """Sums over windows, divided by what a subclass says."""

    window_shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    padding: Padding

    def __post_init__(self) -> None:
        who = type(self).__name__
        object.__setattr__(self, "window_shape", as_sizes(who, "window_shape", self.window_shape))
        if self.strides is not None:
            object.__setattr__(
                self, "strides", as_sizes(who, "strides", self.strides, len(self.window_shape))
            )
        check_padding(who, self.padding)

    @property
    def _strides(self) -> tuple[int, ...]:
        return self.strides or self.window_shape

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        who = type(self).__name__
        sizes = check_spatial(who, input_shape, len(self.window_shape))
        return (
            input_shape[0],
            *output_sizes(who, sizes, self.window_shape, self._strides, self.padding),
            input_shape[-1],
        )

    def presence(self, present: Any) -> Any:
        return windows_present(present, self.window_shape, self._strides, self.padding)

    def _sum(self, array: jax.Array, axes: Sequence[int]) -> jax.Array:
        groups = tuple((axis,) for axis in axes)
        array = padded(array, groups, self.window_shape, self._strides, self.padding)
        return window_sums(array, groups, self.window_shape, self._strides)


@pytree("window_shape", "strides", "padding")
@dataclass(frozen=True, eq=False)
class SumPool(_Pool):
    """Sums over windows of pixels, channel by channel.

    Args:
        window_shape: pixels of the window along each spatial axis.
        strides: pixels from one window to the next; None for windows side by side.
        padding: "valid", "same" (zeros) or "circular".

    Raises:
        ValueError: for sizes below 1 or an unknown padding.
    """

    window_shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    padding: Padding = "valid"

    def _mix(self, array: jax.Array, axes: Sequence[int]) -> jax.Array:
        return self._sum(array, axes)


@pytree("window_shape", "strides", "padding", "normalize_edges")
@dataclass(frozen=True, eq=False)
class AvgPool(_Pool):
    """Means over windows of pixels, channel by channel.

    At infinite width every pair of windows has the mean covariance of its pairs of pixels (Novak et al. 2019, section
    3.2).

    Args:
        window_shape: pixels of the window along each spatial axis.
        strides: pixels from one window to the next; None for windows side by side.
        padding: "valid", "same" (zeros) or "circular".
        normalize_edges: whether zeros that padding adds, and absent pixels (`Mask`), are left out of the count.

    Raises:
        ValueError: for sizes below 1 or an unknown padding.
    """

    window_shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    padding: Padding = "valid"
    normalize_edges: bool = False

    def _mix(self, array: jax.Array, axes: Sequence[int]) -> jax.Array:
        total = self._sum(array, axes)
        if not self.normalize_edges or self.padding != "same":
            return total / prod(self.window_shape)
        inside = [size if axis in axes else 1 for axis, size in enumerate(array.shape)]
        return total / self._sum(jnp.ones(inside, array.dtype), axes)

    def _factor(self, present: Any, dtype: Any) -> jax.Array | None:
        return present_share(self, present, dtype) if self.normalize_edges else None


@pytree()
@dataclass(frozen=True, eq=False)
class GlobalAvgPool(Mixing):
    """The mean over all pixels, channel by channel: `nngp' = mean_pp' nngp(p, p')`; vectors come out.

    A network that ends so treats an image and its translations nearly alike. Source: Novak et al. (2019, section 3.2).
    """

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return pooled_shape("GlobalAvgPool", input_shape)

    def _mix(self, array: jax.Array, axes: Sequence[int]) -> jax.Array:
        return jnp.mean(array, axis=tuple(axes))

    def presence(self, present: Any) -> None:
        return None

    def _factor(self, present: Any, dtype: Any) -> jax.Array:
        return present_share(self, present, dtype)


@pytree()
@dataclass(frozen=True, eq=False)
class GlobalSumPool(Mixing):
    """The sum over all pixels, channel by channel: `nngp' = sum_pp' nngp(p, p')`; vectors come out."""

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return pooled_shape("GlobalSumPool", input_shape)

    def _mix(self, array: jax.Array, axes: Sequence[int]) -> jax.Array:
        return jnp.sum(array, axis=tuple(axes))

    def presence(self, present: Any) -> None:
        return None


def present_share(layer: Mixing, present: Any, dtype: Any) -> jax.Array:
    """One over the share of pixels that exist in each mean that the layer takes; 0 where none does."""
    share = layer._mix(jnp.asarray(present).astype(dtype), range(1, present.ndim))
    return safe_divide(jnp.ones_like(share), share, 0.0)


def pooled_shape(who: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape after pooling over all pixels.

    Raises:
        ValueError: for vectors.
    """
    if len(shape) < 3:
        raise ValueError(f"{who} needs images of shape (n, *pixels, channels), got shape {tuple(shape)}.")
    return (shape[0], shape[-1])
