"""Leave-one-out predictions in closed form: every point predicted from all the others, without refitting."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkit.numerics.dtypes import Array, is_numpy
from ntkit.numerics.trees import pytree


@pytree()
@dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """The predictive distribution of each observation `y_i` given the others, noise included.

    With `A = K + noise I`: residuals `y_i - mean_i = [A^{-1} y]_i / [A^{-1}]_ii`, variances `1 / [A^{-1}]_ii`.

    Source:
        Rasmussen & Williams (2006), Gaussian Processes for Machine Learning, equations 5.10 to 5.12.
    """

    mean: Float[Array, "n k"]
    variance: Float[Array, " n"]
    residuals: Float[Array, "n k"]

    @property
    def log_densities(self) -> Float[Array, "n k"]:
        """`log p(y_i | the others)` of every point and output."""
        library = np if is_numpy(self.residuals, self.variance) else jnp
        variance = self.variance[:, None]
        return -0.5 * (library.log(2.0 * np.pi * variance) + self.residuals**2 / variance)

    @property
    def log_density(self) -> Any:
        """The sum of `log_densities`: the log pseudo-likelihood, comparable with the log marginal likelihood."""
        return self.log_densities.sum()
