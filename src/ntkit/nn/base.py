"""A network is an immutable value read two ways: as a finite function, and as its infinite-width limit."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ntkit.nn.law import Law
from ntkit.nn.state import KernelState
from ntkit.numerics.trees import Value


class Layer(Value, ABC):
    """One layer: `init` and `apply` are the finite network, `propagate` its action at infinite width."""

    @abstractmethod
    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> Any:
        """Draw the parameters of a finite layer, for inputs of `input_shape` (its last axis counts)."""

    @abstractmethod
    def apply(self, params: Any, x: Float[jax.Array, "*s c"]) -> Float[jax.Array, "*t k"]:
        """The finite layer's output at `x`, shape (n, *S, c): units on the last axis, pixels, if any, before."""

    @abstractmethod
    def propagate(self, state: KernelState) -> KernelState:
        """Both kernels after the layer, from both kernels before it; `through` also follows `own1` and `own2`."""

    def apply_present(self, params: Any, x: Any, present: Any) -> tuple[Any, Any]:
        """`apply` to images of which only the pixels `present` exist, shape (n, *S), and which pixels exist then.

        The others are 0 before, and again after, the layer. None stands for all pixels.
        """
        after = self.apply(params, x)
        return (after, None) if present is None else kept(after, self.presence(present))

    def presence(self, present: Any) -> Any:
        """Which pixels exist after the layer, from those before it, shape (n, *S); None where vectors come out."""
        return present

    def present(self, x: Any) -> Any:
        """Which pixels of raw inputs exist, shape (n, *S); None for all."""
        return None

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of `apply`'s result for inputs of `input_shape`.

        Raises:
            ValueError: for a shape that does not fit.
        """
        return input_shape

    def law(self, before: Law) -> Law:
        """The distribution of the values after the layer.

        Raises:
            ValueError: where the layer has no infinite-width limit on values of the law `before`.
        """
        return before

    def needs_means(self, before: Law) -> bool:
        """Whether a sum within the layer, on values of the law `before`, asks for the means of its summands."""
        return False

    @property
    def mixes_pixels(self) -> bool:
        """Whether covariances between different pixels matter to the kernels after the layer."""
        return False

    @property
    def needs_variances(self) -> bool:
        """Whether the layer asks for more of a pair than covariances."""
        return False

    @property
    def needs_own(self) -> bool:
        """Whether the layer asks for covariances between different pixels of one image."""
        return False

    @property
    def composite(self) -> bool:
        """Whether the layer consists of layers, and follows `own1` and `own2` through them by itself."""
        return False

    @property
    def random(self) -> bool:
        """Whether the finite network is random beyond its weights, so that an input meets itself in another draw."""
        return False

    def prepare(self, x: Any) -> Any:
        """What the layer does to raw inputs before any covariance exists; most layers do nothing."""
        return x

    @property
    def prepared(self) -> "Layer":
        """The layer for inputs that `prepare` has seen already."""
        return self

    @property
    def stands_first(self) -> bool:
        """Whether the layer acts on raw inputs, so that only others which do may stand before it."""
        return False

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
    """`through(layer, state)` as one compiled program."""
    return through(layer, state)


def kept(x: jax.Array, present: Any) -> tuple[jax.Array, Any]:
    """Values of images, 0 at pixels that do not exist, beside those that do."""
    return (x, None) if present is None else (jnp.where(present[..., None], x, 0.0), present)


def through(layer: Layer, state: KernelState) -> KernelState:
    """The state after a layer, and with it the images' own, which tell variances that pooling hides.

    What is absent is 0 after every layer.
    """
    if layer.composite:
        return layer.propagate(state)
    after = _through(layer, state)
    if state.present1 is None:
        return after
    return after.kept(layer.presence(state.present1), layer.presence(state.present2))


def _through(layer: Layer, state: KernelState) -> KernelState:
    if state.own1 is None:
        return layer.propagate(state)
    own1, own2 = through(layer, state.own1), through(layer, state.own2)
    after = layer.propagate(state)
    if after.var1 is None:
        (var1, _), (var2, _) = own1.variances, own2.variances
        after = after.with_variances(var1[:, None], var2[None])
    if after.spatial == 0:
        # From here on variances go by themselves.
        return replace(after, own1=None, own2=None)
    return replace(after, own1=own1, own2=own2)
