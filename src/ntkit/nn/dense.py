"""The fully connected layer, finite and infinite, in both parametrisations."""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ntkit.nn.base import Layer
from ntkit.nn.state import KernelState
from ntkit.numerics.safe import safe_divide, safe_sqrt
from ntkit.numerics.trees import as_leaf, pytree

Parametrization = Literal["ntk", "standard"]


@pytree("width", "parametrization")
@dataclass(frozen=True, eq=False)
class Dense(Layer):
    """Fully connected layer, `w_std W x / sqrt(fan_in) + b_std b` with `W, b ~ N(0, 1)` entrywise.

    At infinite width `nngp' = w_std^2 nngp + b_std^2` and `ntk' = nngp' + w_std^2 ntk`
    (Jacot et al. 2018, Theorem 1). In the standard parametrisation `W ~ N(0, w_std^2 / fan_in)` and
    `b ~ N(0, b_std^2)` are themselves the parameters: the same function at initialisation, but
    `ntk' = fan_in nngp + 1 + w_std^2 ntk` (Sohl-Dickstein et al. 2020, eq. 9), where `fan_in` is the
    declared width of the layer before and the 1 falls away for `b_std = 0`, which means no bias.

    Args:
        width: number of units; at infinite width it matters only to the standard parametrisation.
        w_std: standard deviation of the weights, at least 0.
        b_std: standard deviation of the biases, at least 0.
        parametrization: "ntk" (the scale is in the forward pass) or "standard" (in the draw).

    Raises:
        ValueError: for a width below 1 or a negative or infinite standard deviation.
    """

    width: int
    w_std: Any = 1.0
    b_std: Any = 0.0
    parametrization: Parametrization = "ntk"

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"Dense needs a width of at least 1, got {self.width}.")
        if self.parametrization not in ("ntk", "standard"):
            raise ValueError(
                f'Dense needs parametrization "ntk" or "standard", got {self.parametrization!r}.'
            )
        object.__setattr__(self, "w_std", as_leaf("Dense", "w_std", self.w_std, 0.0))
        object.__setattr__(self, "b_std", as_leaf("Dense", "b_std", self.b_std, 0.0))

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> dict[str, jax.Array]:
        key_weight, key_bias = jax.random.split(key)
        fan_in = input_shape[-1]
        weight = jax.random.normal(key_weight, (fan_in, self.width))
        bias = jax.random.normal(key_bias, (self.width,))
        if self.parametrization == "standard":
            weight, bias = self.w_std * weight / fan_in**0.5, self.b_std * bias
        return {"weight": weight, "bias": bias}

    def apply(self, params: Any, x: Float[jax.Array, "*n c"]) -> Float[jax.Array, "*n k"]:
        product = jnp.matmul(x, params["weight"], precision="highest")
        bias: jax.Array = params["bias"].reshape((1,) * (x.ndim - 1) + params["bias"].shape)
        if self.parametrization == "standard":
            # Without b_std there is no bias parameter, so none may be trained.
            return product + jnp.where(jnp.asarray(self.b_std) != 0, bias, 0.0)
        return self.w_std * product / x.shape[-1] ** 0.5 + self.b_std * bias

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*input_shape[:-1], self.width)

    def propagate(self, state: KernelState) -> KernelState:
        w2, b2 = (jnp.square(jnp.asarray(std, state.nngp.dtype)) for std in (self.w_std, self.b_std))
        nngp = w2 * state.nngp + b2
        var1, var2 = w2 * state.var1 + b2, w2 * state.var2 + b2
        ntk = None
        if state.ntk is not None:
            own = nngp
            if self.parametrization == "standard":
                own = state.width * state.nngp + jnp.where(b2 > 0, 1.0, 0.0).astype(state.nngp.dtype)
            ntk = own + w2 * state.ntk
        # 1 - rho' and 1 + rho' without subtracting nearly equal numbers: the bias turns a difference
        # of norms into an angle, the weights carry the old angle over.
        root1, root2 = safe_sqrt(state.var1), safe_sqrt(state.var2)
        before, after = root1 * root2, safe_sqrt(var1) * safe_sqrt(var2)
        from_norms = safe_divide(b2 * jnp.square(root1 - root2), after + w2 * before + b2, 0.0)
        defect = safe_divide(w2 * (from_norms + before * state.defect), after, 1.0)
        surplus = safe_divide(w2 * (from_norms + before * state.surplus) + 2.0 * b2, after, 1.0)
        defect, surplus = jnp.clip(defect, 0.0, 2.0), jnp.clip(surplus, 0.0, 2.0)
        return KernelState(nngp, ntk, var1, var2, defect, surplus, self.width)
