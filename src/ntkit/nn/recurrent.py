"""The recurrent layer: one set of weights at every time of a sequence."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Float

from ntkit.nn.activations.base import Activation
from ntkit.nn.base import Layer, kept, through
from ntkit.nn.dense import Dense, Parametrization
from ntkit.nn.law import Law
from ntkit.nn.merging import merged
from ntkit.nn.state import KernelState
from ntkit.nn.windows import check_spatial
from ntkit.numerics.trees import as_leaf, pytree


@pytree("width", "parametrization")
@dataclass(frozen=True, eq=False)
class Recurrent(Layer):
    """Simple recurrent layer over sequences, shape (n, times, c): pre-activations of every time come out.

    `h_t = w_std W phi(h_(t-1)) / sqrt(width) + u_std U x_t / sqrt(c) + b_std b`, with entries of W, U and b from
    N(0, 1), the same at all times; before the first time `phi(h_0) = 0`. At infinite width, for any two times t and t'
    of two sequences, with the duals C and C' of phi at the covariance and variances one step before,

        nngp'(t, t') = w_std^2 C(t-1, t'-1) + u_std^2 nngp(t, t') + b_std^2
        ntk'(t, t')  = nngp'(t, t') + w_std^2 ntk'(t-1, t'-1) C'(t-1, t'-1) + u_std^2 ntk(t, t')

    where terms of time 0 vanish, and, although the weights are shared, those between different numbers of steps back
    (Alemohammad et al. 2021, "The recurrent neural tangent kernel"). In the standard parametrisation the layer's own
    part of `ntk'` is `width C(t-1, t'-1) + c nngp(t, t') + 1`, as for `Dense`.

    An activation may follow. `Index((-1,))` behind it picks the last time, `GlobalAvgPool()` takes the mean over all;
    a network that asks for equal times alone costs as many steps a pair as there are times. Absent times (`Mask`) carry
    nothing: what comes behind them begins anew, with `phi(h) = 0`.

    Args:
        width: number of units.
        activation: phi.
        w_std: standard deviation of the recurrent weights, at least 0.
        u_std: of the input weights.
        b_std: of the biases.
        parametrization: "ntk" or "standard".

    Raises:
        ValueError: for a width below 1, a negative or infinite standard deviation, or what is no activation.

    >>> import numpy as np
    >>> from ntkit import NTK, nn
    >>> network = nn.Serial(nn.Recurrent(16, nn.Relu(), 2.0), nn.Index((-1,)))
    >>> NTK(network)(np.array([[[1.0], [1.0]]]))  # nngp' is 1, then 4/2 + 1; ntk' is 1, then 3 + 4/2
    array([[5.]])
    """

    width: int
    activation: Any
    w_std: Any = 1.0
    u_std: Any = 1.0
    b_std: Any = 0.0
    parametrization: Parametrization = "ntk"

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"Recurrent needs a width of at least 1, got {self.width}.")
        if not isinstance(self.activation, Activation):
            raise ValueError(f"Recurrent needs an activation, as Relu(), got {self.activation!r}.")
        if self.parametrization not in ("ntk", "standard"):
            raise ValueError(
                f'Recurrent needs parametrization "ntk" or "standard", got {self.parametrization!r}.'
            )
        for name in ("w_std", "u_std", "b_std"):
            object.__setattr__(self, name, as_leaf("Recurrent", name, getattr(self, name), 0.0))

    @property
    def _past(self) -> Dense:
        """What acts on the units one step before, with the biases."""
        return Dense(self.width, self.w_std, self.b_std, self.parametrization)

    @property
    def _present(self) -> Dense:
        """What acts on the inputs."""
        return Dense(self.width, self.u_std, 0.0, self.parametrization)

    def init(self, key: jax.Array, input_shape: tuple[int, ...]) -> dict[str, Any]:
        self.output_shape(input_shape)
        keys = jax.random.split(key)
        past = self._past.init(keys[0], (input_shape[0], self.width))
        present = self._present.init(keys[1], (input_shape[0], input_shape[-1]))
        return {"recurrent": past, "input": present["weight"]}

    def apply(self, params: Any, x: Float[jax.Array, "n t c"]) -> Float[jax.Array, "n t k"]:
        return self.apply_present(params, x, None)[0]

    def apply_present(self, params: Any, x: Any, present: Any) -> tuple[Any, Any]:
        self.output_shape(x.shape)
        inputs = self._present.apply({"weight": params["input"], "bias": jnp.zeros(self.width, x.dtype)}, x)

        def step(seen: jax.Array, now: tuple[jax.Array, Any]) -> tuple[jax.Array, jax.Array]:
            values, exist = now
            units = self._past.apply(params["recurrent"], seen) + values
            return kept(self.activation(units), exist)[0], units

        start = jnp.zeros((x.shape[0], self.width), inputs.dtype)
        times = jnp.moveaxis(inputs, 1, 0), None if present is None else jnp.moveaxis(present, 1, 0)
        _, units = jax.lax.scan(step, start, times)
        return kept(jnp.moveaxis(units, 0, 1), present)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        check_spatial("Recurrent", input_shape, 1)
        return (*input_shape[:-1], self.width)

    def law(self, before: Law) -> Law:
        return Law.weighted("Recurrent")

    @property
    def homogeneity(self) -> float | None:
        return 1.0 if float(self.b_std) == 0.0 and self.activation.homogeneity == 1.0 else None

    @property
    def needs_variances(self) -> bool:
        return True

    @property
    def adaptable(self) -> bool:
        return self.activation.adaptable

    def adapt(self, state: KernelState, resolution: float) -> Layer:
        # Second moments, and so the variances of all times, do not depend on what is to be chosen.
        after = through(self, state)
        return replace(self, activation=self.activation.adapt(after, resolution))

    def propagate(self, state: KernelState) -> KernelState:
        if state.spatial != 1:
            raise ValueError(
                "Recurrent needs sequences of shape (n, times, channels), got vectors or images. Leave out Flatten and "
                "pooling before it."
            )
        pair = state.pair
        pairs, axis = state.layout == "pairs", state.batch
        # For each time of the first sequences a row: that time alone, or all times of the second sequences.
        row = replace(
            state.weighted,
            same=state.alike,
            spatial=0,
            layout="pixels",
            own1=None,
            own2=None,
            present1=None,
            present2=None,
        )
        exist1, exist2 = state.presences
        inputs2 = units2 = None
        if pairs:
            inputs2 = state.variances[1]
            units2 = self._variances(inputs2, exist2)
            row = replace(row, var2=None)
            exist1 = None if exist1 is None else state.along1(exist1)
        each = row, exist1, None if pairs else exist2
        rows = jax.tree_util.tree_map(lambda part: jnp.moveaxis(part, axis, 0), each)

        def step(past: tuple | None, now: tuple) -> tuple[tuple, KernelState]:
            inputs, *exist = now
            if pairs:
                inputs, exist = replace(inputs, var2=inputs2), [exist[0], exist2]
            seen = self._seen(past, inputs, units2, exist2)
            units = merged([self._past.propagate(seen), self._present.propagate(inputs)], "sum")
            units = replace(units, var2=units2) if pairs else units
            return (units, *exist), units

        start, first = step(None, jax.tree_util.tree_map(lambda part: part[0], rows))
        _, later = jax.lax.scan(step, start, jax.tree_util.tree_map(lambda part: part[1:], rows))
        units = jax.tree_util.tree_map(
            lambda one, more: jnp.moveaxis(jnp.concatenate([one[None], more]), 0, axis), first, later
        )
        after = replace(state.weighted, nngp=units.nngp, ntk=units.ntk, width=self.width)
        if state.alike:
            return replace(
                after,
                var1=units.nngp,
                var2=units.nngp,
                defect=jnp.zeros_like(pair.cov),
                surplus=jnp.full_like(pair.cov, 2.0),
            )
        var2 = state.along2(units2) if units2 is not None else units.var2
        return replace(after, var1=units.var1, var2=var2, defect=units.defect, surplus=units.surplus)

    def _seen(self, past: tuple | None, now: KernelState, units2: Any, exist2: Any) -> KernelState:
        """What the recurrent weights act on: phi of the units one step before, nothing at first.

        Args:
            past: the row of units one step before, and which of either side exist.
            now: the row of inputs.
            units2: over pairs, the variances of units at all times of the second sequences; else None.
            exist2: over pairs, which times of the second sequences exist.
        """
        if past is None:
            nothing, one = jnp.zeros_like(now.nngp), jnp.ones_like(now.nngp)
            ntk = None if now.ntk is None else nothing
            var1, var2 = jnp.zeros_like(now.var1), jnp.zeros_like(now.var2)
            seen = replace(now, nngp=nothing, ntk=ntk, var1=var1, var2=var2, defect=one, surplus=one)
            if units2 is not None:
                var2 = self.activation.second_moment(units2)
                seen = replace(seen, var2=var2 if exist2 is None else jnp.where(exist2, var2, 0.0))
        else:
            units, *exist = past
            seen = self.activation.propagate(units)
            seen = seen if exist[0] is None else seen.nothing_but(*exist)
        return seen if units2 is None else _delayed(seen)

    def _variances(self, inputs: jax.Array, present: Any) -> jax.Array:
        """The units' variances at all times, from those of the inputs, and which exist; times last."""
        w, u, b = (jnp.asarray(std, inputs.dtype) for std in (self.w_std, self.u_std, self.b_std))

        def step(seen: jax.Array, now: tuple[jax.Array, Any]) -> tuple[jax.Array, jax.Array]:
            values, exist = now
            var = (w * w * seen + b * b) + u * u * values
            seen = self.activation.second_moment(var)
            return seen if exist is None else jnp.where(exist, seen, 0.0), var

        times = jax.tree_util.tree_map(lambda part: jnp.moveaxis(part, -1, 0), (inputs, present))
        _, units = jax.lax.scan(step, jnp.zeros_like(inputs[..., 0]), times)
        return jnp.moveaxis(units, 0, -1)


def _delayed(seen: KernelState) -> KernelState:
    """A row over the second sequences' times, each one step later; before the first there is nothing."""

    def moved(part: Any, before: float) -> Any:
        if part is None:
            return None
        return jnp.concatenate([jnp.full_like(part[..., :1], before), part[..., :-1]], axis=-1)

    return replace(
        seen,
        nngp=moved(seen.nngp, 0.0),
        ntk=moved(seen.ntk, 0.0),
        var2=moved(seen.var2, 0.0),
        defect=moved(seen.defect, 1.0),
        surplus=moved(seen.surplus, 1.0),
    )
