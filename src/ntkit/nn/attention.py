"""Self-attention over all pixels, in the two scalings that have an exact limit."""

from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ntkit.nn.base import Layer, kept, through
from ntkit.nn.law import Law
from ntkit.nn.mixing import require_pairs
from ntkit.nn.positions import PositionalEmbedding
from ntkit.nn.state import KernelState
from ntkit.numerics.trees import as_leaf, pytree

_STDS = ("query_std", "key_std", "value_std", "out_std", "b_std")


@pytree("width", "heads", "head_width", "scaling", "mechanism")
@dataclass(frozen=True, eq=False)
class GlobalSelfAttention(Layer):
    """Multi-head self-attention in which every pixel attends to all pixels (Hron et al. 2020, "Infinite attention").

    With weights of independent standard normal entries, heads of d values and channels of variance `nngp`,

    "linear": scores `query_std key_std q.k / d` with one weight matrix for queries and keys. They tend to
    `S = query_std key_std nngp(p, q)` of the image itself, so that with attention `G = softmax(S)` or `G = S`

        nngp' = (out_std value_std)^2 G1 nngp G2^T + b_std^2
        ntk'  = (out_std value_std)^2 G1 (ntk + 2 nngp) G2^T + b_std^2

    "root": scores `q.k / sqrt(d)` with weights of their own, which stay random; only without softmax is there a
    closed form. With `s = (out_std value_std query_std key_std)^2` and sums over all pairs of pixels q, q'

        nngp' = s nngp(p, p') sum nngp(q, q')^2 + b_std^2
        ntk'  = s (4 nngp(p, p') sum nngp^2 + ntk(p, p') sum nngp^2 + 2 nngp(p, p') sum nngp ntk) + b_std^2

    Args:
        width: number of output channels.
        heads: number of heads of the finite layer; both limits are those of many, of many values each.
        head_width: values of a head.
        scaling: "linear" or "root".
        mechanism: "softmax" (with "linear") or "identity".
        query_std: standard deviation of the query weights, as all at least 0.
        key_std: of the key weights.
        value_std: of the value weights.
        out_std: of the output weights.
        b_std: of the output biases.
        positions: an embedding of positions that queries and keys see, but not values. In the formulas G is then made
            of `nngp` with the embedding; with "root" so are `nngp(p, p')` and one factor of each product in the sums.

    Raises:
        ValueError: for softmax with scaling "root", whose limit has no closed form, and for sizes or standard
            deviations out of range.
    """

    width: int
    heads: int = 8
    head_width: int = 64
    scaling: Literal["linear", "root"] = "linear"
    mechanism: Literal["softmax", "identity"] = "softmax"
    query_std: Any = 1.0
    key_std: Any = 1.0
    value_std: Any = 1.0
    out_std: Any = 1.0
    b_std: Any = 0.0
    positions: PositionalEmbedding | None = None

    def __post_init__(self) -> None:
        who = "GlobalSelfAttention"
        for name in ("width", "heads", "head_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{who} needs {name} of at least 1, got {getattr(self, name)}.")
        if self.scaling not in ("linear", "root"):
            raise ValueError(f'{who} needs scaling "linear" or "root", got {self.scaling!r}.')
        if self.mechanism not in ("softmax", "identity"):
            raise ValueError(f'{who} needs mechanism "softmax" or "identity", got {self.mechanism!r}.')
        if self.scaling == "root" and self.mechanism == "softmax":
            raise ValueError(
                f'{who} needs scaling "linear" for softmax: with "root" the scores stay random and the expectation of '
                'their softmax has no closed form. Use scaling="linear", or mechanism="identity".'
            )
        for name in _STDS:
            object.__setattr__(self, name, as_leaf(who, name, getattr(self, name), 0.0))

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> dict[str, Any]:
        self.output_shape(input_shape)
        keys = jax.random.split(key, 5)
        embedded = input_shape if self.positions is None else self.positions.output_shape(input_shape)
        inner = (self.heads, embedded[-1], self.head_width)
        params: dict[str, Any] = {
            "query": jax.random.normal(keys[0], inner),
            "value": jax.random.normal(keys[1], (self.heads, input_shape[-1], self.head_width)),
            "out": jax.random.normal(keys[2], (self.heads, self.head_width, self.width)),
            "bias": jax.random.normal(keys[3], (self.width,)),
        }
        if self.scaling == "root":
            params["key"] = jax.random.normal(keys[4], inner)
        if self.positions is not None:
            params["positions"] = self.positions.init(jax.random.fold_in(key, 5), input_shape)
        return params

    def apply(self, params: Any, x: Float[jax.Array, "n *s c"]) -> Float[jax.Array, "n *s k"]:
        return self.apply_present(params, x, None)[0]

    def apply_present(self, params: Any, x: Any, present: Any) -> tuple[Any, Any]:
        self.output_shape(x.shape)
        embedded = x
        if self.positions is not None:
            embedded, _ = self.positions.apply_present(params["positions"], x, present)

        def project(name: str, x: jax.Array) -> jax.Array:
            pixels = x.reshape(len(x), -1, x.shape[-1])
            return jnp.einsum("npc,hcd->nhpd", pixels, params[name], precision="highest") / x.shape[-1] ** 0.5

        query, value = project("query", embedded), project("value", x)
        key = query if self.scaling == "linear" else project("key", embedded)
        scores = jnp.einsum("nhpd,nhqd->nhpq", query, key, precision="highest")
        scores = self.query_std * self.key_std * scores
        scores = scores / self.head_width ** (1.0 if self.scaling == "linear" else 0.5)
        if self.mechanism == "softmax":
            scores = _shares(scores, None if present is None else present.reshape(len(x), 1, 1, -1))
        seen = jnp.einsum("nhpq,nhqd->nhpd", scores, value, precision="highest")
        out = jnp.einsum("nhpd,hdk->npk", seen, params["out"], precision="highest")
        out = self.out_std * self.value_std * out / (self.heads * self.head_width) ** 0.5
        out = out + self.b_std * params["bias"].reshape(1, 1, -1)
        return kept(out.reshape(*x.shape[:-1], self.width), present)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(input_shape) < 3:
            raise ValueError(
                f"GlobalSelfAttention needs inputs of shape (n, *pixels, channels), got {tuple(input_shape)}. Leave "
                "out Flatten and pooling before it."
            )
        return (*input_shape[:-1], self.width)

    def law(self, before: Law) -> Law:
        if self.positions is not None:
            self.positions.law(before)
        return Law.weighted("GlobalSelfAttention")

    @property
    def mixes_pixels(self) -> bool:
        return True

    @property
    def needs_own(self) -> bool:
        return self.scaling == "linear"

    def propagate(self, state: KernelState) -> KernelState:
        require_pairs("GlobalSelfAttention", state)
        shape, pixels, dtype = state.nngp.shape, prod(state.shape), state.nngp.dtype
        square = (*shape[: state.batch], pixels, pixels)
        embedded = state if self.positions is None else through(self.positions, state)
        values, scored = (
            (part.nngp.reshape(square), None if part.ntk is None else part.ntk.reshape(square))
            for part in (state, embedded)
        )
        query, key, value, out, b = (jnp.asarray(getattr(self, name), dtype) for name in _STDS)
        if self.scaling == "linear":
            scale = jnp.square(out * value)
            nngp, ntk = self._attended(embedded, *values, query * key)
        else:
            scale = jnp.square(out * value * query * key)
            nngp, ntk = _scored(*scored, *values)
        nngp = (scale * nngp + b * b).reshape(shape)
        ntk = None if ntk is None else (scale * ntk + b * b).reshape(shape)
        return replace(state.weighted.with_covariances(nngp, ntk), width=self.width)

    def _attended(self, state: KernelState, nngp: jax.Array, ntk: Any, scale: jax.Array) -> tuple:
        """`G1 nngp G2^T` and `G1 (ntk + 2 nngp) G2^T`."""
        owns = (state.nngp, state.nngp) if state.same else (state.own1.nngp, state.own2.nngp)
        weights = []
        for own, present in zip(owns, (state.present1, state.present2), strict=True):
            scores = scale * own.reshape(len(own), *nngp.shape[-2:])
            if self.mechanism == "softmax":
                scores = _shares(scores, None if present is None else present.reshape(len(own), 1, -1))
            weights.append(scores)
        axes = "apq,aqr,asr->aps" if state.same else "apq,abqr,bsr->abps"

        def weigh(part: jax.Array) -> jax.Array:
            return jnp.einsum(axes, weights[0], part, weights[1], precision="highest")

        return weigh(nngp), None if ntk is None else weigh(ntk + 2.0 * nngp)


def _shares(scores: jax.Array, present: Any) -> jax.Array:
    """Softmax over the last axis, along which only some entries exist; the others have no share."""
    if present is not None:
        scores = jnp.where(present, scores, 0.5 * jnp.finfo(scores.dtype).min)
    return jax.nn.softmax(scores, axis=-1)


def _scored(nngp: jax.Array, ntk: Any, value_nngp: jax.Array, value_ntk: Any) -> tuple:
    """Both kernels of unscaled scores without softmax, from those of queries and keys and those of values."""

    def total(values: jax.Array) -> jax.Array:
        return jnp.sum(values, axis=(-2, -1), keepdims=True)

    products = total(nngp * value_nngp)
    after = nngp * products
    if ntk is None:
        return after, None
    inside = total(nngp * value_ntk) + total(ntk * value_nngp)
    return after, 4.0 * after + ntk * products + nngp * inside
