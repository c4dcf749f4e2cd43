"""Dropout."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ntkit.nn.base import Layer
from ntkit.nn.law import Law
from ntkit.nn.state import KernelState
from ntkit.numerics.trees import as_leaf, pytree


@pytree()
@dataclass(frozen=True, eq=False)
class Dropout(Layer):
    """Dropout: every value is kept with probability `keep` and divided by it, else 0 (Srivastava et al. 2014).

    At infinite width covariances of two inputs, or of two pixels, stay as they are, since their masks are independent;
    of a pixel with itself `nngp' = nngp / keep`, and `ntk' = ntk / keep`. Which entries of a Gram matrix those are is
    known from where they stand (its diagonal), not from the inputs' values: an input that occurs twice meets itself in
    another draw (Schoenholz et al. 2017, section 5).

    The finite layer draws an independent mask for each input of a call; the parameters hold its seed.

    Args:
        keep: the probability, above 0 and at most 1.

    Raises:
        ValueError: for another probability.
    """

    keep: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "keep", as_leaf("Dropout", "keep", self.keep, 0.0))
        if isinstance(self.keep, float) and not 0.0 < self.keep <= 1.0:
            raise ValueError(f"Dropout needs keep above 0 and at most 1, got {self.keep}.")

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> dict[str, jax.Array]:
        return {"seed": jax.random.randint(key, (), 0, 2**23).astype(jnp.float32)}

    def apply(self, params: Any, x: Float[jax.Array, "*s c"]) -> Float[jax.Array, "*s c"]:
        seed = jax.lax.stop_gradient(params["seed"]).astype(jnp.int32)
        kept = jax.random.bernoulli(jax.random.key(seed), self.keep, x.shape)
        return x * kept / self.keep

    def law(self, before: Law) -> Law:
        return replace(before, kind="other", source="Dropout")

    @property
    def random(self) -> bool:
        return True

    def propagate(self, state: KernelState) -> KernelState:
        keep = jnp.asarray(self.keep, state.nngp.dtype)
        if state.alike:
            ntk = None if state.ntk is None else state.ntk / keep
            var = state.var1 / keep
            return replace(state, nngp=var, ntk=ntk, var1=var, var2=var)
        nngp, ntk, itself = state.nngp, state.ntk, False
        if state.same:
            itself = state.same_pixel
            nngp = jnp.where(itself, nngp / keep, nngp)
            ntk = None if ntk is None else jnp.where(itself, ntk / keep, ntk)
        if state.var1 is None:
            return replace(state, nngp=nngp, ntk=ntk)
        # The correlation of different draws is keep times that before.
        defect = (1.0 - keep) + keep * state.defect
        surplus = (1.0 - keep) + keep * state.surplus
        return replace(
            state,
            nngp=nngp,
            ntk=ntk,
            var1=state.var1 / keep,
            var2=state.var2 / keep,
            defect=jnp.where(itself, state.defect, defect),
            surplus=jnp.where(itself, state.surplus, surplus),
        )
