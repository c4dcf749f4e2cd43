"""What the regression and the classification have in common: a trained mean and a covariance between outputs."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkit.inference.laplace.memory import check_memory
from ntkit.inference.laplace.reduction import Reduction
from ntkit.inference.predictive import Predictive
from ntkit.inference.variances import nonnegative
from ntkit.numerics.dtypes import Array, check_finite, precision
from ntkit.numerics.host import like, on_host
from ntkit.numerics.points import number_of_points, points_of, template

LARGEST_BLOCK = 2**25
"""Numbers of a block of points against the training data: 256 MiB."""


@dataclass(frozen=True, eq=False)
class LaplacePosterior(Predictive, ABC):
    """A trained model's outputs as mean, `(Θ_** - R) / δ` as covariance.

    Outputs may be correlated: `covariance`, `variance` and `std` are averages over outputs of the variance of each, as
    the kernel is; `full_covariance` and `output_covariance` have all, and `sample` draws outputs jointly.

    Attributes:
        model: the trained function.
        trained: its outputs on the training points.
        reduction: what the training data explain.
        square_norm: `|θ* - m|²`, None when it was not given.
        prior_precision: δ.
        memory_limit: bytes that a covariance between points may take.
    """

    model: Any
    trained: Float[Array, "n k"]
    reduction: Reduction
    square_norm: float | int | None
    prior_precision: float
    memory_limit: int

    @property
    @abstractmethod
    def effective_parameters(self) -> float:
        """`γ`, the number of directions in weight space that the data determine rather than the prior."""

    @abstractmethod
    def log_marginal_likelihood(self) -> float:
        """The Laplace approximation of `log p(y)`, in nats, summed over points and outputs.

        Raises:
            ValueError: when `square_norm` was not given.
        """

    def mean(self, x: Any) -> Float[Array, "m k"]:
        """The trained model's outputs."""
        outputs = self.model(x)
        outputs = outputs if isinstance(outputs, jax.Array) else np.asarray(outputs)
        check_finite(f"{type(self).__name__}.mean", outputs, "model(x)")
        return outputs

    def variance(self, x: Any) -> Float[Array, " m"]:
        def block(points: Any) -> np.ndarray:
            prior = self._blocks.averaged_diagonal(points)
            explained = np.einsum("maa->m", self.reduction.diagonal(points)) / self._blocks.outputs
            who = f"{type(self).__name__}.variance"
            return nonnegative(prior - explained, prior, self.trained.dtype, who) / self.prior_precision

        return self._answer(self._in_blocks(block, x), x)

    def covariance(self, x: Any) -> Float[Array, "m m"]:
        """The covariance between points, averaged over outputs."""
        change = self._blocks.averaged(x) - self.reduction.averaged(x)
        return self._answer(change / self.prior_precision, x)

    def output_covariance(self, x: Any) -> Float[Array, "m k k"]:
        """The covariance between the outputs of each point."""
        return self._answer(self._output_covariance(x), x)

    def full_covariance(self, x: Any) -> Float[Array, "m m k k"]:
        """The covariance of every output of every point with every other."""
        return self._answer(self._full_covariance("full_covariance", x), x)

    def sample(self, key: jax.Array, x: Any, count: int = 1) -> Float[Array, "count m k"]:
        """Draw `count` functions at `x`, jointly over points and outputs; eigenvalues below zero count as zero."""
        mean = self.mean(x)
        size = mean.shape[0] * mean.shape[1]
        full = self._full_covariance("sample", x)
        eigenvalues, eigenvectors = np.linalg.eigh(full.transpose(0, 2, 1, 3).reshape(size, size))
        root = eigenvectors * np.sqrt(eigenvalues.clip(0.0))[None, :]
        draws = np.asarray(normal(key, (count, size)), np.float64) @ root.T
        return like(on_host(mean)[None] + draws.reshape(count, *mean.shape), mean)

    @property
    def _blocks(self) -> Any:
        return self.reduction.blocks

    def _full_covariance(self, method: str, x: Any) -> Float[np.ndarray, "m m k k"]:
        points, outputs = number_of_points(x), self._blocks.outputs
        who = f"{type(self).__name__}.{method}"
        check_memory(who, 4 * (points * outputs) ** 2, self.memory_limit, points, outputs, "fewer points")
        return on_host(self._blocks.between(x) - self.reduction.between(x)) / self.prior_precision

    def _output_covariance(self, x: Any) -> Float[np.ndarray, "m k k"]:
        def block(points: Any) -> np.ndarray:
            covariance = (
                self._blocks.diagonal(points) - self.reduction.diagonal(points)
            ) / self.prior_precision
            return (covariance + covariance.transpose(0, 2, 1)) / 2

        return self._in_blocks(block, x)

    def _in_blocks(self, function: Any, x: Any) -> np.ndarray:
        rows = max(1, LARGEST_BLOCK // self.reduction.width)
        starts = range(0, number_of_points(x), rows)
        return np.concatenate([function(points_of(x, slice(start, start + rows))) for start in starts])

    def _answer(self, value: np.ndarray, x: Any) -> Any:
        """`value` like the points if they are floating arrays, else like the model's outputs."""
        return like(value, template(x, self.trained))

    def _need_norm(self, who: str) -> float:
        if self.square_norm is None:
            raise ValueError(
                f"{who} needs square_norm, the squared distance of the weights from the prior mean. "
                "Pass LinearizedLaplace(square_norm=...)."
            )
        return float(self.square_norm)


def normal(key: jax.Array, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers of a JAX key, in float64 whatever the configuration."""
    with precision(np.float64):
        return np.array(jax.random.normal(key, shape, dtype=jnp.float64))
