"""Several kernels of the same points at once, sharing the work where they belong to one network."""

from typing import Any

from jaxtyping import Float

from ntkit.kernels.base import Kernel
from ntkit.kernels.infinite import NNGP, NTK, nngp_and_ntk
from ntkit.numerics.dtypes import Array


def evaluate(kernels: tuple[Kernel, ...], x1: Any, x2: Any = None) -> tuple[Float[Array, "n1 n2"], ...]:
    """The Gram matrices of several kernels, in their order; NNGP and NTK of one network share one pass."""
    networks = [kernel.network for kernel in kernels if isinstance(kernel, NTK)]
    grams: list = []
    passes: list = []
    for kernel in kernels:
        if not isinstance(kernel, NNGP | NTK) or kernel.network not in networks:
            grams.append(kernel(x1, x2))
            continue
        found = next((result for network, result in passes if network == kernel.network), None)
        if found is None:
            found = nngp_and_ntk(kernel.network, x1, x2, engine=kernel.engine)
            passes.append((kernel.network, found))
        grams.append(found.nngp if isinstance(kernel, NNGP) else found.ntk)
    return tuple(grams)
