"""Layers that average over a receptive field, the same around either pixel: convolutions, flattening, selections."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp

from ntkit.nn.base import Layer
from ntkit.nn.dense import snapped, unit
from ntkit.nn.state import KernelState
from ntkit.numerics.safe import safe_sqrt


class Averaging(Layer):
    """A layer whose outputs at pixels p and p' depend on inputs at equal offsets from p and from p'.

    A subclass says which by two linear maps; `_averaged` makes of them the states' action, accurate also where two
    inputs nearly coincide.
    """

    @abstractmethod
    def _average(self, array: jax.Array, axes: Sequence[Sequence[int]]) -> jax.Array:
        """The mean over the receptive field of an array over pixels (each spatial axis once) or pairs (twice)."""

    @abstractmethod
    def _parts(self, values: jax.Array, spatial: int) -> jax.Array:
        """Entries of the receptive field, shape (entries, ..., *T), such that their squares sum to the mean square.

        The spatial axes of `values` are its last ones.
        """

    def _averaged(
        self, state: KernelState, w: Any = 1.0, b: Any = 0.0, spatial: int | None = None
    ) -> KernelState:
        """`w^2 A[.] + b^2` of covariances, with A the average; `ntk` without the layer's own part.

        Args:
            state: before the layer.
            w: standard deviation of the weights.
            b: standard deviation of the biases.
            spatial: the number of spatial axes after the layer, where it differs.
        """
        dtype = state.nngp.dtype
        w, b = jnp.asarray(w, dtype), jnp.asarray(b, dtype)
        w2, b2 = w * w, b * b
        spatial = state.spatial if spatial is None else spatial
        nngp = w2 * self._average(state.nngp, state.axes) + b2
        ntk = None if state.ntk is None else w2 * self._average(state.ntk, state.axes)
        layout = state.layout if spatial else "pixels"
        once = tuple((state.batch + axis,) for axis in range(state.spatial))
        after = replace(state, nngp=nngp, ntk=ntk, spatial=spatial, layout=layout)
        after = after.with_means(lambda mean, _: self._average(mean, once), state)
        if state.alike or (state.same and not spatial):
            return replace(
                after,
                var1=nngp,
                var2=nngp,
                defect=jnp.zeros_like(nngp),
                surplus=jnp.full_like(nngp, 2.0),
            )
        if state.var1 is None:
            return after
        before = state.variances
        var1, var2 = (w2 * self._average(var, once) + b2 for var in before)
        # Each output is a unit vector: one entry for every pixel of its receptive field, in a direction of that pixel,
        # and one for the bias. As in `Dense`, half a squared distance is 1 - rho' without cancellation.
        (parts1, lift1), (parts2, lift2) = (
            self._unit(w, b, old, new, state.spatial) for old, new in zip(before, (var1, var2), strict=True)
        )
        apart = jnp.sum(jnp.square(after.along1(parts1) - after.along2(parts2)), axis=0)
        lift1, lift2 = after.along1(lift1), after.along2(lift2)
        scale = state.pair.scale
        var1, var2 = after.along1(var1), after.along2(var2)
        alive = (var1 > 0) & (var2 > 0)
        total = jnp.where(alive, safe_sqrt(var1) * safe_sqrt(var2), 1.0)
        distances = []
        for distance, gap in ((state.defect, lift1 - lift2), (state.surplus, lift1 + lift2)):
            kept = w2 * self._average(scale * distance, state.axes) / total
            distances.append(jnp.where(alive, snapped(kept + 0.5 * (apart + jnp.square(gap))), 1.0))
        return replace(after, var1=var1, var2=var2, defect=distances[0], surplus=distances[1])

    def _unit(
        self, w: jax.Array, b: jax.Array, before: jax.Array, var: jax.Array, spatial: int
    ) -> tuple[jax.Array, jax.Array]:
        """The shares of every entry of the receptive field, and of the bias, in the standard deviation afterwards."""
        root = safe_sqrt(var)
        parts = self._parts(safe_sqrt(before), spatial)
        return unit(w, b, parts, root[None])[0], unit(w, b, root, root)[1]
