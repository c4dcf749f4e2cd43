"""Gradient flow of a linearised finite network, solved in its weights."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkit.dynamics.arguments import as_learning_rate, as_times
from ntkit.dynamics.filters import FlowFilter
from ntkit.dynamics.squared_loss import Reduction, loss_weight
from ntkit.empirical import EmpiricalNTK, linearize
from ntkit.empirical.function import Function, Params, as_inputs, as_params
from ntkit.numerics.dtypes import Array, as_targets, is_concrete, is_numpy, precision
from ntkit.solvers import Spectrum, decompose


@dataclass(frozen=True, eq=False, repr=False)
class LinearizedNetwork:
    """A network linearised at its parameters and trained by gradient flow on the squared loss, in closed form.

    `θ_t = θ_0 − J(X)ᵀ Θ^{-1} (I − exp(−η Θ t)) (f_0(X) − Y)`, with the full kernel `Θ = J(X) J(X)ᵀ` over points and
    outputs, (n k x n k); `Θ^{-1} (I − exp(−η Θ t))` is a function of its eigenvalues, decomposed once in float64.
    Lee et al. (2019), equation 8. The outputs alone cost less: `gradient_flow(EmpiricalNTK(f, params), ...)` when
    outputs do not interact.

    NumPy data give NumPy weights and outputs in the dtype of `x`; JAX data give JAX arrays.

    Args:
        f: `f(params, x)`, inputs (n, ...) to outputs (n, k).
        params: θ_0, a pytree of floating-point arrays.
        x: training inputs (n, ...).
        y: training targets (n, k).
        learning_rate: η, in units of 1 / time.
        reduction: the loss is `½ Σ ‖f − y‖²` ("sum"), divided by n k ("mean") or by n ("mean_points").
        memory_limit: bytes that Jacobians may take, as for `EmpiricalNTK`.

    Raises:
        ValueError: for arguments that do not fit each other.
        NotPositiveDefiniteError: when the kernel, by rounding, has a materially negative eigenvalue.

    >>> import numpy as np
    >>> network = LinearizedNetwork(lambda w, x: x @ w, np.zeros((1, 1)), np.ones((1, 1)), np.ones((1, 1)))
    >>> [round(network.weights(t).item(), 6) for t in (0.0, 1.0, np.inf)]   # 1 - exp(-t)
    [0.0, 0.632121, 1.0]
    """

    f: Function
    params: Params
    x: Float[Array, "n *d"]
    y: Float[Array, "n k"]
    learning_rate: float | int = 1.0
    reduction: Reduction = "sum"
    memory_limit: int = 2**30

    def __post_init__(self) -> None:
        if not is_concrete((self.params, self.x, self.y)):
            raise ValueError(
                "LinearizedNetwork needs arrays that hold numbers, got values traced by JAX. "
                "Build it outside of jit, grad and vmap."
            )
        as_learning_rate("LinearizedNetwork", self.learning_rate)
        as_targets("LinearizedNetwork", self.y, as_inputs("LinearizedNetwork", self.x).shape[0])
        loss_weight("LinearizedNetwork", self.reduction, *self.y.shape)

    def weights(self, t: float | int) -> Params:
        """The parameters `θ_t` at a time from 0 to infinity, a pytree like `params`."""
        spectrum, error = self._problem
        times = as_times("LinearizedNetwork.weights", t)
        if times.ndim:
            raise ValueError(f"LinearizedNetwork.weights needs a single time, got shape {times.shape}.")
        rate = float(self.learning_rate) * loss_weight("LinearizedNetwork", self.reduction, *self.y.shape)
        learnt = FlowFilter(0.0, rate * times.reshape(1), np.full(1, rate)).learnt(spectrum)[0]
        amounts = (spectrum.eigenvectors @ (learnt * error)).reshape(self.y.shape)
        with self._precision(), jax.default_matmul_precision("highest"):
            x = jnp.asarray(self.x)
            origin = as_params("LinearizedNetwork", self.params, x.dtype)
            _, pull_back = jax.vjp(lambda parameters: self.f(parameters, x), origin)
            (change,) = pull_back(jnp.asarray(amounts, x.dtype))
            moved = jax.tree_util.tree_map(jnp.add, origin, change)
            return jax.tree_util.tree_map(np.array, moved) if self._numpy else moved

    def outputs(self, t: float | int, x: Float[Array, "m *d"]) -> Float[Array, "m k"]:
        """The linearised network's outputs at time t, `f(x; θ_0) + J(x)(θ_t − θ_0)`."""
        return linearize(self.f, self.params)(self.weights(t), x)

    @cached_property
    def _problem(self) -> tuple[Spectrum, np.ndarray]:
        """The full kernel's spectrum, and the error to be learnt `Y − f_0(X)` by eigendirection."""
        points, outputs = self.y.shape
        kernel = EmpiricalNTK(self.f, self.params, self.memory_limit)
        gram = np.asarray(kernel.full(self.x))
        if gram.shape[2] != outputs:
            raise ValueError(
                f"LinearizedNetwork needs as many targets as outputs, got {outputs} and {gram.shape[2]}."
            )
        size = points * outputs
        spectrum = decompose(
            gram.transpose(0, 2, 1, 3).reshape(size, size), name=repr(kernel), who="LinearizedNetwork"
        )
        start = np.asarray(linearize(self.f, self.params)(self.params, self.x), np.float64)
        return spectrum, spectrum.eigenvectors.T @ (np.asarray(self.y, np.float64) - start).reshape(-1)

    @property
    def _numpy(self) -> bool:
        return is_numpy(self.x, self.y)

    def _precision(self) -> AbstractContextManager:
        return precision(self.x.dtype) if self._numpy else nullcontext()
