"""Gradient flow of a linearised finite network, solved in its weights."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkit.dynamics.arguments import as_asked, as_learning_rate, as_times
from ntkit.dynamics.filters import FlowFilter
from ntkit.dynamics.squared_loss import Reduction, loss_weight
from ntkit.empirical import EmpiricalNTK, linearize
from ntkit.empirical.function import Function, Params, as_examples, as_params, count_outputs, working_dtype
from ntkit.numerics.dtypes import Array, as_targets, is_concrete, is_numpy, precision, to_jax
from ntkit.solvers import Spectrum, decompose


@dataclass(frozen=True, eq=False, repr=False)
class LinearizedModel:
    """A network linearised at its parameters and trained by gradient flow on the squared loss, in closed form.

    `θ_t = θ_0 − J(X)ᵀ Θ^{-1} (I − exp(−η Θ t)) (f_0(X) − Y)`, with the full kernel `Θ = J(X) J(X)ᵀ` over points and
    outputs, (n k x n k); `Θ^{-1} (I − exp(−η Θ t))` is a function of its eigenvalues, decomposed once in float64, so
    that any number of times can be asked about. Lee et al. (2019), equation 8. The outputs alone cost less:
    `gradient_flow(EmpiricalNTK(f, params), ...)` when outputs do not interact.

    NumPy data give NumPy weights and outputs, JAX data JAX arrays; in the dtype of the floating arrays of `x`, and
    where it has none (tokens) in that of `params`.

    Args:
        f: `f(params, x)`, inputs (n, ...) to outputs (n, k).
        params: θ_0, a pytree of floating-point arrays.
        x: training inputs (n, ...), tokens included, or a pytree of such arrays.
        y: training targets (n, k).
        learning_rate: η, in units of 1 / time.
        reduction: the loss is `½ Σ ‖f − y‖²` ("sum"), divided by n k ("mean") or by n ("mean_points").
        memory_limit: bytes that Jacobians may take, as for `EmpiricalNTK`.

    Raises:
        ValueError: for arguments that do not fit each other.
        NotPositiveDefiniteError: when the kernel, by rounding, has a materially negative eigenvalue.

    >>> import numpy as np
    >>> model = LinearizedModel(lambda w, x: x @ w, np.zeros((1, 1)), np.ones((1, 1)), np.ones((1, 1)))
    >>> model.weights(np.array([0.0, 1.0, np.inf])).ravel().round(6)   # 1 - exp(-t)
    array([0.      , 0.632121, 1.      ])
    >>> model.at(1.0).mean(np.array([[2.0]])).round(6)
    array([[1.264241]])
    """

    f: Function
    params: Params
    x: Any
    y: Float[Array, "n k"]
    learning_rate: float | int = 1.0
    reduction: Reduction = "sum"
    memory_limit: int = 2**30

    def __post_init__(self) -> None:
        if not is_concrete((self.params, self.x, self.y)):
            raise ValueError(
                "LinearizedModel needs arrays that hold numbers, got values traced by JAX. "
                "Build it outside of jit, grad and vmap."
            )
        as_learning_rate("LinearizedModel", self.learning_rate)
        as_targets("LinearizedModel", self.y, as_examples("LinearizedModel", self.x))
        loss_weight("LinearizedModel", self.reduction, *self.y.shape)

    def at(self, t: float | int | Array) -> "TrainedLinearizedModel":
        """The model after training up to a single time from 0 to infinity, ready to predict."""
        if np.ndim(t):
            raise ValueError(
                f"LinearizedModel.at needs a single time, got shape {np.shape(t)}. "
                "Several at once: LinearizedModel.weights or LinearizedModel.outputs."
            )
        return TrainedLinearizedModel(self.f, self.params, self.weights(t))

    def weights(self, t: float | int | Float[Array, " t"]) -> Params:
        """The parameters `θ_t` at a time from 0 to infinity, a pytree like `params`.

        For a vector of T times every array has a leading axis T.
        """
        times = as_times("LinearizedModel.weights", t)
        amounts = self._amounts(times)
        with self._precision(), jax.default_matmul_precision("highest"):
            x, origin = self._converted()
            moved = _moved(self.f, origin, x, to_jax(amounts))
            moved = jax.tree_util.tree_map(np.array, moved) if self._numpy else moved
            return jax.tree_util.tree_map(lambda leaf: leaf[0], moved) if times.ndim == 0 else moved

    def outputs(self, t: float | int | Float[Array, " t"], x: Any) -> Float[Array, "*t m k"]:
        """The linearised network's outputs at time t, `f(x; θ_0) + J(x)(θ_t − θ_0)`; for T times (T, m, k)."""
        times = as_times("LinearizedModel.outputs", t)
        if times.ndim == 0:
            return self.at(float(times)).mean(x)
        model = linearize(self.f, self.params)
        path = self.weights(times)
        every = [model(jax.tree_util.tree_map(lambda leaf, i=i: leaf[i], path), x) for i in range(len(times))]
        return np.stack(every) if is_numpy(*every) else jnp.stack(every)

    def loss(self, t: float | int | Float[Array, " t"]) -> Any:
        """The training loss at a time, in the reduction asked for: a float, or (T,) for a vector of T times.

        `c ½ Σ_i exp(−2 η c λ_i t) (v_iᵀ (f_0 − Y))²` over the eigendirections; nothing else is evaluated.
        """
        spectrum, error = self._problem
        times = as_times("LinearizedModel.loss", t)
        weight = loss_weight("LinearizedModel", self.reduction, *self.y.shape)
        left = self._filter(times).remaining(spectrum) * error[None, :]
        return as_asked(0.5 * weight * np.sum(left**2, axis=1), times)

    def _filter(self, times: np.ndarray) -> FlowFilter:
        rate = float(self.learning_rate) * loss_weight("LinearizedModel", self.reduction, *self.y.shape)
        moments = times.reshape(-1)
        return FlowFilter(0.0, rate * moments, np.full(len(moments), rate))

    def _amounts(self, times: np.ndarray) -> Float[np.ndarray, "t n k"]:
        """How much of the gradient of each training output the weights have moved by, per time."""
        spectrum, error = self._problem
        learnt = self._filter(times).learnt(spectrum)
        return ((learnt * error[None, :]) @ spectrum.eigenvectors.T).reshape(-1, *self.y.shape)

    @cached_property
    def _problem(self) -> tuple[Spectrum, np.ndarray]:
        """The full kernel's spectrum, and the error to be learnt `Y − f_0(X)` by eigendirection."""
        points, outputs = self.y.shape
        with self._precision():
            x, origin = self._converted()
            returned = count_outputs("LinearizedModel", self.f, origin, x)
        if returned != outputs:
            raise ValueError(
                f"LinearizedModel needs as many targets as outputs, got {outputs} and {returned}."
            )
        kernel = EmpiricalNTK(self.f, self.params, self.memory_limit)
        gram = np.asarray(kernel.full(self.x))
        size = points * outputs
        spectrum = decompose(
            gram.transpose(0, 2, 1, 3).reshape(size, size), name=repr(kernel), who="LinearizedModel"
        )
        start = np.asarray(linearize(self.f, self.params)(self.params, self.x), np.float64)
        return spectrum, spectrum.eigenvectors.T @ (np.asarray(self.y, np.float64) - start).reshape(-1)

    def _converted(self) -> tuple[Any, Params]:
        """Inputs and parameters as JAX arrays, inside of `_precision`."""
        return to_jax(self.x), as_params("LinearizedModel", self.params, self._dtype)

    @property
    def _dtype(self) -> Any:
        return working_dtype(self.params, self.x)

    @property
    def _numpy(self) -> bool:
        return is_numpy(self.x, self.y)

    def _precision(self) -> AbstractContextManager:
        return precision(self._dtype) if self._numpy else nullcontext()


