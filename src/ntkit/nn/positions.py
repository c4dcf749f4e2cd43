"""Random embeddings of positions, by which what follows can tell pixels apart."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkit.nn.base import Layer
from ntkit.nn.law import Law
from ntkit.nn.merging import merged
from ntkit.nn.state import KernelState
from ntkit.numerics.dtypes import is_concrete
from ntkit.numerics.safe import safe_sqrt
from ntkit.numerics.trees import as_leaf, pytree

ROUNDING = 1e-4
"""Eigenvalues of a correlation down to minus so many times the largest pass for 0."""


def squared_exponential(distance: jax.Array) -> jax.Array:
    """`exp(-r^2 / 2)`."""
    return jnp.exp(-0.5 * jnp.square(distance))


@pytree("decay", "merge", "channels", "trained")
@dataclass(frozen=True, eq=False)
class PositionalEmbedding(Layer):
    """Add to every pixel a random vector of its position, the same for all inputs, or set it beside the channels.

    The vectors have independent channels and the correlation `R(p, p') = decay(|p - p'| / length_scale)` between
    pixels, or that of independent ones, `R(p, p') = [p = p']`. With their standard deviation, and s the share of the
    c channels of the input in all channels, `s = c / (c + channels)`,

        sum     nngp' = nngp + std^2 R                    ntk' = ntk + std^2 R
        concat  nngp' = s nngp + (1 - s) std^2 R          ntk' = s ntk + (1 - s) std^2 R

    (Hron et al. 2020, "Infinite attention", section on positional encodings). The embedding is `std R^(1/2) e` with
    parameters `e ~ N(0, 1)` entrywise; the terms of `ntk'` are those of their training, and fall away without it.
    `GlobalSelfAttention(positions=...)` shows an embedding to queries and keys alone.

    Args:
        std: standard deviation of the embedding, at least 0.
        length_scale: the distance, in pixels, over which embeddings are correlated; None for independent ones.
        decay: correlation as a function of distances in units of the length scale, positive semi-definite, 1 at 0.
        merge: "sum" or "concat".
        channels: of the embedding, for "concat"; None for as many as the input has.
        trained: whether the embedding is trained.

    Raises:
        ValueError: for settings out of range; on raw inputs, whose few channels are not those of the limit; for a
            `decay` that is no correlation.

    >>> import numpy as np
    >>> from ntkit import NNGP, nn
    >>> network = nn.Serial(nn.Dense(8), nn.PositionalEmbedding(0.5), nn.GlobalAvgPool())
    >>> NNGP(network)(np.zeros((1, 4, 3)))  # 0.25 / 4: the mean of four independent vectors
    array([[0.0625]])
    """

    std: Any = 1.0
    length_scale: Any = None
    decay: Callable[[jax.Array], jax.Array] = squared_exponential
    merge: Literal["sum", "concat"] = "sum"
    channels: int | None = None
    trained: bool = True

    def __post_init__(self) -> None:
        who = "PositionalEmbedding"
        if self.merge not in ("sum", "concat"):
            raise ValueError(f'{who} needs merge "sum" or "concat", got {self.merge!r}.')
        if self.channels is not None and (self.merge == "sum" or self.channels < 1):
            raise ValueError(
                f'{who} needs channels of at least 1, and for merge="concat" alone, got {self.channels} and '
                f"{self.merge!r}."
            )
        object.__setattr__(self, "std", as_leaf(who, "std", self.std, 0.0))
        if self.length_scale is not None:
            length_scale = as_leaf(who, "length_scale", self.length_scale, 0.0)
            if isinstance(length_scale, float) and length_scale == 0.0:
                raise ValueError(f"{who} needs a length_scale above 0, got 0. None makes pixels independent.")
            object.__setattr__(self, "length_scale", length_scale)

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> dict[str, jax.Array]:
        channels = self.output_shape(input_shape)[-1] - (input_shape[-1] if self.merge == "concat" else 0)
        return {"embedding": jax.random.normal(key, (*input_shape[1:-1], channels))}

    def apply(self, params: Any, x: Float[jax.Array, "n *s c"]) -> Float[jax.Array, "n *s k"]:
        self.output_shape(x.shape)
        embedding = params["embedding"] if self.trained else jax.lax.stop_gradient(params["embedding"])
        if self.length_scale is not None:
            values, vectors = jnp.linalg.eigh(self._correlation(x.shape[1:-1], x.dtype))
            root = jnp.einsum("pk,k,qk->pq", vectors, safe_sqrt(values), vectors, precision="highest")
            flat = embedding.reshape(len(root), -1)
            embedding = jnp.matmul(root, flat, precision="highest").reshape(embedding.shape)
        embedding = jnp.broadcast_to(self.std * embedding[None], (len(x), *embedding.shape))
        return x + embedding if self.merge == "sum" else jnp.concatenate([x, embedding], axis=-1)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(input_shape) < 3:
            raise ValueError(
                f"PositionalEmbedding needs inputs of shape (n, *pixels, channels), got {tuple(input_shape)}. Leave "
                "out Flatten and pooling before it."
            )
        if self.decay is not squared_exponential:
            self._check_correlation(input_shape[1:-1])
        if self.merge == "sum":
            return input_shape
        return (*input_shape[:-1], input_shape[-1] + (self.channels or input_shape[-1]))

    def law(self, before: Law) -> Law:
        if before.kind == "inputs":
            raise ValueError(
                "PositionalEmbedding needs values of infinite width, got the inputs, whose few channels are not "
                "orthogonal to those of an embedding. Put a Dense or Conv layer before it."
            )
        if self.merge == "sum":
            return before
        return replace(before, kind="other", source="PositionalEmbedding", alike=False)

    def propagate(self, state: KernelState) -> KernelState:
        if not state.spatial:
            raise ValueError("PositionalEmbedding needs images, got vectors. Leave out Flatten and pooling.")
        state = replace(state, own1=None, own2=None)
        return merged([state, self._embedded(state)], self.merge)

    def _embedded(self, state: KernelState) -> KernelState:
        """The state of the embedding by itself."""
        matrix = jnp.square(jnp.asarray(self.std, state.nngp.dtype)) * self._correlation(
            state.shape, state.nngp.dtype
        )
        batch = (1,) * state.batch
        var = jnp.diagonal(matrix).reshape(batch + state.shape)
        cov = matrix.reshape(batch + state.shape * 2) if state.layout == "pairs" else var
        cov = jnp.broadcast_to(cov, state.nngp.shape)
        ntk = None if state.ntk is None else cov if self.trained else jnp.zeros_like(cov)
        width = state.width if self.channels is None else self.channels
        after = replace(state.weighted, nngp=cov, ntk=ntk, width=width)
        if state.alike:
            return replace(
                after, var1=cov, var2=cov, defect=jnp.zeros_like(cov), surplus=jnp.full_like(cov, 2.0)
            )
        if state.var1 is None:
            return after
        var1, var2 = (jnp.broadcast_to(var, old.shape) for old in state.variances)
        return after.with_variances(var1, var2)

    def _correlation(self, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        """R between all pixels, shape (pixels, pixels)."""
        if self.length_scale is None:
            return jnp.eye(prod(shape), dtype=dtype)
        grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, len(shape))
        distance = np.linalg.norm(grid[:, None] - grid[None], axis=-1)
        return self.decay(jnp.asarray(distance, dtype) / jnp.asarray(self.length_scale, dtype))

    def _check_correlation(self, shape: tuple[int, ...]) -> None:
        matrix = self._correlation(shape, np.float32)
        if not is_concrete(matrix):
            return
        matrix = np.asarray(matrix, np.float64)
        smallest, largest = np.linalg.eigvalsh(matrix)[[0, -1]]
        if not smallest >= -ROUNDING * largest or not np.allclose(np.diag(matrix), 1.0):
            raise ValueError(
                f"PositionalEmbedding needs a decay that is 1 at 0 and positive semi-definite, got {matrix[0, 0]:.6g} "
                f"at 0 and an eigenvalue of {smallest:.3g} over {shape} pixels. Use lambda r: jnp.exp(-r), or none."
            )
