"""Layers one after the other."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ntkit.nn.base import Layer, propagate_compiled, through
from ntkit.nn.dense import Dense
from ntkit.nn.law import Law
from ntkit.nn.mask import Mask
from ntkit.nn.scale import Scale
from ntkit.nn.state import KernelState

MAX_PERIOD = 4
"""The longest block of layers whose repetition is looked for."""

MIN_REPEATS = 5
"""From how many equal blocks on a network is compiled as a loop: unrolled, compilation grows quadratically."""


class Serial(Layer):
    """The composition of layers, the first applied first.

    Args:
        layers: the layers in order; nested `Serial`s are flattened into one.

    Raises:
        ValueError: when it is empty, when something is not a layer, when one that acts on raw inputs (`Scale`, `Mask`)
            is not in front, or when a layer has no infinite-width limit after those before it; the text names its
            position.
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
            if layer.stands_first and not _may_follow(layer, flat[:position]):
                raise ValueError(f"{refused_place(layer)}, got position {position}. Move it.")
        object.__setattr__(self, "layers", tuple(flat))
        self.law(Law.unknown())

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"Serial is immutable; build a new one instead of setting {name}.")

    def __repr__(self) -> str:
        return f"Serial({', '.join(map(repr, self.layers))})"

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> tuple[Any, ...]:
        params = []
        shapes = self._shapes(input_shape)
        keys = jax.random.split(key, len(self.layers))
        for layer, layer_key, shape in zip(self.layers, keys, shapes, strict=False):
            params.append(layer.init(layer_key, shape))
        return tuple(params)

    def apply(self, params: Any, x: Float[jax.Array, "*s c"]) -> Float[jax.Array, "*t k"]:
        return self.apply_present(params, x, None)[0]

    def apply_present(self, params: Any, x: Any, present: Any) -> tuple[Any, Any]:
        for layer, layer_params in zip(self.layers, params, strict=True):
            x, present = layer.apply_present(layer_params, x, present)
        return x, present

    def presence(self, present: Any) -> Any:
        for layer in self.layers:
            present = None if present is None else layer.presence(present)
        return present

    def present(self, x: Any) -> Any:
        return self.layers[0].present(x)

    @property
    def stands_first(self) -> bool:
        return self.layers[0].stands_first

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._shapes(input_shape)[-1]

    def _shapes(self, input_shape: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The shapes before each layer and after the last; a shape that does not fit is told with its position."""
        shapes = [tuple(input_shape)]
        for position, layer in enumerate(self.layers):
            with _at(position):
                shapes.append(layer.output_shape(shapes[-1]))
        return shapes

    def law(self, before: Law) -> Law:
        for position, layer in enumerate(self.layers):
            with _at(position):
                before = layer.law(before)
        return before

    def needs_means(self, before: Law) -> bool:
        for layer in self.layers:
            if layer.needs_means(before):
                return True
            before = layer.law(before)
        return False

    @property
    def composite(self) -> bool:
        return True

    @property
    def mixes_pixels(self) -> bool:
        return any(layer.mixes_pixels for layer in self.layers)

    @property
    def needs_variances(self) -> bool:
        return any(layer.needs_variances for layer in self.layers)

    @property
    def needs_own(self) -> bool:
        mixed = False
        for layer in self.layers:
            if layer.needs_own or (mixed and layer.needs_variances):
                return True
            mixed = mixed or layer.mixes_pixels
        return False

    @property
    def random(self) -> bool:
        return any(layer.random for layer in self.layers)

    def prepare(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer.prepare(x)
            if not layer.stands_first:
                break
        return x

    @property
    def prepared(self) -> "Serial":
        layers = tuple(layer.prepared for layer in self.layers)
        return (
            self
            if all(one is other for one, other in zip(layers, self.layers, strict=True))
            else Serial(*layers)
        )

    def propagate(self, state: KernelState) -> KernelState:
        position = 0
        while position < len(self.layers):
            period, repeats = _repetition(self.layers[position:])
            state = _propagate_through(self.layers[position : position + period], state)
            position += period
            if repeats > 1:
                # The first block may change the width, which a loop may not.
                end = position + period * (repeats - 1)
                blocks = [self.layers[i : i + period] for i in range(position, end, period)]
                state = _propagate_repeated(blocks, state)
                position = end
        return state

    @property
    def homogeneity(self) -> float | None:
        powers = [layer.homogeneity for layer in self.layers]
        known = [power for power in powers if power is not None]
        return prod(known) if len(known) == len(powers) else None

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


def refused_place(layer: Layer) -> str:
    """What is wrong with a layer on raw inputs that does not stand first."""
    name = type(layer).__name__
    return f"{name if name in ('Scale', 'Mask') else repr(layer)} needs to stand first, on the inputs"


def _may_follow(layer: Layer, before: list[Layer]) -> bool:
    """Whether a layer on raw inputs may stand behind others: `Mask`, then `Scale`, or `Scale`, then `Dense(axis=)`."""
    if isinstance(layer, Scale) and isinstance(before[0], Mask):
        before = before[1:]
    return isinstance(layer, Scale | Dense) and all(isinstance(other, Scale) for other in before)


def _propagate_through(layers: tuple[Layer, ...], state: KernelState) -> KernelState:
    for layer in layers:
        state = through(layer, state)
    return state


@contextmanager
def _at(position: int) -> Iterator[None]:
    """Say where in a `Serial` a layer was refused."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"At position {position} of Serial: {error}") from None


def _repetition(layers: tuple[Layer, ...]) -> tuple[int, int]:
    """The period and number of equal-structured blocks at the front of `layers`, for a loop to run over.

    One block of one layer where nothing repeats often enough: short networks run faster unrolled.
    """

    def structure(period: int, start: int) -> tuple:
        leaves, tree = jax.tree_util.tree_flatten(layers[start : start + period])
        return tree, tuple(jnp.shape(leaf) for leaf in leaves)

    best = (1, 1)
    for period in range(1, MAX_PERIOD + 1):
        first, repeats = structure(period, 0), 1
        while structure(period, repeats * period) == first:
            repeats += 1
        if repeats >= MIN_REPEATS and repeats * period > best[0] * best[1]:
            best = (period, repeats)
    return best


def _propagate_repeated(blocks: list[tuple[Layer, ...]], state: KernelState) -> KernelState:
    """Blocks of one structure as a loop, whose compilation does not grow with their number.

    Where they change the shape of the state, as convolutions without padding do, there can be no loop.
    """
    after = jax.eval_shape(_propagate_through, blocks[0], state)
    if _form(after) != _form(state):
        for block in blocks:
            state = _propagate_through(block, state)
        return state
    stacked = jax.tree_util.tree_map(
        lambda *leaves: jnp.stack([jnp.asarray(leaf, state.nngp.dtype) for leaf in leaves]), *blocks
    )

    def step(carry: KernelState, block: tuple[Layer, ...]) -> tuple[KernelState, None]:
        return _propagate_through(block, carry), None

    return jax.lax.scan(step, state, stacked)[0]


def _form(state: KernelState) -> tuple:
    leaves, tree = jax.tree_util.tree_flatten(state)
    return tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves)


def _flatten(serial: Serial) -> tuple[tuple[Layer, ...], None]:
    return serial.layers, None


def _flatten_with_keys(serial: Serial) -> tuple[tuple, None]:
    return tuple((jax.tree_util.SequenceKey(i), layer) for i, layer in enumerate(serial.layers)), None


def _unflatten(_: None, layers: Any) -> Serial:
    serial = object.__new__(Serial)
    object.__setattr__(serial, "layers", tuple(layers))
    return serial


jax.tree_util.register_pytree_with_keys(Serial, _flatten_with_keys, _unflatten, _flatten)
