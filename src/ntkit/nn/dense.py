"""The fully connected layer, finite and infinite, in both parametrisations."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkit.nn.base import Layer
from ntkit.nn.law import Law
from ntkit.nn.state import KernelState
from ntkit.numerics.safe import safe_divide, safe_sqrt
from ntkit.numerics.trees import as_leaf, pytree

Parametrization = Literal["ntk", "standard"]


@pytree("width", "parametrization", "axis")
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
        axis: of raw inputs (n, ...), which of their axes but the first is the features; the others become pixels, in
            their order. Another one than the last only where the layer stands first.

    Raises:
        ValueError: for a width below 1, a negative or infinite standard deviation, or axis 0.

    >>> import numpy as np
    >>> from ntkit import NNGP, nn
    >>> x = np.array([[[1.0, 2.0, 2.0], [1.0, 0.0, 0.0]]])  # two channels, three times
    >>> NNGP(nn.Serial(nn.Dense(8, axis=1), nn.Flatten()))(x)  # (2 + 4 + 4) / 2 features / 3 pixels
    array([[1.66666667]])
    """

    width: int
    w_std: Any = 1.0
    b_std: Any = 0.0
    parametrization: Parametrization = "ntk"
    axis: int = -1

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"Dense needs a width of at least 1, got {self.width}.")
        if self.parametrization not in ("ntk", "standard"):
            raise ValueError(
                f'Dense needs parametrization "ntk" or "standard", got {self.parametrization!r}.'
            )
        if self.axis == 0:
            raise ValueError("Dense needs an axis of features, got 0, which is that of the inputs' number.")
        object.__setattr__(self, "w_std", as_leaf("Dense", "w_std", self.w_std, 0.0))
        object.__setattr__(self, "b_std", as_leaf("Dense", "b_std", self.b_std, 0.0))

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> dict[str, jax.Array]:
        key_weight, key_bias = jax.random.split(key)
        fan_in = self._moved_shape(input_shape)[-1]
        weight = jax.random.normal(key_weight, (fan_in, self.width))
        bias = jax.random.normal(key_bias, (self.width,))
        if self.parametrization == "standard":
            weight, bias = self.w_std * weight / fan_in**0.5, self.b_std * bias
        return {"weight": weight, "bias": bias}

    def apply(self, params: Any, x: Float[jax.Array, "*s"]) -> Float[jax.Array, "*t k"]:
        x = self.prepare(x)
        product = jnp.matmul(x, params["weight"], precision="highest")
        bias: jax.Array = params["bias"].reshape((1,) * (x.ndim - 1) + params["bias"].shape)
        if self.parametrization == "standard":
            # Without b_std there is no bias parameter, so none may be trained.
            return product + jnp.where(jnp.asarray(self.b_std) != 0, bias, 0.0)
        return self.w_std * product / x.shape[-1] ** 0.5 + self.b_std * bias

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*self._moved_shape(input_shape)[:-1], self.width)

    def _moved_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape with the features last."""
        if self.axis == -1:
            return tuple(shape)
        axis = self.axis % len(shape) if -len(shape) <= self.axis < len(shape) else 0
        if axis == 0:
            raise ValueError(
                f"Dense needs an axis of features, got axis {self.axis} of inputs of shape {tuple(shape)}."
            )
        return (*shape[:axis], *shape[axis + 1 :], shape[axis])

    @property
    def stands_first(self) -> bool:
        return self.axis != -1

    def prepare(self, x: Any) -> Any:
        if self.axis == -1:
            return x
        self._moved_shape(x.shape)
        return (np if isinstance(x, np.ndarray) else jnp).moveaxis(x, self.axis, -1)

    @property
    def prepared(self) -> "Dense":
        return self if self.axis == -1 else replace(self, axis=-1)

    @property
    def homogeneity(self) -> float | None:
        return 1.0 if float(self.b_std) == 0.0 else None

    def law(self, before: Law) -> Law:
        return Law.weighted("Dense")

    def propagate(self, state: KernelState) -> KernelState:
        state = state.weighted
        w, b = (jnp.asarray(std, state.nngp.dtype) for std in (self.w_std, self.b_std))
        w2, b2 = w * w, b * b
        nngp = w2 * state.nngp + b2
        ntk = None
        if state.ntk is not None:
            own = nngp
            if self.parametrization == "standard":
                own = state.width * state.nngp + jnp.where(b2 > 0, 1.0, 0.0).astype(state.nngp.dtype)
            ntk = own + w2 * state.ntk
        if state.var1 is None:
            return replace(state, nngp=nngp, ntk=ntk, width=self.width)
        var1, var2 = w2 * state.var1 + b2, w2 * state.var2 + b2
        # With the bias as one more input, each point is a unit vector (lean e, lift) for a unit vector e: half the
        # squared distance of two of them is 1 - rho', with no difference of nearly equal numbers and no quotient.
        root1, root2 = safe_sqrt(var1), safe_sqrt(var2)
        lean1, lift1 = unit(w, b, safe_sqrt(state.var1), root1)
        lean2, lift2 = unit(w, b, safe_sqrt(state.var2), root2)
        leans, apart = lean1 * lean2, jnp.square(lean1 - lean2)
        defect = leans * state.defect + 0.5 * (apart + jnp.square(lift1 - lift2))
        surplus = leans * state.surplus + 0.5 * (apart + jnp.square(lift1 + lift2))
        alive = (var1 > 0) & (var2 > 0)
        defect, surplus = (jnp.where(alive, snapped(distance), 1.0) for distance in (defect, surplus))
        return replace(
            state, nngp=nngp, ntk=ntk, var1=var1, var2=var2, defect=defect, surplus=surplus, width=self.width
        )


def unit(w: jax.Array, b: jax.Array, before: jax.Array, root: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The shares of weights and bias in the standard deviation `root` after the layer; zeros where that is 0."""
    inverse = safe_divide(jnp.ones_like(root), root, 0.0)
    return w * before * inverse, b * inverse


def snapped(distance: jax.Array) -> jax.Array:
    """At most 2, and 0 where it is within the rounding of a unit vector: equal points stay so exactly."""
    rounding = (8.0 * float(jnp.finfo(distance.dtype).eps)) ** 2
    return jnp.where(distance > rounding, jnp.minimum(distance, 2.0), 0.0)
