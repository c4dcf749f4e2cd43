"""Convolutions of other kinds: transposed ones, which enlarge, and ones whose weights every pixel has for itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ntkit.nn.averaging import Averaging
from ntkit.nn.convolution import check_convolution, convolve, scaled_draw, scaled_output, with_tangent
from ntkit.nn.dense import Parametrization
from ntkit.nn.law import Law
from ntkit.nn.state import KernelState
from ntkit.nn.windows import (
    Padding,
    check_spatial,
    output_sizes,
    padded,
    window_parts,
    window_sums,
    windows_present,
)
from ntkit.numerics.trees import pytree


@pytree("width", "filter_shape", "strides", "padding", "parametrization")
@dataclass(frozen=True, eq=False)
class ConvTranspose(Averaging):
    """Transposed (fractionally strided) convolution: zeros between the pixels, then a convolution of stride 1.

    As `jax.lax.conv_transpose`: "same" padding gives strides times as many pixels. Kernels as those of `Conv`, on
    images with the zeros put in; they count in the mean.

    Args:
        width: number of output channels.
        filter_shape: pixels of the filter along each spatial axis.
        strides: how many times as many pixels come out along each axis; None for 1.
        padding: "same" or "valid".
        w_std: standard deviation of the weights, at least 0.
        b_std: standard deviation of the biases, at least 0.
        parametrization: "ntk" or "standard".

    Raises:
        ValueError: as `Conv`, and for circular padding.
    """

    width: int
    filter_shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    padding: Literal["same", "valid"] = "same"
    w_std: Any = 1.0
    b_std: Any = 0.0
    parametrization: Parametrization = "ntk"

    def __post_init__(self) -> None:
        check_convolution("ConvTranspose", self)
        if self.padding == "circular":
            raise ValueError('ConvTranspose needs padding "same" or "valid", got "circular".')

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> dict[str, jax.Array]:
        check_spatial("ConvTranspose", input_shape, len(self.filter_shape))
        key_weight, key_bias = jax.random.split(key)
        weight = jax.random.normal(key_weight, (*self.filter_shape, input_shape[-1], self.width))
        return scaled_draw(self, weight, jax.random.normal(key_bias, (self.width,)))

    def apply(self, params: Any, x: Float[jax.Array, "n *s c"]) -> Float[jax.Array, "n *t k"]:
        self.output_shape(x.shape)
        x = self._spread(x, tuple((1 + axis,) for axis in range(len(self.filter_shape))))
        product = convolve(x, params["weight"], self._ones)
        return scaled_output(self, product, params["bias"], prod(self.filter_shape) * x.shape[-1])

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        sizes = check_spatial("ConvTranspose", input_shape, len(self.filter_shape))
        spread = zip(sizes, self.filter_shape, self._strides, strict=True)
        after = ((size - 1) * stride + 2 + sum(self._edges(w, stride)) - w for size, w, stride in spread)
        return (input_shape[0], *after, self.width)

    def law(self, before: Law) -> Law:
        return Law.weighted("ConvTranspose")

    def presence(self, present: Any) -> Any:
        # Each pixel becomes so many, as its square of the enlarged image.
        sizes = self._strides
        if self.padding == "valid":
            sizes = tuple(max(pair) for pair in zip(self.filter_shape, self._strides, strict=True))
        spread = tuple(
            (size - 1, size - 1, stride - 1) for size, stride in zip(sizes, self._strides, strict=True)
        )
        ones = jnp.asarray(present).astype(jnp.float32)
        enlarged = jax.lax.pad(ones, jnp.zeros((), jnp.float32), ((0, 0, 0), *spread))
        axes = tuple((1 + axis,) for axis in range(len(sizes)))
        return window_sums(enlarged, axes, sizes, self._ones) > 0

    @property
    def homogeneity(self) -> float | None:
        return 1.0 if float(self.b_std) == 0.0 else None

    def propagate(self, state: KernelState) -> KernelState:
        return with_tangent(self, state, self._averaged(state, self.w_std, self.b_std))

    @property
    def _strides(self) -> tuple[int, ...]:
        return self.strides or self._ones

    @property
    def _ones(self) -> tuple[int, ...]:
        return (1,) * len(self.filter_shape)

    def _edges(self, window: int, stride: int) -> tuple[int, int]:
        """Zeros before and behind, as `jax.lax.conv_transpose` puts them."""
        total = window + stride - 2
        if self.padding == "valid":
            return window - 1, total + max(window - stride, 0) - (window - 1)
        before = window - 1 if stride > window - 1 else -(-total // 2)
        return before, total - before

    def _spread(self, array: jax.Array, axes: Sequence[Sequence[int]]) -> jax.Array:
        """Put zeros between the pixels and around them."""
        widths = [(0, 0, 0)] * array.ndim
        for group, window, stride in zip(axes, self.filter_shape, self._strides, strict=True):
            for axis in group:
                widths[axis] = (*self._edges(window, stride), stride - 1)
        return jax.lax.pad(array, jnp.zeros((), array.dtype), widths)

    def _average(self, array: jax.Array, axes: Sequence[Sequence[int]]) -> jax.Array:
        total = window_sums(self._spread(array, axes), axes, self.filter_shape, self._ones)
        return total / prod(self.filter_shape)

    def _parts(self, values: jax.Array, spatial: int) -> jax.Array:
        axes = tuple((axis,) for axis in range(values.ndim - spatial, values.ndim))
        parts = window_parts(self._spread(values, axes), self.filter_shape, self._ones, spatial)
        return parts / prod(self.filter_shape) ** 0.5


@pytree("width", "filter_shape", "strides", "padding", "parametrization")
@dataclass(frozen=True, eq=False)
class ConvLocal(Averaging):
    """Locally connected layer: a convolution whose weights and biases every output pixel has for itself.

    At infinite width as `Conv` for equal pixels; different pixels become uncorrelated,
    `nngp'(p, p') = ntk'(p, p') = 0` (Novak et al. 2019, section 4; LeCun 1989 for the layer). A network that ends in
    `Flatten` therefore has the same kernel with either.

    Args:
        width: number of output channels.
        filter_shape: pixels of the filter along each spatial axis.
        strides: pixels from one filter position to the next; None for 1 along each axis.
        padding: "same", "valid" or "circular".
        w_std: standard deviation of the weights, at least 0.
        b_std: standard deviation of the biases, at least 0.
        parametrization: "ntk" or "standard".

    Raises:
        ValueError: as `Conv`.
    """

    width: int
    filter_shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    padding: Padding = "same"
    w_std: Any = 1.0
    b_std: Any = 0.0
    parametrization: Parametrization = "ntk"

    def __post_init__(self) -> None:
        check_convolution("ConvLocal", self)

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> dict[str, jax.Array]:
        sizes = self.output_shape(input_shape)[1:-1]
        key_weight, key_bias = jax.random.split(key)
        weight = jax.random.normal(key_weight, (*sizes, prod(self.filter_shape), input_shape[-1], self.width))
        return scaled_draw(self, weight, jax.random.normal(key_bias, (*sizes, self.width)))

    def apply(self, params: Any, x: Float[jax.Array, "n *s c"]) -> Float[jax.Array, "n *t k"]:
        self.output_shape(x.shape)
        entries = self._entries(jnp.moveaxis(x, -1, 1), len(self.filter_shape))
        product = jnp.einsum("knc...,...kcw->n...w", entries, params["weight"], precision="highest")
        return scaled_output(self, product, params["bias"], prod(self.filter_shape) * x.shape[-1])

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        sizes = check_spatial("ConvLocal", input_shape, len(self.filter_shape))
        sizes = output_sizes("ConvLocal", sizes, self.filter_shape, self._strides, self.padding)
        return (input_shape[0], *sizes, self.width)

    def law(self, before: Law) -> Law:
        return Law.weighted("ConvLocal")

    def presence(self, present: Any) -> Any:
        return windows_present(present, self.filter_shape, self._strides, self.padding)

    @property
    def homogeneity(self) -> float | None:
        return 1.0 if float(self.b_std) == 0.0 else None

    def propagate(self, state: KernelState) -> KernelState:
        pixels = state.at_pixels
        after = with_tangent(self, pixels, self._averaged(pixels, self.w_std, self.b_std))
        return after if state.layout == "pixels" else after.uncorrelated_pixels

    @property
    def _strides(self) -> tuple[int, ...]:
        return self.strides or (1,) * len(self.filter_shape)

    def _average(self, array: jax.Array, axes: Sequence[Sequence[int]]) -> jax.Array:
        array = padded(array, axes, self.filter_shape, self._strides, self.padding)
        return window_sums(array, axes, self.filter_shape, self._strides) / prod(self.filter_shape)

    def _parts(self, values: jax.Array, spatial: int) -> jax.Array:
        return self._entries(values, spatial) / prod(self.filter_shape) ** 0.5

    def _entries(self, values: jax.Array, spatial: int) -> jax.Array:
        axes = tuple((axis,) for axis in range(values.ndim - spatial, values.ndim))
        values = padded(values, axes, self.filter_shape, self._strides, self.padding)
        return window_parts(values, self.filter_shape, self._strides, spatial)
