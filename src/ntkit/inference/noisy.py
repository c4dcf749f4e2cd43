"""The distribution of new observations: a predictive distribution of the function, plus noise."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkit.inference.predictive import Predictive
from ntkit.numerics.dtypes import Array, is_concrete, is_numpy, precision


@dataclass(frozen=True, eq=False)
class Noisy(Predictive):
    """`y = f(x) + e` with `f` from `latent` and independent `e ~ N(0, noise)` at every point.

    The mean is the function's. Two rows of `x` are two observations, also when they are equal.
    """

    latent: Predictive
    noise: Any

    def mean(self, x: Any) -> Float[Array, "m k"]:
        return self.latent.mean(x)

    def covariance(self, x: Any) -> Float[Array, "m m"]:
        covariance = self.latent.covariance(x)
        library = np if is_numpy(covariance) and is_concrete(self.noise) else jnp
        return covariance + library.asarray(self.noise, covariance.dtype) * library.eye(
            len(covariance), dtype=covariance.dtype
        )

    def variance(self, x: Any) -> Float[Array, " m"]:
        variance = self.latent.variance(x)
        library = np if is_numpy(variance) and is_concrete(self.noise) else jnp
        return variance + library.asarray(self.noise, variance.dtype)

    def sample(self, key: jax.Array, x: Any, count: int = 1) -> Float[Array, "count m k"]:
        """Draw `count` functions at `x` and noise independent of them and between points and outputs."""
        of_function, of_noise = jax.random.split(key)
        functions = self.latent.sample(of_function, x, count)
        library = np if is_numpy(functions) and is_concrete(self.noise) else jnp
        with precision(functions.dtype):
            errors = jax.random.normal(of_noise, functions.shape, functions.dtype)
            errors = np.array(errors) if library is np else errors
        return functions + library.sqrt(library.asarray(self.noise, functions.dtype)) * errors
