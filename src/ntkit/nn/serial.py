"""Layers one after the other."""

from typing import Any

import jax
from jaxtyping import Float

from ntkit.nn.base import Layer, propagate_compiled
from ntkit.nn.scale import Scale
from ntkit.nn.state import KernelState


class Serial(Layer):
    """The composition of layers, the first applied first.

    Args:
        layers: the layers in order; nested `Serial`s are flattened into one.

    Raises:
        ValueError: when it is empty, when something is not a layer, or when `Scale` is not in front.
    """

    layers: tuple[Layer, ...]

    def __init__(self, *layers: Layer) -> None:
        flat: list[Layer] = []
        for position, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                hint = " Did you mean to call the class, as in Relu()?" if isinstance(layer, type) else ""
                raise ValueError(f"Serial needs layers, got {layer!r} at position {position}.{hint}")
            flat.extend(layer.layers if isinstance(layer, Serial) else (layer,))
        if not flat:
            raise ValueError("Serial needs at least one layer, got none.")
        for position, layer in enumerate(flat[1:], start=1):
            if isinstance(layer, Scale) and not isinstance(flat[position - 1], Scale):
                raise ValueError(
                    f"Scale needs to stand first, on the inputs, got position {position}. Move it."
                )
        object.__setattr__(self, "layers", tuple(flat))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"Serial is immutable; build a new one instead of setting {name}.")

    def __repr__(self) -> str:
        return f"Serial({', '.join(map(repr, self.layers))})"

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> tuple[Any, ...]:
        params = []
        for layer, layer_key in zip(self.layers, jax.random.split(key, len(self.layers)), strict=True):
            params.append(layer.init(layer_key, input_shape))
            input_shape = layer.output_shape(input_shape)
        return tuple(params)

    def apply(self, params: Any, x: Float[jax.Array, "*n c"]) -> Float[jax.Array, "*n k"]:
        for layer, layer_params in zip(self.layers, params, strict=True):
            x = layer.apply(layer_params, x)
        return x

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        for layer in self.layers:
            input_shape = layer.output_shape(input_shape)
        return input_shape

    def prepare(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer.prepare(x)
        return x

    def propagate(self, state: KernelState) -> KernelState:
        for layer in self.layers:
            state = layer.propagate(state)
        return state

    @property
    def adaptable(self) -> bool:
        return any(layer.adaptable for layer in self.layers)

    def adapt(self, state: KernelState, resolution: float) -> "Serial":
        adapted = list(self.layers)
        remaining = sum(layer.adaptable for layer in adapted)
        for position, layer in enumerate(adapted):
            if not remaining:
                break
            remaining -= layer.adaptable
            adapted[position] = layer.adapt(state, resolution)
            state = propagate_compiled(adapted[position], state)
        return Serial(*adapted)


def _flatten(serial: Serial) -> tuple[tuple[Layer, ...], None]:
    return serial.layers, None


def _flatten_with_keys(serial: Serial) -> tuple[tuple, None]:
    return tuple((jax.tree_util.SequenceKey(i), layer) for i, layer in enumerate(serial.layers)), None


def _unflatten(_: None, layers: Any) -> Serial:
    serial = object.__new__(Serial)
    object.__setattr__(serial, "layers", tuple(layers))
    return serial


jax.tree_util.register_pytree_with_keys(Serial, _flatten_with_keys, _unflatten, _flatten)
