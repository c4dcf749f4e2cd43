"""Convolutions of other kinds: transposed ones, which enlarge, and ones whose weights every pixel has for itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ntkit.nn.convolving import Sharing, Sliding
from ntkit.nn.dense import Parametrization
from ntkit.nn.state import KernelState
from ntkit.nn.windows import Padding, window_sums
from ntkit.numerics.trees import pytree


@pytree("width", "filter_shape", "strides", "padding", "parametrization")
@dataclass(frozen=True, eq=False)
class ConvTranspose(Sharing):
    """Transposed (fractionally strided) convolution: zeros between the pixels, then a convolution of stride 1.

    As `jax.lax.conv_transpose`: "same" padding gives strides times as many pixels, and so does "circular", where the
    enlarged image goes on at its opposite side. Kernels as those of `Conv`, on images with the zeros put in; they count
    in the mean.

    Args:
        width: number of output channels.
        filter_shape: pixels of the filter along each spatial axis.
        strides: how many times as many pixels come out along each axis; None for 1.
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
        return window_sums(enlarged, axes, sizes, self._steps) > 0

    @property
    def _steps(self) -> tuple[int, ...]:
        return (1,) * len(self.filter_shape)

    def _sizes(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        spread = zip(sizes, self.filter_shape, self._strides, strict=True)
        return tuple((size - 1) * stride + 2 + sum(self._edges(w, stride)) - w for size, w, stride in spread)

    def _edges(self, window: int, stride: int) -> tuple[int, int]:
        """Pixels before and behind, as `jax.lax.conv_transpose` puts them."""
        total = window + stride - 2
        if self.padding == "valid":
            return window - 1, total + max(window - stride, 0) - (window - 1)
        before = window - 1 if stride > window - 1 else -(-total // 2)
        return before, total - before

    def _surrounded(self, array: jax.Array, axes: Sequence[Sequence[int]]) -> jax.Array:
        """Put zeros between the pixels, and zeros or the opposite side around them."""
        widths, wrapped = [(0, 0, 0)] * array.ndim, [(0, 0)] * array.ndim
        for group, window, stride in zip(axes, self.filter_shape, self._strides, strict=True):
            before, behind = self._edges(window, stride)
            for axis in group:
                widths[axis] = (before, behind, stride - 1)
                if self.padding == "circular":
                    # A whole period has the zeros behind its last pixel, too.
                    widths[axis] = (0, stride - 1, stride - 1)
                    wrapped[axis] = (before, behind - (stride - 1))
        array = jax.lax.pad(array, jnp.zeros((), array.dtype), widths)
        return jnp.pad(array, wrapped, mode="wrap") if self.padding == "circular" else array


@pytree("width", "filter_shape", "strides", "padding", "parametrization")
@dataclass(frozen=True, eq=False)
class ConvLocal(Sliding):
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

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> dict[str, jax.Array]:
        sizes = self.output_shape(input_shape)[1:-1]
        weight = (*sizes, prod(self.filter_shape), input_shape[-1], self.width)
        return self._draw(key, weight, (*sizes, self.width))

    def apply(self, params: Any, x: Float[jax.Array, "n *s c"]) -> Float[jax.Array, "n *t k"]:
        self.output_shape(x.shape)
        entries = self._entries(jnp.moveaxis(x, -1, 1), len(self.filter_shape))
        product = jnp.einsum("knc...,...kcw->n...w", entries, params["weight"], precision="highest")
        return self._scaled(product, params["bias"], x.shape[-1])

    def propagate(self, state: KernelState) -> KernelState:
        after = self._convolved(state.at_pixels)
        return after if state.layout == "pixels" else after.uncorrelated_pixels
