"""The random-function model: a linear model whose training by parameters is kernel gradient descent."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from ntkit.dynamics.losses import Loss, as_loss, loss_and_gradient, name_of
from ntkit.dynamics.squared_loss import Reduction, loss_weight
from ntkit.engines.plan import tracked
from ntkit.kernels.base import Kernel
from ntkit.nn.base import Layer
from ntkit.numerics.dtypes import Array, as_points, as_targets
from ntkit.numerics.host import like, on_host, working
from ntkit.numerics.trees import pytree
from ntkit.rkhs.descent import ROUNDING, DescentDivergedError
from ntkit.rkhs.draws import GaussianDraws, NetworkDraws, RandomFunctions


@dataclass(frozen=True, eq=False)
class RandomFunctionModel:
    """`F_θ = P^{-1/2} Σ_p θ_p f^(p)` with functions `f^(p)` drawn independently with covariance `kernel`.

    A linear model of P parameters whose tangent kernel `K̃ = P^{-1} Σ_p f^(p) ⊗ f^(p)` tends to the kernel at the
    rate P^{-1/2}. Draws of a Gaussian process are functions of infinitely many values, so the points are declared
    beforehand, training and test points together: `model.sample(points)`; elsewhere the functions are unknown.
    `RandomFunctionModel.from_networks` draws functions of any point.

    Args:
        kernel: the covariance of each function.
        count: the number of functions, P.
        key: a JAX random key; the same key and points give the same functions.

    Raises:
        ValueError: for a count below 1.

    Source:
        Jacot, Gabriel & Hongler (2018), Neural tangent kernel, section 3.1.

    >>> import jax, numpy as np
    >>> from ntkit.kernels.stationary import RBF
    >>> x = np.array([[0.0], [1.0]])
    >>> model = RandomFunctionModel(RBF(), 100_000, jax.random.key(0)).sample(x)
    >>> bool(np.abs(model.tangent_kernel(x) - RBF()(x)).max() < 0.02)   # 4 standard errors
    True
    """

    kernel: Kernel
    count: int
    key: jax.Array

    def __post_init__(self) -> None:
        _check_count(self.count)

    def sample(self, points: Float[Array, "n d"]) -> "LinearModel":
        """Draw the functions jointly at these points, in float64."""
        return LinearModel(GaussianDraws.of(self.kernel, self.count, self.key, points))

    @classmethod
    def from_networks(cls, network: Layer, count: int, key: jax.Array) -> "LinearModel":
        """Finite networks as the random functions, of covariance `NNGP(network)` up to terms of order 1 / width.

        For one hidden layer that covariance is exact at any width. The network needs one output.
        """
        _check_count(count)
        return LinearModel(NetworkDraws(network, key, count))


@dataclass(frozen=True, eq=False)
class LinearModel:
    """The model `F_θ(x) = P^{-1/2} Σ_p θ_p f^(p)(x)` for functions that have been drawn; θ of shape (P, k)."""

    functions: RandomFunctions

    def __call__(self, theta: Float[Array, "p k"], x: Float[Array, "n d"]) -> Float[Array, "n k"]:
        """`F_θ(x)`."""
        features, parameters = working(self.features(x), self._parameters("LinearModel", theta))
        return like(features @ parameters, x)

    def features(self, x: Float[Array, "n d"]) -> Float[Array, "n p"]:
        """`∂F_θ(x)/∂θ_p = P^{-1/2} f^(p)(x)`, shape (n, P)."""
        return self.functions(x) / float(np.sqrt(self.functions.count))

    @property
    def tangent_kernel(self) -> "RandomFunctionKernel":
        """`K̃(x, x') = P^{-1} Σ_p f^(p)(x) f^(p)(x')`, wherever the functions are known."""
        return RandomFunctionKernel(self.functions)

    def gradient_descent(
        self,
        loss: Loss,
        x: Float[Array, "n d"],
        y: Float[Array, "n k"],
        *,
        step_size: float | int,
        steps: int,
        theta: Float[Array, "p k"] | None = None,
        reduction: Reduction = "sum",
    ) -> "ParameterDescent":
        """Train the parameters by `θ ← θ − α ∂C/∂θ` on the cost `C = c Σ_i loss(F_θ(x_i), y_i)`.

        In function space these are the steps `F ← F − α K̃(·, X) ∂C/∂F(X)` of kernel gradient descent with the
        tangent kernel. Computes in float64; Ctrl-C returns what was reached.

        Args:
            loss: outputs and targets to a value per point, per output, or one value, in JAX operations.
            x: training points, shape (n, d).
            y: targets, shape (n, k).
            step_size: α, positive.
            steps: number of steps, at least 1.
            theta: where to start, shape (P, k); zeros by default.
            reduction: c is 1 ("sum"), 1 / (n k) ("mean") or 1 / n ("mean_points").

        Raises:
            ValueError: for arguments that do not fit together.
            DescentDivergedError: when the cost rises above its start or is not finite; its `result` holds the best
                parameters so far.
        """
        who = "LinearModel.gradient_descent"
        x = as_points(who, x)
        y = on_host(as_targets(who, y, len(x)))
        weight = loss_weight(who, reduction, *y.shape)
        as_loss(who, loss, y)
        if not (np.isfinite(step_size) and step_size > 0):
            raise ValueError(f"{who} needs a positive, finite step_size, got {step_size}.")
        if steps < 1:
            raise ValueError(f"{who} needs at least one step, got {steps}.")
        features = on_host(self.features(x))
        current = np.zeros((features.shape[1], y.shape[1]))
        if theta is not None:
            current = on_host(self._parameters(who, theta))
            if current.shape[1] != y.shape[1]:
                raise ValueError(
                    f"{who} needs theta with one column per column of y, got shape {current.shape}."
                )
        best, costs, interrupted = current, [], False
        try:
            for step in tracked(range(steps + 1), steps + 1, "training the random-function model"):
                with np.errstate(over="ignore", invalid="ignore"):
                    cost, slope = loss_and_gradient(loss, features @ current, y)
                cost = weight * cost
                if not np.isfinite(cost) or (costs and cost > costs[0] + ROUNDING * abs(costs[0])):
                    raise DescentDivergedError(
                        f"{who} needs a smaller step_size, got {step_size}: {name_of(loss)} came to {cost:.6g} after "
                        f"{step} steps. Try a tenth of it; the error's result holds the best parameters so far.",
                        ParameterDescent(best, np.array(costs), False),
                    )
                best = current if cost <= min(costs, default=np.inf) else best
                costs.append(cost)
                if step < steps:
                    current = current - step_size * weight * (features.T @ slope)
        except KeyboardInterrupt:
            interrupted = True
        return ParameterDescent(current, np.array(costs), interrupted)

    def _parameters(self, who: str, theta: Any) -> Any:
        """Parameters of shape (P, k).

        Raises:
            ValueError: for another shape.
        """
        if getattr(theta, "ndim", None) != 2 or len(theta) != self.functions.count:
            shape = getattr(theta, "shape", type(theta).__name__)
            raise ValueError(f"{who} needs theta of shape ({self.functions.count}, outputs), got {shape}.")
        return theta


@dataclass(frozen=True, eq=False)
class ParameterDescent:
    """Parameters after a descent, and the cost before each step and after the last.

    Attributes:
        theta: the parameters, shape (P, k), float64.
        cost: the costs, beginning with the start.
        interrupted: whether Ctrl-C ended the descent.
    """

    theta: Float[np.ndarray, "p k"]
    cost: Float[np.ndarray, " s"]
    interrupted: bool


@pytree("functions")
@dataclass(frozen=True, eq=False)
class RandomFunctionKernel(Kernel):
    """`K̃(x, x') = P^{-1} Σ_p f^(p)(x) f^(p)(x')`: the tangent kernel of a random-function model, of rank at most P.

    An unbiased estimate of the functions' covariance K. For Gaussian functions each entry has the variance
    `(K(x, x) K(x', x') + K(x, x')²) / P`.
    """

    functions: RandomFunctions

    def __call__(
        self, x1: Float[Array, "n1 d"], x2: Float[Array, "n2 d"] | None = None
    ) -> Float[Array, "n1 n2"]:
        left = self.functions(x1)
        right = left if x2 is None else self.functions(x2)
        return left @ right.T / self.functions.count

    def diag(self, x: Float[Array, "n d"]) -> Float[Array, " n"]:
        return (self.functions(x) ** 2).sum(axis=1) / self.functions.count


def _check_count(count: int) -> None:
    if count < 1:
        raise ValueError(f"RandomFunctionModel needs a count of at least 1, got {count}.")
