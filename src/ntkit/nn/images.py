"""The state of images before the first layer, over as many pairs of pixels as the network asks for."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer

from ntkit.nn.base import Layer
from ntkit.nn.dense import snapped
from ntkit.nn.state import KernelState, Layout
from ntkit.numerics.safe import safe_divide, safe_sqrt

MOST_IMAGES = 16
"""From so many images the orders of expansions are chosen where covariances of all pairs of pixels are followed."""


def layout_for(network: Layer) -> Layout:
    """Over which pixels a network's covariances have to be followed."""
    return "pairs" if network.mixes_pixels else "pixels"


def image_state(
    network: Layer,
    x1: jax.Array,
    x2: jax.Array | None,
    ntk: bool,
    present1: Any = None,
    present2: Any = None,
) -> KernelState:
    """Images of both sets in pairs, shapes (n1, *S, c) and (n2, *S, c); `x2=None` pairs the first set with itself.

    What layers do to raw inputs has been done already; `present1` and `present2` tell which pixels exist, if not all.
    """
    other = x1 if x2 is None else x2
    present2 = present1 if x2 is None else present2
    state = _state(x1[:, None], other[None], layout_for(network), ntk, same=False)
    state = replace(state, present1=present1, present2=present2)
    if not network.needs_own:
        return state
    own1 = _own(x1, False, present1)
    own2 = own1 if x2 is None else _own(other, False, present2)
    return replace(state, own1=own1, own2=own2)


def own_image_state(network: Layer, x: jax.Array, ntk: bool, present: Any = None) -> KernelState:
    """Every image with itself."""
    if network.mixes_pixels:
        return _own(x, ntk, present)
    state = KernelState.diagonal(jnp.sum(x * x, axis=-1) / x.shape[-1], x.shape[-1], ntk)
    return replace(state, present1=present, present2=present)


def representative(x: Float[np.ndarray, "n *s"]) -> Integer[np.ndarray, " m"]:
    """Which images, at most `MOST_IMAGES`, from that of the smallest mean square to that of the largest."""
    if len(x) <= MOST_IMAGES:
        return np.arange(len(x))
    order = np.argsort(np.square(x).mean(axis=tuple(range(1, x.ndim))))
    return order[np.linspace(0, len(x) - 1, MOST_IMAGES).round().astype(int)]


def _own(x: jax.Array, ntk: bool, present: Any) -> KernelState:
    return replace(_state(x, x, "pairs", ntk, same=True), present1=present, present2=present)


def _state(x1: jax.Array, x2: jax.Array, layout: Layout, ntk: bool, *, same: bool) -> KernelState:
    """The state of images whose batch axes broadcast already, shape (*batch, *S, c)."""
    batch = 1 if same else 2
    spatial, channels = x1.ndim - batch - 1, x1.shape[-1]
    if layout == "pairs":
        ones = (1,) * spatial
        x1 = x1.reshape(*x1.shape[:-1], *ones, channels)
        x2 = x2.reshape(*x2.shape[:batch], *ones, *x2.shape[batch:])
    var1, var2 = (jnp.sum(x * x, axis=-1) / channels for x in (x1, x2))
    cov = jnp.sum(x1 * x2, axis=-1) / channels
    # Of two directions half the squared chord is 1 - rho, exact where they nearly coincide.
    unit1, unit2 = (
        x * safe_divide(jnp.ones_like(var), safe_sqrt(channels * var), 0.0)[..., None]
        for x, var in ((x1, var1), (x2, var2))
    )
    alive = (var1 > 0) & (var2 > 0)
    defect, surplus = (
        jnp.where(alive, snapped(0.5 * jnp.sum(jnp.square(difference), axis=-1)), 1.0)
        for difference in (unit1 - unit2, unit1 + unit2)
    )
    zeros = jnp.zeros_like(cov) if ntk else None
    return KernelState(cov, zeros, var1, var2, defect, surplus, channels, same, spatial, layout)
