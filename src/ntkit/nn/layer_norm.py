"""Layer normalisation."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from ntkit.nn.base import Layer, kept
from ntkit.nn.law import Law
from ntkit.nn.state import KernelState
from ntkit.numerics.safe import safe_divide, safe_sqrt
from ntkit.numerics.trees import as_leaf, pytree


@pytree("axes")
@dataclass(frozen=True, eq=False)
class LayerNorm(Layer):
    """Layer normalisation, `(x - mean(x)) / sqrt(var(x) + eps)` over channels and perhaps pixels, without parameters.

    After weights and at infinite width the mean over channels vanishes and the variance is the NNGP's own:
    `nngp'(p, p') = nngp(p, p') / sqrt((v(p) + eps) (v'(p') + eps))`, with v the variances, averaged over `axes`, and
    `ntk'` scaled alike, since the normalisation no longer depends on any one weight (Ba et al. 2016 for the layer;
    Yang 2019, "Tensor programs I", for the limit).

    Args:
        axes: of arrays (n, *S, c), counted from the end as -1 (channels), or -1 and axes of pixels.
        eps: added to the variance, at least 0.

    Raises:
        ValueError: when the channels are not among the axes, or `eps` is negative.
    """

    axes: tuple[int, ...] = (-1,)
    eps: Any = 1e-12

    def __post_init__(self) -> None:
        axes = tuple(self.axes) if isinstance(self.axes, list | tuple) else (self.axes,)
        if -1 not in axes or not all(isinstance(axis, int) and -4 <= axis < 0 for axis in axes):
            raise ValueError(
                f"LayerNorm needs axes counted from the end, the channels -1 among them, got {self.axes!r}. Without "
                "the channels there is no limit at infinite width."
            )
        object.__setattr__(self, "axes", axes)
        object.__setattr__(self, "eps", as_leaf("LayerNorm", "eps", self.eps, 0.0))

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> tuple[()]:
        self.output_shape(input_shape)
        return ()

    def apply(self, params: Any, x: jax.Array) -> jax.Array:
        return self.apply_present(params, x, None)[0]

    def apply_present(self, params: Any, x: Any, present: Any) -> tuple[Any, Any]:
        where = None if present is None else present[..., None]
        centred = x - _mean(x, self.axes, where)
        norm = jnp.sqrt(_mean(jnp.square(centred), self.axes, where) + self.eps)
        return kept(centred / norm, present)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        if -min(self.axes) > len(input_shape) - 1:
            raise ValueError(f"LayerNorm needs inputs with axes {self.axes}, got shape {tuple(input_shape)}.")
        return input_shape

    def law(self, before: Law) -> Law:
        if before.kind not in ("gaussian", "unknown"):
            raise ValueError(
                f"LayerNorm needs Gaussian values of mean zero, got those after {before.source}. Put it after a Dense "
                "or Conv layer, before the activation."
            )
        return before

    @property
    def needs_variances(self) -> bool:
        return True

    def propagate(self, state: KernelState) -> KernelState:
        pair, eps = state.pair, jnp.asarray(self.eps, state.nngp.dtype)
        pixels = tuple(axis + 1 for axis in self.axes if axis != -1)
        factors = []
        for var, where in zip(state.variances, state.presences, strict=True):
            norm = safe_sqrt((_mean(var, pixels, where) if pixels else var) + eps)
            factors.append(jnp.broadcast_to(safe_divide(jnp.ones_like(norm), norm, 0.0), var.shape))
        factor1, factor2 = state.along1(factors[0]), state.along2(factors[1])
        if state.alike:
            factor2 = factor1
        scale = factor1 * factor2
        return replace(
            state,
            nngp=scale * state.nngp,
            ntk=None if state.ntk is None else scale * state.ntk,
            var1=factor1 * factor1 * pair.var1,
            var2=factor2 * factor2 * pair.var2,
        )


def _mean(values: jax.Array, axes: tuple[int, ...], where: Any) -> jax.Array:
    """The mean over those entries of each slice that exist, with axes kept; 0 where none does."""
    if where is None:
        return jnp.mean(values, axis=axes, keepdims=True)
    where = jnp.broadcast_to(where, values.shape)
    total = jnp.sum(jnp.where(where, values, 0.0), axis=axes, keepdims=True)
    return total / jnp.maximum(jnp.sum(where, axis=axes, keepdims=True), 1).astype(values.dtype)