@partial(jax.jit, static_argnums=0)
def _moved(f: Function, origin: Params, x: Any, amounts: Float[jax.Array, "t n k"]) -> Params:
    """`θ_0 + J(x)ᵀ amounts` for each time."""
    outputs, pull_back = jax.vjp(lambda parameters: f(parameters, x), origin)
    (change,) = jax.vmap(pull_back)(amounts.astype(outputs.dtype))
    return jax.tree_util.tree_map(lambda start, step: jnp.expand_dims(start, 0) + step, origin, change)


@dataclass(frozen=True, eq=False, repr=False)
class TrainedLinearizedModel:
    """A linearised network with its trained weights: `f(x; θ_0) + J(x)(θ − θ_0)`, a predictor.

    Calling it is asking for its mean; it is one function, without a spread.

    Attributes:
        f: the network, `f(params, x)`.
        origin: θ_0, where it was linearised.
        params: θ, the trained weights.
    """

    f: Function
    origin: Params
    params: Params

    def mean(self, x: Any) -> Float[Array, "m k"]:
        """The outputs at `x`, in its array library and dtype."""
        return linearize(self.f, self.origin)(self.params, x)

    def __call__(self, x: Any) -> Float[Array, "m k"]:
        """The same as `mean`."""
        return self.mean(x)
