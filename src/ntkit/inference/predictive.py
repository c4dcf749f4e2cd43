"""What every inference returns: a distribution over functions, asked point by point."""

from abc import ABC, abstractmethod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkit.numerics.dtypes import Array, is_numpy, precision


class Predictive(ABC):
    """A Gaussian distribution over functions: `k` independent outputs that share one covariance.

    Methods, not flags: asking for the mean never builds a test-by-test matrix. Points `x` are as the kernel takes them,
    an array or a pytree of arrays, m of them.
    """

    @abstractmethod
    def mean(self, x: Any) -> Float[Array, "m k"]:
        """The expected function at `x`."""

    @abstractmethod
    def covariance(self, x: Any) -> Float[Array, "m m"]:
        """The covariance of one output between the points of `x` (the same for every output)."""

    @abstractmethod
    def variance(self, x: Any) -> Float[Array, " m"]:
        """The diagonal of `covariance(x)`, without the matrix; never negative."""

    def std(self, x: Any) -> Float[Array, " m"]:
        """The standard deviation of one output at each point of `x`."""
        variance = self.variance(x)
        return np.sqrt(variance) if is_numpy(variance) else jnp.sqrt(variance)

    def sample(self, key: jax.Array, x: Any, count: int = 1) -> Float[Array, "count m k"]:
        """Draw `count` functions at `x`, jointly over the points, independently over the outputs.

        The covariance's square root comes from its eigenvalues (a semi-definite covariance is no
        obstacle); eigenvalues that rounding made negative count as zero.
        """
        mean, covariance = self.mean(x), self.covariance(x)
        library = np if is_numpy(mean, covariance) else jnp
        eigenvalues, eigenvectors = library.linalg.eigh(covariance)
        root = eigenvectors * library.sqrt(library.clip(eigenvalues, 0.0, None))[None, :]
        with precision(mean.dtype):
            noise = jax.random.normal(key, (count, *mean.shape), dtype=mean.dtype)
            if library is np:
                noise = np.array(noise)
        return mean[None, :, :] + library.einsum("ij,cjk->cik", root, noise)
