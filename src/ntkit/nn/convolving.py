"""What all convolutions share: averages over windows, and weights in either parametrisation."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ntkit.nn.averaging import Averaging
from ntkit.nn.dense import Parametrization
from ntkit.nn.law import Law
from ntkit.nn.state import KernelState
from ntkit.nn.windows import (
    Padding,
    as_sizes,
    check_padding,
    check_spatial,
    output_sizes,
    padded,
    window_parts,
    window_sums,
    windows_present,
)
from ntkit.numerics.trees import as_leaf


class Convolving(Averaging):
    """Weighted sums over windows that slide over pixels; a subclass says which windows, and who shares weights."""

    width: int
    filter_shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    padding: Padding
    w_std: Any
    b_std: Any
    parametrization: Parametrization

    def __post_init__(self) -> None:
        """Check the fields and bring them into form.

        Raises:
            ValueError: naming the field.
        """
        who = type(self).__name__
        if self.width < 1:
            raise ValueError(f"{who} needs a width of at least 1, got {self.width}.")
        filter_shape = as_sizes(who, "filter_shape", self.filter_shape)
        object.__setattr__(self, "filter_shape", filter_shape)
        if self.strides is not None:
            object.__setattr__(self, "strides", as_sizes(who, "strides", self.strides, len(filter_shape)))
        check_padding(who, self.padding)
        if self.parametrization not in ("ntk", "standard"):
            raise ValueError(
                f'{who} needs parametrization "ntk" or "standard", got {self.parametrization!r}.'
            )
        object.__setattr__(self, "w_std", as_leaf(who, "w_std", self.w_std, 0.0))
        object.__setattr__(self, "b_std", as_leaf(who, "b_std", self.b_std, 0.0))

    @abstractmethod
    def _sizes(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Pixels afterwards along each axis, of `sizes` before.

        Raises:
            ValueError: when a window does not fit.
        """

    @abstractmethod
    def _surrounded(self, array: jax.Array, axes: Sequence[Sequence[int]]) -> jax.Array:
        """An array with all pixels that windows see, along every one of the axes that stand for a spatial axis."""

    @property
    @abstractmethod
    def _steps(self) -> tuple[int, ...]:
        """Pixels of a surrounded array from one window to the next."""

    @property
    def _strides(self) -> tuple[int, ...]:
        return self.strides or (1,) * len(self.filter_shape)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        sizes = check_spatial(type(self).__name__, input_shape, len(self.filter_shape))
        return (input_shape[0], *self._sizes(sizes), self.width)

    def law(self, before: Law) -> Law:
        return Law.weighted(type(self).__name__)

    def presence(self, present: Any) -> Any:
        return windows_present(present, self.filter_shape, self._strides, self.padding)

    @property
    def homogeneity(self) -> float | None:
        return 1.0 if float(self.b_std) == 0.0 else None

    def _average(self, array: jax.Array, axes: Sequence[Sequence[int]]) -> jax.Array:
        total = window_sums(self._surrounded(array, axes), axes, self.filter_shape, self._steps)
        return total / prod(self.filter_shape)

    def _parts(self, values: jax.Array, spatial: int) -> jax.Array:
        return self._entries(values, spatial) / prod(self.filter_shape) ** 0.5

    def _entries(self, values: jax.Array, spatial: int) -> jax.Array:
        """The pixels of every window, shape (entries, ..., *T); the last axes of `values` are spatial."""
        axes = tuple((axis,) for axis in range(values.ndim - spatial, values.ndim))
        return window_parts(self._surrounded(values, axes), self.filter_shape, self._steps, spatial)

    def _draw(self, key: jax.Array, weight: tuple[int, ...], bias: tuple[int, ...]) -> dict[str, jax.Array]:
        """Parameters of these shapes; the last axis of the weight but one is its channels before."""
        key_weight, key_bias = jax.random.split(key)
        weights, biases = jax.random.normal(key_weight, weight), jax.random.normal(key_bias, bias)
        if self.parametrization == "standard":
            fan_in = prod(self.filter_shape) * weight[-2]
            weights, biases = self.w_std * weights / fan_in**0.5, self.b_std * biases
        return {"weight": weights, "bias": biases}

    def _scaled(self, product: jax.Array, bias: jax.Array, channels: int) -> jax.Array:
        """The output from the product with the weights."""
        bias = bias.reshape((1,) * (product.ndim - bias.ndim) + bias.shape)
        if self.parametrization == "standard":
            return product + jnp.where(jnp.asarray(self.b_std) != 0, bias, 0.0)
        return self.w_std * product / (prod(self.filter_shape) * channels) ** 0.5 + self.b_std * bias

    def _convolved(self, state: KernelState) -> KernelState:
        """Both kernels after the layer, at the same offsets of pixels as before it."""
        after = self._averaged(state.weighted, self.w_std, self.b_std)
        if after.ntk is None:
            return replace(after, width=self.width)
        own = after.nngp
        if self.parametrization == "standard":
            fan_in = state.width * prod(self.filter_shape)
            has_bias = jnp.where(jnp.asarray(self.b_std) > 0, 1.0, 0.0).astype(own.dtype)
            own = fan_in * self._average(state.nngp, state.axes) + has_bias
        return replace(after, ntk=own + after.ntk, width=self.width)


class Sliding(Convolving):
    """Convolutions whose windows slide over the image as it is, padded."""

    @property
    def _steps(self) -> tuple[int, ...]:
        return self._strides

    def _sizes(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        return output_sizes(type(self).__name__, sizes, self.filter_shape, self._strides, self.padding)

    def _surrounded(self, array: jax.Array, axes: Sequence[Sequence[int]]) -> jax.Array:
        return padded(array, axes, self.filter_shape, self._strides, self.padding)


class Sharing(Convolving):
    """Convolutions whose weights all pixels share."""

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> dict[str, jax.Array]:
        check_spatial(type(self).__name__, input_shape, len(self.filter_shape))
        return self._draw(key, (*self.filter_shape, input_shape[-1], self.width), (self.width,))

    def apply(self, params: Any, x: Float[jax.Array, "n *s c"]) -> Float[jax.Array, "n *t k"]:
        self.output_shape(x.shape)
        x = self._surrounded(x, tuple((1 + axis,) for axis in range(len(self.filter_shape))))
        spatial = "DHW"[-len(self.filter_shape) :]
        product = jax.lax.conv_general_dilated(
            x,
            params["weight"],
            self._steps,
            "VALID",
            dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
            precision="highest",
        )
        return self._scaled(product, params["bias"], x.shape[-1])

    def propagate(self, state: KernelState) -> KernelState:
        return self._convolved(state)
