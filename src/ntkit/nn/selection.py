"""Layers that pick pixels: cropping, and resizing to the nearest or to means of pixels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ntkit.nn.base import Layer
from ntkit.nn.mixing import mixed, require_pairs
from ntkit.nn.state import KernelState
from ntkit.nn.windows import as_sizes, check_spatial
from ntkit.numerics.trees import pytree


def selected(state: KernelState, select: Callable[[jax.Array, Sequence[int]], jax.Array]) -> KernelState:
    """The state at some of its pixels; `select(array, axes)` picks them along neighbouring spatial axes."""
    first, spatial = state.batch, state.spatial
    sides = [
        range(first + side * spatial, first + (side + 1) * spatial) for side in range(len(state.axes[0]))
    ]

    def picked(array: Any) -> Any:
        for axes in reversed(sides):
            array = None if array is None else select(array, axes)
        return array

    nngp = picked(state.nngp)
    left = (nngp.ndim - first) // len(sides)
    after = replace(
        state,
        nngp=nngp,
        ntk=picked(state.ntk),
        defect=picked(state.defect),
        surplus=picked(state.surplus),
        spatial=left,
        layout=state.layout if left else "pixels",
    )
    after = after.with_means(lambda mean, _: select(mean, sides[0]), state)
    if state.var1 is None:
        return after
    var1, var2 = (select(var, sides[0]) for var in state.variances)
    return replace(after, var1=after.along1(var1), var2=after.along2(var2))


@pytree("where")
@dataclass(frozen=True, eq=False)
class Index(Layer):
    """Pick pixels, `x[:, where]`: a crop, every second pixel, or by whole numbers one pixel, whose axis vanishes.

    Args:
        where: for each spatial axis a whole number, a `slice`, or its (start, stop, step).

    Raises:
        ValueError: for anything else.
    """

    where: tuple[Any, ...]

    def __post_init__(self) -> None:
        where = self.where if isinstance(self.where, list | tuple) else (self.where,)
        plain = tuple((w.start, w.stop, w.step) if isinstance(w, slice) else _plain(w) for w in where)
        if not all(_is_index(w) for w in plain) or not 1 <= len(plain) <= 3:
            raise ValueError(
                f"Index needs a whole number or a slice for each of one to three spatial axes, got {self.where!r}."
            )
        object.__setattr__(self, "where", plain)

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> tuple[()]:
        self.output_shape(input_shape)
        return ()

    def apply(self, params: Any, x: jax.Array) -> jax.Array:
        self.output_shape(x.shape)
        return self._select(x, range(1, x.ndim - 1))

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        sizes = check_spatial("Index", input_shape, len(self.where))
        for size, w in zip(sizes, self.where, strict=True):
            if isinstance(w, int) and not -size <= w < size:
                raise ValueError(f"Index needs pixels that exist, got {w} of {size}.")
        kept = np.empty(sizes)[self._key].shape
        if 0 in kept:
            raise ValueError(f"Index needs pixels that exist, got none of {sizes} at {self.where}.")
        return (input_shape[0], *kept, input_shape[-1])

    def presence(self, present: Any) -> Any:
        picked = self._select(present, range(1, present.ndim))
        return picked if picked.ndim > 1 else None

    @property
    def homogeneity(self) -> float:
        return 1.0

    def propagate(self, state: KernelState) -> KernelState:
        return selected(state, self._select)

    @property
    def _key(self) -> tuple[Any, ...]:
        return tuple(slice(*w) if isinstance(w, tuple) else w for w in self.where)

    def _select(self, array: jax.Array, axes: Sequence[int]) -> jax.Array:
        return array[(slice(None),) * axes[0] + self._key]


def _plain(where: Any) -> Any:
    return tuple(where) if isinstance(where, list | tuple) else where


def _is_index(where: Any) -> bool:
    if isinstance(where, tuple):
        return len(where) == 3 and all(part is None or isinstance(part, int) for part in where)
    return isinstance(where, int)


@pytree("shape", "method", "antialias")
@dataclass(frozen=True, eq=False)
class ImageResize(Layer):
    """Resize images to `shape` pixels, as `jax.image.resize`: a linear map along each axis.

    Resizing to means of pixels ("linear") mixes them as pooling does; "nearest" picks one pixel for each.

    Args:
        shape: pixels afterwards along each spatial axis.
        method: "linear" (bilinear, trilinear) or "nearest".
        antialias: whether shrinking averages over all pixels that a new one covers; for "linear".

    Raises:
        ValueError: for sizes below 1 or an unknown method.
    """

    shape: tuple[int, ...]
    method: Literal["linear", "nearest"] = "linear"
    antialias: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", as_sizes("ImageResize", "shape", self.shape))
        if self.method not in ("linear", "nearest"):
            raise ValueError(f'ImageResize needs method "linear" or "nearest", got {self.method!r}.')

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> tuple[()]:
        self.output_shape(input_shape)
        return ()

    def apply(self, params: Any, x: jax.Array) -> jax.Array:
        self.output_shape(x.shape)
        return self._resize(x, range(1, x.ndim - 1))

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        check_spatial("ImageResize", input_shape, len(self.shape))
        return (input_shape[0], *self.shape, input_shape[-1])

    def presence(self, present: Any) -> Any:
        # A pixel that has a share of one that exists does.
        return self._resize(jnp.asarray(present).astype(jnp.float32), range(1, present.ndim)) > 0

    @property
    def homogeneity(self) -> float:
        return 1.0

    @property
    def mixes_pixels(self) -> bool:
        return self.method != "nearest"

    def propagate(self, state: KernelState) -> KernelState:
        if self.method == "nearest":
            return selected(state, self._resize)
        require_pairs("ImageResize", state)
        return mixed(state, lambda array, axes, _: self._resize(array, axes))

    def _resize(self, array: jax.Array, axes: Sequence[int]) -> jax.Array:
        for axis, size in zip(axes, self.shape, strict=True):
            before = array.shape[axis]
            if self.method == "nearest":
                array = jnp.take(array, (2 * np.arange(size) + 1) * before // (2 * size), axis=axis)
                continue
            unit = jnp.eye(before, dtype=array.dtype)
            weights = jax.image.resize(unit, (size, before), self.method, self.antialias)
            moved = jnp.matmul(jnp.moveaxis(array, axis, -1), weights.T, precision="highest")
            array = jnp.moveaxis(moved, -1, axis)
        return array
