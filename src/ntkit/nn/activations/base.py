"""What an activation is: a scalar function, and the Gaussian expectations that are its duals."""

from abc import abstractmethod
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ntkit.nn.base import Layer
from ntkit.nn.law import Law
from ntkit.nn.state import KernelState
from ntkit.numerics import hermite
from ntkit.numerics.gaussian_pair import GaussianPair


class Activation(Layer):
    """A nonlinearity `phi`, as scalar mathematics: it never sees batches, widths or layouts.

    At infinite width `nngp' = C(nngp)` and `ntk' = ntk * C'(nngp)` with the dual functions
    `C = E[phi(u) phi(v)]` and `C' = dC / dcov = E[phi'(u) phi'(v)]` (Price's theorem).
    A new activation defines `__call__`, `dual` and `dual_derivative`.
    """

    @abstractmethod
    def __call__(self, x: jax.Array) -> jax.Array:
        """`phi(x)`, entry by entry."""

    @abstractmethod
    def dual(self, pair: GaussianPair) -> jax.Array:
        """`E[phi(u) phi(v)]`."""

    @abstractmethod
    def dual_derivative(self, pair: GaussianPair) -> jax.Array:
        """`E[phi'(u) phi'(v)]`, the derivative of `dual` in the covariance."""

    def second_moment(self, var: jax.Array) -> jax.Array:
        """`E[phi(u)^2]` for `u ~ N(0, var)`."""
        return self.dual(GaussianPair.same(var))

    def derivative_moment(self, var: jax.Array) -> jax.Array:
        """`E[phi'(u)^2]` for `u ~ N(0, var)`."""
        return self.dual_derivative(GaussianPair.same(var))

    def mean(self, var: jax.Array) -> jax.Array:
        """`E[phi(u)]` for `u ~ N(0, var)`: by quadrature, where no subclass knows better."""
        return hermite.coefficients(self.__call__, var, 1)[0]

    def dual_shape(
        self, pair: GaussianPair, dual: jax.Array, var1: jax.Array, var2: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Defect `1 - rho` and surplus `1 + rho` after the activation, where `dual`, `var1`, `var2` are as well.

        By subtraction, which is accurate relative to 1. Activations whose next layer would feel more
        (kinked ones, of which many are stacked) replace it by formulas accurate relative to themselves.
        """
        after = GaussianPair.of(dual, var1, var2)
        # A variable paired with itself stays so exactly; rounding must not open an angle.
        return jnp.where(pair.coincide, 0.0, after.defect), after.surplus

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> tuple[()]:
        return ()

    def apply(self, params: Any, x: Float[jax.Array, "*n c"]) -> Float[jax.Array, "*n c"]:
        return self(x)

    def law(self, before: Law) -> Law:
        return before.bent(type(self).__name__)

    @property
    def needs_variances(self) -> bool:
        return True

    def propagate(self, state: KernelState) -> KernelState:
        if state.alike:
            nngp = self.second_moment(state.var1)
            ntk = None if state.ntk is None else state.ntk * self.derivative_moment(state.var1)
            mean = self.mean(state.var1)
            return replace(
                state, nngp=nngp, ntk=ntk, var1=nngp, var2=nngp, mean1=mean, mean2=mean, centred=False
            )
        pair = state.pair
        var1, var2 = self.second_moment(state.var1), self.second_moment(state.var2)
        nngp = self.dual(pair)
        ntk = None if state.ntk is None else state.ntk * self.dual_derivative(pair)
        defect, surplus = self.dual_shape(pair, nngp, var1, var2)
        return replace(
            state,
            nngp=nngp,
            ntk=ntk,
            var1=var1,
            var2=var2,
            defect=defect,
            surplus=surplus,
            # Compiled, they cost nothing where no sum asks for them.
            mean1=self.mean(state.var1),
            mean2=self.mean(state.var2),
            centred=False,
        )
