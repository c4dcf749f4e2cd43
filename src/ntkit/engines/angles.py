"""Networks that depend on the angle between two inputs alone: tabulated once, any depth costs one polynomial.

So it is when every point has the same norm, and when the network is positively homogeneous (no bias, activations as
ReLU): then `K(x, x') = (|x| |x'|)^h f(theta)`. The function f is expanded in Chebyshev polynomials of the angle and
checked against the layers themselves at angles in between.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.fft import dct

from ntkit.engines.reference import Prepared
from ntkit.nn.base import Layer
from ntkit.nn.serial import Serial
from ntkit.nn.state import KernelState
from ntkit.numerics.chebyshev import BLOCK, chebyshev_series
from ntkit.numerics.dtypes import precision
from ntkit.numerics.safe import safe_sqrt
from ntkit.numerics.trees import pytree

INTERVALS = 256
"""Of the angle, between the points where the network is evaluated."""

LONGEST = 192
"""A series that needs more terms is no shortcut."""

TOLERANCE = 16.0
"""Largest error of a table in units of the dtype's rounding of the kernel's largest value."""

ONLY_KERNELS = (
    "A finite network needs layers with weights, got an AngleTable, which knows the kernels alone. Call `init` and "
    "`apply` of the network that was tabulated."
)


@pytree()
@dataclass(frozen=True, eq=False)
class AngleTable(Layer):
    """The infinite-width limit of a network as a function of the angle between two inputs.

    Args:
        nngp: Chebyshev coefficients of the NNGP in `1 - 2 theta / pi`, shape (k,), for inputs of variance `var`.
        ntk: the same of the tangent kernel, or None.
        var: the variance of the inputs that were tabulated.
        degree: of homogeneity: both kernels grow with this power of both norms.

    Raises:
        ValueError: by `init` and `apply`; there is no finite network of a table.
    """

    nngp: Any
    ntk: Any
    var: Any
    degree: Any

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> Any:
        raise ValueError(ONLY_KERNELS)

    def apply(self, params: Any, x: Float[jax.Array, "*n c"]) -> Float[jax.Array, "*n k"]:
        raise ValueError(ONLY_KERNELS)

    def propagate(self, state: KernelState) -> KernelState:
        dtype = state.nngp.dtype
        root = safe_sqrt(jnp.asarray(self.var, dtype))
        scale1, scale2 = (
            (safe_sqrt(var) / root) ** jnp.asarray(self.degree, dtype) for var in (state.var1, state.var2)
        )
        turn = state.pair.angle * (1.0 / jnp.pi)
        scale = scale1 * scale2
        nngp = scale * chebyshev_series(jnp.asarray(self.nngp, dtype), turn)
        ntk = None if state.ntk is None else scale * chebyshev_series(jnp.asarray(self.ntk, dtype), turn)
        own = jnp.sum(jnp.asarray(self.nngp, dtype))
        return KernelState(
            nngp, ntk, own * scale1**2, own * scale2**2, state.defect, state.surplus, state.width
        )


def tabulated(prepared: Prepared) -> AngleTable | None:
    """The network as a table for these points, None where it depends on more than the angle or resists."""
    dtype = np.dtype(prepared.dtype)
    resolution = float(np.finfo(dtype).eps)
    var = np.concatenate([prepared.points1.var, prepared.points2.var]).astype(np.float64)
    largest = float(var.max(initial=0.0))
    degree = prepared.network.homogeneity
    if degree is None and largest - float(var.min(initial=largest)) <= _rounding(prepared) * largest:
        degree, largest = 0.0, (largest + float(var.min())) / 2.0
    if degree is None or not 0.0 < largest < np.inf or (degree == 0.0 and var.min() == 0.0):
        return None
    nodes = np.arange(INTERVALS + 1) / INTERVALS
    # Chebyshev points for the table; to check it, others, crowded towards both ends.
    small = np.geomspace(1e-9, 0.5, 100)
    turns = np.concatenate([(1.0 - np.cos(np.pi * nodes)) / 2.0, small, 1.0 - small])
    with np.errstate(over="ignore"), precision(np.float64):
        values = _at_angles(
            prepared.network, np.pi * turns, largest, width=prepared.features, ntk=prepared.ntk
        )
    # The layers round as well, each once, in float64.
    tolerance = TOLERANCE * resolution + 2.0 * _depth(prepared.network) * float(np.finfo(np.float64).eps)
    series = []
    for value in map(np.asarray, values[: 1 + prepared.ntk]):
        coefficients = dct(value[: INTERVALS + 1], type=1) / INTERVALS
        coefficients[[0, -1]] /= 2.0
        sizes, largest_value = np.abs(coefficients), np.abs(value).max()
        noise = max(resolution * largest_value / 4.0, 2.0 * sizes[LONGEST:].max())
        if not noise <= tolerance * largest_value:
            return None
        kept = coefficients[: 1 + int(np.flatnonzero(sizes > noise).max(initial=0))]
        series.append(np.pad(kept, (0, (1 - len(kept)) % BLOCK)))
        with precision(dtype):
            found = chebyshev_series(jnp.asarray(series[-1], dtype), jnp.asarray(turns, dtype))
        if not (np.abs(np.asarray(found, np.float64) - value) <= tolerance * largest_value).all():
            return None
    return AngleTable(series[0], series[1] if prepared.ntk else None, largest, float(degree))


def _depth(network: Layer) -> int:
    return len(network.layers) if isinstance(network, Serial) else 1


def _rounding(prepared: Prepared) -> float:
    """How far the variances of points of one norm differ: rounding of a sum of as many squares as features."""
    return (4.0 + prepared.features**0.5 / 2.0) * float(np.finfo(prepared.dtype).eps)


@partial(jax.jit, static_argnames=("width", "ntk"))
def _at_angles(network: Layer, angles: jax.Array, var: jax.Array, *, width: int, ntk: bool) -> tuple:
    """Both kernels of pairs of inputs of one variance at these angles, float64."""
    defect, surplus = 2.0 * jnp.sin(angles / 2.0) ** 2, 2.0 * jnp.cos(angles / 2.0) ** 2
    cov = var * jnp.where(defect < 1.0, 1.0 - defect, surplus - 1.0)
    own = jnp.full_like(cov, var)
    zeros = jnp.zeros_like(cov) if ntk else None
    state = network.propagate(KernelState(cov, zeros, own, own, defect, surplus, width))
    return state.nngp, state.ntk
