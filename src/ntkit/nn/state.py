"""What flows from layer to layer in the infinite-width limit: both kernels of a block of pairs of inputs."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ntkit.numerics.gaussian_pair import GaussianPair
from ntkit.numerics.trees import pytree


@pytree("width", "same")
@dataclass(frozen=True)
class KernelState:
    """Covariances of one layer's values between two sets of inputs.

    Attributes:
        nngp: covariance `Sigma(x, x')` of one unit; shape (n1, n2), or (n,) for a diagonal.
        ntk: tangent kernel `Theta(x, x')`, the same shape; None when it is not asked for.
        var1: `Sigma(x, x)`, shape (n1, 1), or (n,) for a diagonal.
        var2: `Sigma(x', x')`, shape (1, n2), or (n,) for a diagonal.
        defect: `1 - rho` with `rho = Sigma(x, x') / sqrt(Sigma(x, x) Sigma(x', x'))`, the shape of `nngp`.
        surplus: `1 + rho`, the shape of `nngp`.
        width: units of the layer (features of the input), a whole number unless it is traced; only the standard
            parametrisation needs it.
        same: whether every input is paired with itself, so that the variances tell all.
    """

    nngp: Any
    ntk: Any
    var1: Any
    var2: Any
    defect: Any
    surplus: Any
    width: Any
    same: bool = False

    @property
    def pair(self) -> GaussianPair:
        """The two Gaussian variables whose expectation an activation takes."""
        return GaussianPair(self.nngp, self.var1, self.var2, self.defect, self.surplus)

    @classmethod
    def diagonal(cls, var: jax.Array, width: int, ntk: bool = True) -> "KernelState":
        """The state of inputs paired with themselves, shape (n,), before the first layer."""
        pair = GaussianPair.same(var)
        return cls(
            pair.cov,
            jnp.zeros_like(var) if ntk else None,
            pair.var1,
            pair.var2,
            pair.defect,
            pair.surplus,
            width,
            same=True,
        )
