"""A network is an immutable value read two ways: as a finite function, and as its infinite-width limit."""

from abc import ABC, abstractmethod
from typing import Any

import jax
from jaxtyping import Float

from ntkit.nn.state import KernelState
from ntkit.numerics.trees import Value


class Layer(Value, ABC):
    """One layer: `init` and `apply` are the finite network, `propagate` its action at infinite width."""

    @abstractmethod
    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> Any:
        """Draw the parameters of a finite layer, for inputs of `input_shape` (its last axis counts)."""

    @abstractmethod
    def apply(self, params: Any, x: Float[jax.Array, "*n c"]) -> Float[jax.Array, "*n k"]:
        """The finite layer's output at `x`, units on the last axis."""

    @abstractmethod
    def propagate(self, state: KernelState) -> KernelState:
        """Both kernels after the layer, from both kernels before it."""

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of `apply`'s result for inputs of `input_shape`."""
        return input_shape

    def prepare(self, x: Any) -> Any:
        """What the layer does to raw inputs before any covariance exists; most layers do nothing."""
        return x

    @property
    def homogeneity(self) -> float | None:
        """The power h with `K(s x, s' x') = (s s')^h K(x, x')` for both kernels and all s, s' > 0; None without."""
        return None

    @property
    def adaptable(self) -> bool:
        """Whether `adapt` would change the layer."""
        return False

    def adapt(self, state: KernelState, resolution: float) -> "Layer":
        """The layer with its numerical settings fixed for concrete variances (orders of expansions).

        Args:
            state: the diagonal state before the layer, float64.
            resolution: relative spacing of the dtype the kernel is wanted in; no setting need be finer.
        """
        return self


@jax.jit
def propagate_compiled(layer: Layer, state: KernelState) -> KernelState:
    """`layer.propagate(state)` as one compiled program."""
    return layer.propagate(state)
