"""Layers without weights that mix pixels: linear maps of an image, applied to both sides of every covariance."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import jax

from ntkit.nn.base import Layer, kept
from ntkit.nn.state import KernelState


class Mixing(Layer):
    """A linear map `y_p = sum_q M_pq x_q` over pixels: `nngp'(p, p') = sum_qq' M_pq M_p'q' nngp(q, q')`, as `ntk'`.

    Covariances between different pixels matter to it, and for variances afterwards those of one image with itself.
    """

    @abstractmethod
    def _mix(self, array: jax.Array, axes: Sequence[int]) -> jax.Array:
        """Apply M along neighbouring spatial axes of any array."""

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> tuple[()]:
        self.output_shape(input_shape)
        return ()

    def apply(self, params: Any, x: jax.Array) -> jax.Array:
        self.output_shape(x.shape)
        return self._mix(x, range(1, x.ndim - 1))

    def apply_present(self, params: Any, x: Any, present: Any) -> tuple[Any, Any]:
        after = self.apply(params, x)
        if present is None:
            return after, None
        factor = self._factor(present, x.dtype)
        return kept(after if factor is None else factor[..., None] * after, self.presence(present))

    def _factor(self, present: Any, dtype: Any) -> jax.Array | None:
        """What results are multiplied by where only some pixels exist, shape (n, *T); None for nothing."""
        return None

    @property
    def homogeneity(self) -> float | None:
        return 1.0

    @property
    def mixes_pixels(self) -> bool:
        return True

    def propagate(self, state: KernelState) -> KernelState:
        require_pairs(type(self).__name__, state)
        factors = (None, None)
        if state.present1 is not None:
            dtype = state.nngp.dtype
            factors = self._factor(state.present1, dtype), self._factor(state.present2, dtype)
        return mixed(state, lambda array, axes, _: self._mix(array, axes), factors)


def require_pairs(who: str, state: KernelState) -> None:
    """Raise where covariances between different pixels are not at hand."""
    if state.spatial == 0:
        raise ValueError(f"{who} needs images, got vectors. Leave out Flatten and pooling before it.")
    if state.layout != "pairs":
        raise ValueError(
            f"{who} needs covariances between different pixels, got those of equal pixels. Evaluate the whole network "
            "by NNGP(network) or NTK(network), which follow them."
        )


def mixed(state: KernelState, mix: Any, factors: Any = (None, None)) -> KernelState:
    """The state after `mix(array, axes, side)` of the pixels of either side of both kernels.

    The results of either side are multiplied by its factor, shapes (n1, *T) and (n2, *T), where there is one; so are
    means. Variances are those of `nngp` itself in a block of images with themselves, and left open otherwise.
    """
    first, spatial = state.batch, state.spatial
    sides = (range(first, first + spatial), range(first + spatial, first + 2 * spatial))

    def one(array: jax.Array, axes: Sequence[int], side: int) -> jax.Array:
        array = mix(array, axes, side)
        factor = factors[side]
        if factor is None:
            return array
        shape = [1] * array.ndim
        shape[0 if state.same else side] = len(factor)
        shape[axes[0] : axes[0] + factor.ndim - 1] = factor.shape[1:]
        return factor.reshape(shape) * array

    def both(array: jax.Array) -> jax.Array:
        # The second side first: where pixels vanish, the others keep their place.
        return one(one(array, sides[1], 1), sides[0], 0)

    after = state.with_covariances(both(state.nngp), None if state.ntk is None else both(state.ntk))
    return after.with_means(lambda mean, side: one(mean, sides[0], side), state)
