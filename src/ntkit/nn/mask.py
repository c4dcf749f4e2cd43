"""Sequences of unequal length, and images of unequal size, in one array: which pixels exist."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkit.nn.base import Layer, kept
from ntkit.nn.state import KernelState
from ntkit.numerics.dtypes import Array, is_concrete
from ntkit.numerics.trees import as_leaf, pytree


@pytree("value")
@dataclass(frozen=True, eq=False)
class Mask(Layer):
    """Leave out the pixels of the inputs whose channels all equal `value`: what shorter sequences were padded with.

    It stands first in a `Serial`. Absent pixels are 0 and stay 0 after every layer, biases and `phi(0)` or not, in the
    finite network as in both kernels. So a padded sequence has the kernels of the sequence by itself:

    - `GlobalAvgPool` divides by the number of pixels that exist, as `AvgPool(normalize_edges=True)` and `LayerNorm`
      over pixels do; sums are sums, and `Flatten` keeps the zeros.
    - `GlobalSelfAttention` gives absent pixels no weight.
    - A window of `Conv` or pooling exists with padding "valid" if all its pixels do, otherwise if its middle pixel
      does. With strides and padding "same" that equals the sequence by itself where strides divide both lengths; with
      "circular" padding the other side is that of the padded array.
    - An absent time of `Recurrent` carries nothing: the next one is a first one.
    - A branch's absent pixels are 0 in a sum; a pixel exists afterwards if it does in any branch.

    neural-tangents' `mask_constant` has the same meaning, but for windows without padding, of which it asks for the
    middle pixel, for `normalize_edges`, which counts masked pixels there, and for `LayerNorm` over pixels, where the
    `eps` of masked pixels counts.

    Args:
        value: what absent pixels are filled with; a number that no pixel of the data has in all its channels.

    Raises:
        ValueError: for a value that is not finite; on evaluation, for vectors, for an input without any pixel, and for
            one too short for the windows.

    >>> import numpy as np
    >>> from ntkit import NNGP, nn
    >>> network = nn.Serial(nn.Mask(-1.0), nn.Conv(8, (3,), b_std=1.0), nn.Relu(), nn.GlobalAvgPool())
    >>> padded = np.array([[[0.5], [2.0], [-1.0], [-1.0]]])
    >>> NNGP(network)(padded), NNGP(nn.Serial(*network.layers[1:]))(padded[:, :2])
    (array([[0.99323681]]), array([[0.99323681]]))
    """

    value: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", as_leaf("Mask", "value", self.value))

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> tuple[()]:
        self.output_shape(input_shape)
        return ()

    def apply(self, params: Any, x: jax.Array) -> jax.Array:
        return self.apply_present(params, x, None)[0]

    def apply_present(self, params: Any, x: Any, present: Any) -> tuple[Any, Any]:
        present = self.present(x)
        _check_some(present, "x")
        return kept(x, present)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(input_shape) < 3:
            raise ValueError(
                f"Mask needs inputs of shape (n, *pixels, channels), got shape {tuple(input_shape)}. Vectors have no "
                "pixels; leave it out."
            )
        return input_shape

    def present(self, x: Any) -> Any:
        self.output_shape(x.shape)
        return (x != np.asarray(self.value, x.dtype)).any(axis=-1)

    def prepare(self, x: Any) -> Any:
        library = np if isinstance(x, np.ndarray) else jnp
        return library.where(self.present(x)[..., None], x, library.zeros((), x.dtype))

    @property
    def stands_first(self) -> bool:
        return True

    @property
    def homogeneity(self) -> None:
        """None: scaled inputs are padded with another value."""
        return None

    def propagate(self, state: KernelState) -> KernelState:
        """The absent pixels are 0 from the beginning."""
        return state


def check_present(network: Layer, x: Array, name: str) -> None:
    """Raise when of a concrete input of a masked network no pixel is left, before or after some layer.

    Args:
        network: the network.
        x: raw inputs.
        name: of the argument.

    Raises:
        ValueError: naming the argument, the input and the layer.
    """
    if not network.stands_first or not is_concrete(x):
        return
    network.output_shape(x.shape)
    present = network.present(x)
    _check_some(present, name)
    for layer in getattr(network, "layers", ()):
        present = None if present is None else layer.presence(present)
        _check_some(present, name, f" after {layer!r}, for which it is too short")


def _check_some(present: Any, name: str, where: str = "") -> None:
    if present is None or not is_concrete(present):
        return
    some = np.asarray(present).any(axis=tuple(range(1, present.ndim)))
    if not some.all():
        raise ValueError(
            f"Mask needs at least one pixel of every input that exists, got none of {name}[{int(np.argmin(some))}]"
            f"{where}. Leave this input out."
        )
