"""Regression: Gaussian noise of one variance, its size and the prior's precision from one eigendecomposition."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from ntkit.inference.laplace.evidence import best_gaussian, effective, gaussian_evidence
from ntkit.inference.laplace.output_blocks import OutputBlocks
from ntkit.inference.laplace.posterior import LaplacePosterior
from ntkit.inference.laplace.reduction import SpectralReduction
from ntkit.inference.noisy import Noisy
from ntkit.numerics.dtypes import Array
from ntkit.solvers import decompose


@dataclass(frozen=True, eq=False)
class LaplaceRegression(LaplacePosterior):
    """The linearised-Laplace posterior of a regression, made by `LinearizedLaplace.regression`.

    With `K = J J^T / δ`: covariance `K_** - K_*X (K_XX + σ² 1)^{-1} K_X*`, of the function; `with_noise` is that of new
    observations. `covariance`, `variance` and `std` average over outputs; `output_covariance` does not.

    Attributes:
        noise: σ², the variance of the observation noise.
        residual: `|y - f(X)|²`.
        prior_precision: δ.
    """

    noise: float
    residual: float
    eigenvalues: Float[np.ndarray, " p"]

    @property
    def effective_parameters(self) -> float:
        return effective(self.eigenvalues / self.noise, self.prior_precision)

    def log_marginal_likelihood(self) -> float:
        """The Laplace approximation of `log p(y)` at this noise and prior precision, in nats.

        `log N(y; f(X), σ²) - δ/2 |θ* - m|² - 1/2 log det(1 + K_XX / σ²)`: for a model linear in its weights and θ* at
        the mode, the marginal likelihood itself.

        Raises:
            ValueError: when `square_norm` was not given.
        """
        norm = self._need_norm("LaplaceRegression.log_marginal_likelihood")
        return gaussian_evidence(self.eigenvalues, self.residual, norm, self.noise, self.prior_precision)

    def with_hyperparameters(
        self, *, noise: float | int | None = None, prior_precision: float | int | None = None
    ) -> "LaplaceRegression":
        """The same posterior at another noise or prior precision, without decomposing again."""
        noise = self.noise if noise is None else noise
        precision = self.prior_precision if prior_precision is None else prior_precision
        for name, value in (("noise", noise), ("prior_precision", precision)):
            if not (np.isfinite(value) and value > 0):
                raise ValueError(f"LaplaceRegression needs {name} as a positive, finite number, got {value}.")
        noise, precision = float(noise), float(precision)
        reduction = replace(self.reduction, ridge=noise * precision)
        return replace(self, noise=noise, prior_precision=precision, reduction=reduction)

    def with_noise(self) -> Noisy:
        """The distribution of new observations `y = f(x) + e` rather than of the function."""
        return Noisy(self, self.noise)


def regress(
    blocks: OutputBlocks,
    model: Any,
    x: Any,
    trained: Array,
    residual: float,
    square_norm: float | int | None,
    noise: float | None,
    precision: float | None,
    memory_limit: int,
) -> LaplaceRegression:
    """Decompose the kernel on the data, choose what is not given, and build the posterior."""
    spectrum = decompose(blocks.gram(x), name=repr(blocks.kernel), who="LinearizedLaplace.regression")
    eigenvalues = np.where(spectrum.retained, spectrum.eigenvalues, 0.0)
    every = np.repeat(eigenvalues, blocks.outputs // blocks.width)
    if noise is None or precision is None:
        norm = 0.0 if square_norm is None else float(square_norm)
        noise, precision = best_gaussian(every, residual, norm, noise, precision)
    reduction = SpectralReduction(blocks, x, None, spectrum, noise * precision)
    return LaplaceRegression(
        model, trained, reduction, square_norm, precision, memory_limit, noise, residual, every
    )
