"""How long the kernels of a network will take, said before the work."""

import numpy as np
from jaxtyping import Float

from ntkit.engines import choice, reference
from ntkit.kernels import NTK
from ntkit.nn.base import Layer

FEW_TILES = 6
"""A Gram matrix of fewer tiles a side is not estimated from two of them, which would be most of the work."""

SAMPLE = 48


def kernel_time(network: Layer, x: Float[np.ndarray, "n *d"], new: int) -> str:
    """A sentence with the estimated time of both kernels of points x, and of `new` other points with them.

    The estimate is of a part timed just now. A network that the reference engine runs in a few tiles goes without: most
    of its time would go into compiling them twice.
    """
    found = choice.choose(reference.prepare(network, x, None, ntk=True), "auto")
    pairs = f"kernels between {len(x)} training inputs, and {new} others with them"
    threads = f"{found.engine} engine, {found.plan.threads} threads"
    if len(x) > FEW_TILES * found.plan.tile:
        seconds = NTK(network, found.engine).plan(x).seconds
    elif found.engine == "fused" and len(x) > 2 * SAMPLE:
        seconds = NTK(network, found.engine).plan(x[:SAMPLE]).seconds * (len(x) / SAMPLE) ** 2
    else:
        return f"{pairs} ({threads})"
    # One triangle of the square is computed, and all of the rest.
    seconds *= 1.0 + 2.0 * new / len(x)
    return f"{pairs}: about {_worded(seconds)} ({threads})"


def _worded(seconds: float) -> str:
    if seconds < 90.0:
        return f"{max(seconds, 0.1):.2g} s"
    return f"{seconds / 60.0:.2g} min" if seconds < 5400.0 else f"{seconds / 3600.0:.2g} h"
