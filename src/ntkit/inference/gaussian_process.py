"""Gaussian processes: a kernel as a prior over functions, conditioned on noisy observations."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkit.errors import NotPositiveDefiniteError
from ntkit.inference.blocks import in_blocks
from ntkit.inference.leave_one_out import LeaveOneOut
from ntkit.inference.noisy import Noisy
from ntkit.inference.predictive import Predictive
from ntkit.inference.variances import nonnegative
from ntkit.kernels.base import Kernel
from ntkit.numerics.dtypes import Array, as_targets, is_concrete, is_numpy
from ntkit.numerics.host import like, working
from ntkit.numerics.points import is_floating, number_of_points, points_of, template
from ntkit.numerics.trees import as_leaf, pytree
from ntkit.solvers import Cholesky, Factor, Solver

DEFAULT_SOLVER = Cholesky()
"""The fastest, and the one that refuses a matrix it cannot factor."""


@pytree()
@dataclass(frozen=True, eq=False)
class GaussianProcess(Predictive):
    """`f ~ GP(0, kernel)`, observed as `y = f(x) + e` with `e ~ N(0, noise)`.

    It is itself a `Predictive`: the prior of one output, with mean zero of shape (m, 1). It is also a JAX pytree,
    so `jax.grad` of its log marginal likelihood is a Gaussian process whose kernel and noise are the derivatives.

    Args:
        kernel: the covariance function; several outputs share it and are independent.
        noise: the *variance* of the observation noise, in the units of `y` squared, at least 0.

    Raises:
        ValueError: for noise that is negative or not finite.

    Source:
        Rasmussen & Williams (2006), Gaussian Processes for Machine Learning, chapter 2.

    >>> import numpy as np
    >>> from ntkit.kernels.stationary import RBF
    >>> process = GaussianProcess(RBF(), noise=3.0)
    >>> posterior = process.condition(np.array([[0.0]]), np.array([[2.0]]))
    >>> posterior.mean(np.array([[0.0]])).item(), posterior.variance(np.array([[0.0]])).item()
    (0.5, 0.75)
    """

    kernel: Kernel
    noise: Any = 0.0

    def __post_init__(self) -> None:
        noise = as_leaf("GaussianProcess", "noise", self.noise, 0.0)
        if isinstance(noise, jax.Array | np.ndarray) and is_concrete(noise):
            as_leaf("GaussianProcess", "noise", np.asarray(noise).item(), 0.0)
        object.__setattr__(self, "noise", noise)

    def mean(self, x: Any) -> Float[Array, "m 1"]:
        x = self.kernel.as_inputs("GaussianProcess.mean", x)
        # Only the kernel knows the dtype of an answer at tokens.
        answer = x if is_floating(x) else self.kernel.diag(points_of(x, slice(1)))
        return like(np.zeros((number_of_points(x), 1)), answer)

    def covariance(self, x: Any) -> Float[Array, "m m"]:
        return self.kernel(self.kernel.as_inputs("GaussianProcess.covariance", x))

    def variance(self, x: Any) -> Float[Array, " m"]:
        return self.kernel.diag(self.kernel.as_inputs("GaussianProcess.variance", x))

    def with_noise(self) -> Noisy:
        """The prior distribution of observations rather than of the function."""
        return Noisy(self, self.noise)

    def condition(self, x: Any, y: Float[Array, "n k"], solver: Solver = DEFAULT_SOLVER) -> "Posterior":
        """The posterior given observations, `O(n^3)` once.

        Args:
            x: the n observed points, as the kernel takes them: an array, or a pytree of arrays.
            y: the observed values, shape (n, k).
            solver: `Cholesky()` unless given, or `Eigh()` for a kernel that is singular on `x` and no noise.

        Raises:
            ValueError: for arrays that do not fit, or NumPy arrays when the hyper-parameters are traced.
            NotPositiveDefiniteError: when the solver fails; the text names the remedies.
        """
        x = self.kernel.as_inputs("GaussianProcess.condition", x)
        y = as_targets("GaussianProcess.condition", y, number_of_points(x))
        if is_numpy(x, y) and not is_concrete(self):
            raise ValueError(
                "GaussianProcess.condition needs JAX arrays under jit, grad or vmap, got NumPy arrays. Pass "
                "jnp.asarray(x) and jnp.asarray(y), under jax.enable_x64(True) for float64."
            )
        factor = solver.factor(self.kernel(x), self.noise, name=repr(self.kernel))
        if not factor.is_traced and is_concrete(y):
            (y,) = working(y)
        else:
            y = jnp.asarray(y, factor.gram.dtype)
        return Posterior(self, x, y, factor, factor.solve(y))

    def log_marginal_likelihood(
        self, x: Any, y: Float[Array, "n k"], solver: Solver = DEFAULT_SOLVER
    ) -> Float[Array, ""] | float:
        """`log p(y | x)`, summed over the outputs; differentiable when the arrays are JAX arrays.

        With `A = K + noise I`, for every output: `-(y^T A^{-1} y + log det A + n log 2 pi) / 2`.

        Source:
            Rasmussen & Williams (2006), equation 2.30.
        """
        return self.condition(x, y, solver).log_marginal_likelihood()


@dataclass(frozen=True, eq=False)
class Posterior(Predictive):
    """A Gaussian process given observations: the distribution of the function `f`, without the noise.

    With `A = K + noise I`: mean `k(x, X) A^{-1} y`, covariance `k(x, x') - k(x, X) A^{-1} k(X, x')`. Answers have
    the array library and dtype of the points asked about where these are a floating array, else (tokens, pytrees) of
    the Gram matrix; the linear algebra is in float64.

    Source:
        Rasmussen & Williams (2006), equations 2.25 and 2.26.
    """

    prior: GaussianProcess
    x: Any
    y: Float[Array, "n k"]
    factor: Factor
    weights: Float[Array, "n k"]

    @property
    def noise(self) -> Any:
        """The variance of the observation noise."""
        return self.prior.noise

    def mean(self, x: Any) -> Float[Array, "m k"]:
        def block(points: Any) -> Any:
            cross, weights = working(self.prior.kernel(points, self.x), self.weights)
            return like(cross @ weights, self._template(points))

        return in_blocks(block, self._as_inputs("Posterior.mean", x), len(self.y))

    def variance(self, x: Any) -> Float[Array, " m"]:
        def block(points: Any) -> Any:
            cross, prior = working(self.prior.kernel(self.x, points), self.prior.kernel.diag(points))
            variance = prior - (self.factor.whiten(cross) ** 2).sum(axis=0)
            answer = self._template(points)
            return like(nonnegative(variance, prior, answer.dtype, "Posterior.variance"), answer)

        return in_blocks(block, self._as_inputs("Posterior.variance", x), len(self.y))

    def covariance(self, x: Any) -> Float[Array, "m m"]:
        x = self._as_inputs("Posterior.covariance", x)
        cross, prior = working(self.prior.kernel(self.x, x), self.prior.kernel(x))
        whitened = self.factor.whiten(cross)
        return like(prior - whitened.T @ whitened, self._template(x))

    def with_noise(self) -> Noisy:
        """The distribution of new observations `y = f(x) + e` rather than of the function."""
        return Noisy(self, self.noise)

    def log_marginal_likelihood(self) -> Float[Array, ""] | float:
        """`log p(y | x)` of the observations, summed over the outputs (see `GaussianProcess`).

        Raises:
            NotPositiveDefiniteError: for a singular matrix, which has no density.
        """
        self._need_full_rank("log marginal likelihood")
        points, outputs = self.y.shape
        constant = points * float(np.log(2.0 * np.pi))
        value = -0.5 * ((self.y * self.weights).sum() + outputs * (self.factor.log_det() + constant))
        return (
            float(value) if is_numpy(self.x) and is_concrete(value) else like(value, self._template(self.x))
        )

    def leave_one_out(self) -> LeaveOneOut:
        """Every observation predicted from all the others, at no more cost than the factorisation.

        Raises:
            NotPositiveDefiniteError: for a singular matrix.
        """
        self._need_full_rank("leave-one-out prediction")
        diagonal = self.factor.inverse_diagonal()
        residuals = self.weights / diagonal[:, None]
        answer = self._template(self.x)
        return LeaveOneOut(
            like(self.y - residuals, answer), like(1.0 / diagonal, answer), like(residuals, answer)
        )

    def _as_inputs(self, who: str, x: Any) -> Any:
        return self.prior.kernel.as_inputs(who, x)

    def _template(self, x: Any) -> Array:
        return template(x, self.factor.gram)

    def _need_full_rank(self, what: str) -> None:
        if not self.factor.is_traced and self.factor.rank < len(self.y):
            raise NotPositiveDefiniteError(
                f"The {what} needs a positive definite matrix, got {self.factor.name} of rank {self.factor.rank} on "
                f"{len(self.y)} points with noise {float(self.noise):.3g}. Use a larger noise or remove duplicates."
            )
