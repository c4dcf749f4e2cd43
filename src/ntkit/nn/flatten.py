"""Images to vectors, pixel by pixel."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ntkit.nn.averaging import Averaging
from ntkit.nn.law import Law
from ntkit.nn.state import KernelState, pixel_diagonal
from ntkit.numerics.trees import pytree


@pytree()
@dataclass(frozen=True, eq=False)
class Flatten(Averaging):
    """Lay an image's pixels and channels out as one vector, (n, *S, c) to (n, P c); vectors pass unchanged.

    At infinite width both kernels are means over equal pixels, `nngp' = mean_p nngp(p, p)`: the covariances of
    different pixels play no part, which makes a network that ends so far cheaper than one that pools
    (Novak et al. 2019, section 3.1).
    """

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> tuple[()]:
        return ()

    def apply(self, params: Any, x: Float[jax.Array, "n *s"]) -> Float[jax.Array, "n k"]:
        return x.reshape(self.output_shape(x.shape))

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (input_shape[0], prod(input_shape[1:]))

    def prepare(self, x: Any) -> Any:
        """Before any weights an image is a vector, and a network on vectors knows nearly parallel ones best."""
        return x.reshape(self.output_shape(x.shape))

    def presence(self, present: Any) -> None:
        return None

    def law(self, before: Law) -> Law:
        return before if before.kind == "unknown" else replace(before, source="Flatten", alike=False)

    @property
    def homogeneity(self) -> float:
        return 1.0

    def propagate(self, state: KernelState) -> KernelState:
        if not state.spatial:
            return state
        return replace(self._averaged(state, spatial=0), width=state.width * prod(state.shape))

    def _average(self, array: jax.Array, axes: Sequence[Sequence[int]]) -> jax.Array:
        first = axes[0][0]
        return jnp.mean(pixel_diagonal(array, tuple(map(tuple, axes))), axis=range(first, first + len(axes)))

    def _parts(self, values: jax.Array, spatial: int) -> jax.Array:
        split = values.ndim - spatial
        pixels = prod(values.shape[split:])
        return jnp.moveaxis(values.reshape(*values.shape[:split], pixels), -1, 0) / pixels**0.5
