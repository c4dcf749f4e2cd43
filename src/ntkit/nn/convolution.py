"""The convolutional layer, finite and infinite, in both parametrisations."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
from ntkit.numerics.trees import as_leaf, pytree


@pytree("width", "filter_shape", "strides", "padding", "parametrization")
@dataclass(frozen=True, eq=False)
class Conv(Averaging):
    """Convolutional layer, `w_std / sqrt(k c) sum_q W_q x_(p+q) + b_std b`, in one to three spatial dimensions.

    With `W, b ~ N(0, 1)` entrywise, k pixels in the filter and c channels. At infinite width
    `nngp'(p, p') = w_std^2 mean_q nngp(p+q, p'+q) + b_std^2` and `ntk' = nngp' + w_std^2 mean_q ntk(p+q, p'+q)`
    (Novak et al. 2019, "Bayesian deep convolutional networks", eq. 7; Arora et al. 2019, section 4). Pixels that
    padding adds are 0 and count in the mean. In the standard parametrisation
    `ntk' = k c mean_q nngp(p+q, p'+q) + 1 + w_std^2 mean_q ntk(p+q, p'+q)`, as for `Dense`.

    Args:
        width: number of output channels; at infinite width it matters only to the standard parametrisation.
        filter_shape: pixels of the filter along each spatial axis.
        strides: pixels from one filter position to the next; None for 1 along each axis.
        padding: "same" (zeros), "valid" (none) or "circular" (the opposite side).
        w_std: standard deviation of the weights, at least 0.
        b_std: standard deviation of the biases, at least 0.
        parametrization: "ntk" or "standard".

    Raises:
        ValueError: for sizes below 1, an unknown padding, or a standard deviation that is negative or infinite.

    >>> import numpy as np
    >>> from ntkit import NNGP, nn
    >>> NNGP(nn.Serial(nn.Conv(16, (3, 3)), nn.Flatten()))(np.ones((1, 3, 3, 1)))  # 49 of 81 pairs lie inside
    array([[0.60493827]])
    """

    width: int
    filter_shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    padding: Padding = "same"
    w_std: Any = 1.0
    b_std: Any = 0.0
    parametrization: Parametrization = "ntk"

    def __post_init__(self) -> None:
        check_convolution("Conv", self)

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> dict[str, jax.Array]:
        check_spatial("Conv", input_shape, len(self.filter_shape))
        key_weight, key_bias = jax.random.split(key)
        weight = jax.random.normal(key_weight, (*self.filter_shape, input_shape[-1], self.width))
        return scaled_draw(self, weight, jax.random.normal(key_bias, (self.width,)))

    def apply(self, params: Any, x: Float[jax.Array, "n *s c"]) -> Float[jax.Array, "n *t k"]:
        self.output_shape(x.shape)
        axes = tuple((1 + axis,) for axis in range(len(self.filter_shape)))
        x = padded(x, axes, self.filter_shape, self._strides, self.padding)
        product = convolve(x, params["weight"], self._strides)
        return scaled_output(self, product, params["bias"], prod(self.filter_shape) * x.shape[-1])

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        sizes = check_spatial("Conv", input_shape, len(self.filter_shape))
        sizes = output_sizes("Conv", sizes, self.filter_shape, self._strides, self.padding)
        return (input_shape[0], *sizes, self.width)

    def law(self, before: Law) -> Law:
        return Law.weighted("Conv")

    def presence(self, present: Any) -> Any:
        return windows_present(present, self.filter_shape, self._strides, self.padding)

    @property
    def homogeneity(self) -> float | None:
        return 1.0 if float(self.b_std) == 0.0 else None

    def propagate(self, state: KernelState) -> KernelState:
        return with_tangent(self, state, self._averaged(state, self.w_std, self.b_std))

    @property
    def _strides(self) -> tuple[int, ...]:
        return self.strides or (1,) * len(self.filter_shape)

    def _average(self, array: jax.Array, axes: Sequence[Sequence[int]]) -> jax.Array:
        array = padded(array, axes, self.filter_shape, self._strides, self.padding)
        return window_sums(array, axes, self.filter_shape, self._strides) / prod(self.filter_shape)

    def _parts(self, values: jax.Array, spatial: int) -> jax.Array:
        axes = tuple((axis,) for axis in range(values.ndim - spatial, values.ndim))
        values = padded(values, axes, self.filter_shape, self._strides, self.padding)
        parts = window_parts(values, self.filter_shape, self._strides, spatial)
        return parts / prod(self.filter_shape) ** 0.5


def check_convolution(who: str, layer: Any) -> None:
    """Bring the fields that all convolutions share into form.

    Raises:
        ValueError: naming the field.
    """
    if layer.width < 1:
        raise ValueError(f"{who} needs a width of at least 1, got {layer.width}.")
    filter_shape = as_sizes(who, "filter_shape", layer.filter_shape)
    object.__setattr__(layer, "filter_shape", filter_shape)
    if layer.strides is not None:
        object.__setattr__(layer, "strides", as_sizes(who, "strides", layer.strides, len(filter_shape)))
    check_padding(who, layer.padding)
    if layer.parametrization not in ("ntk", "standard"):
        raise ValueError(f'{who} needs parametrization "ntk" or "standard", got {layer.parametrization!r}.')
    object.__setattr__(layer, "w_std", as_leaf(who, "w_std", layer.w_std, 0.0))
    object.__setattr__(layer, "b_std", as_leaf(who, "b_std", layer.b_std, 0.0))


def convolve(x: jax.Array, weight: jax.Array, strides: Sequence[int]) -> jax.Array:
    """Sums over filters that lie within `x`, shape (n, *S, c); the weight's is (*filter, c, width)."""
    spatial = "DHW"[-len(strides) :]
    numbers = (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C")
    return jax.lax.conv_general_dilated(
        x, weight, strides, "VALID", dimension_numbers=numbers, precision="highest"
    )


def scaled_draw(layer: Any, weight: jax.Array, bias: jax.Array) -> dict[str, jax.Array]:
    """Parameters from standard normal draws; the last axes of the weight but one are its fan-in's."""
    if layer.parametrization == "standard":
        fan_in = prod(layer.filter_shape) * weight.shape[-2]
        weight, bias = layer.w_std * weight / fan_in**0.5, layer.b_std * bias
    return {"weight": weight, "bias": bias}


def scaled_output(layer: Any, product: jax.Array, bias: jax.Array, fan_in: int) -> jax.Array:
    """The output from the product with the weights."""
    bias = bias.reshape((1,) * (product.ndim - bias.ndim) + bias.shape)
    if layer.parametrization == "standard":
        return product + jnp.where(jnp.asarray(layer.b_std) != 0, bias, 0.0)
    return layer.w_std * product / fan_in**0.5 + layer.b_std * bias


def with_tangent(layer: Any, before: KernelState, after: KernelState) -> KernelState:
    """`after` with the part of the tangent kernel that the layer's own parameters make, and its width."""
    if after.ntk is None:
        return replace(after, width=layer.width)
    own = after.nngp
    if layer.parametrization == "standard":
        fan_in = before.width * prod(layer.filter_shape)
        has_bias = jnp.where(jnp.asarray(layer.b_std) > 0, 1.0, 0.0).astype(own.dtype)
        own = fan_in * layer._average(before.nngp, before.axes) + has_bias
    return replace(after, ntk=own + after.ntk, width=layer.width)
