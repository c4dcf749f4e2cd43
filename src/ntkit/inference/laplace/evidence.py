"""The Laplace approximation of the marginal likelihood, in function space, and where it is largest.

With a prior `θ ~ N(m, 1/δ)` of P weights, weights `θ*` found by training, the Jacobian `J` of the training outputs
there and the likelihood's negative second derivative by those outputs `Λ = B B^T`, a Gaussian around `θ*` gives

    log p(y) = log p(y | θ*) + log p(θ*) + P/2 log 2π - 1/2 log det(J^T Λ J + δ 1)
             = log p(y | θ*) - δ/2 |θ* - m|² - 1/2 log det(1 + S / δ),    S = B^T (J J^T) B,

by `P/2 log δ - 1/2 log det(J^T Λ J + δ 1) = -1/2 log det(1 + J^T Λ J / δ)` and Sylvester's identity. Weights enter
through `|θ* - m|²` alone, everything else through the tangent kernel `J J^T`. The number of directions that the data
determine, `γ = Σ s_i / (s_i + δ)` over the eigenvalues of S, is at most that of the outputs (MacKay's effective number
of parameters), and `d log p(y) / d log δ = (γ - δ |θ* - m|²) / 2`. `θ*` is held fixed: where it is the mode of the
linearised model's posterior the gradient is also that of the evidence with the mode moving along.

Source:
    MacKay (1992), "A practical Bayesian framework for backpropagation networks" and "The evidence framework applied to
    classification networks"; Immer et al. (2021), "Scalable marginal likelihood estimation for model selection in deep
    learning"; Daxberger et al. (2021), "Laplace redux".
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

WIDEST = 300.0
"""How many powers of ten from its first guess a hyper-parameter is looked for."""


def gaussian_evidence(
    eigenvalues: Float[np.ndarray, " n"], residual: float, square_norm: float, noise: float, precision: float
) -> float:
    """The evidence of a regression with noise variance σ² and prior precision δ.

    `-|r|²/(2σ²) - n/2 log(2πσ²) - δ/2 |θ* - m|² - 1/2 Σ log(1 + λ_i / (σ²δ))`, which is
    `-1/2 log det(J J^T / δ + σ² 1)` and two squares.

    Args:
        eigenvalues: λ, of the tangent kernel on all n outputs of all points.
        residual: `|r|² = |y - f(x; θ*)|²`.
        square_norm: `|θ* - m|²`.
        noise: σ².
        precision: δ.
    """
    fit = -0.5 * residual / noise - 0.5 * len(eigenvalues) * math.log(2.0 * math.pi * noise)
    return fit + occam_factor(eigenvalues / noise, square_norm, precision)


def occam_factor(eigenvalues: Float[np.ndarray, " n"], square_norm: float, precision: float) -> float:
    """`-δ/2 |θ* - m|² - 1/2 Σ log(1 + s_i / δ)`: what the evidence takes off the likelihood of the best fit."""
    return -0.5 * precision * square_norm - 0.5 * float(np.sum(np.log1p(eigenvalues / precision)))


def best_gaussian(
    eigenvalues: Float[np.ndarray, " n"],
    residual: float,
    square_norm: float,
    noise: float | None,
    precision: float | None,
) -> tuple[float, float]:
    """The noise variance and prior precision, those of them that are not given, at which the evidence is largest.

    In each case it is the only root of a difference of monotone functions. With both free, for a ridge `τ = σ²δ` the
    best precision is `δ = n / (|r|²/τ + |θ* - m|²)`, and what is left is
    `n |r|² / (|r|² + τ |θ* - m|²) = Σ τ / (λ_i + τ)`, whose left side falls and whose right side rises in τ.

    Raises:
        ValueError: when nothing bounds a free hyper-parameter.
    """
    size = len(eigenvalues)
    if noise is None and residual == 0.0:
        raise ValueError(
            "LinearizedLaplace.regression needs residuals to estimate the noise from, got a model that meets every "
            "target exactly. Pass noise=."
        )
    if precision is None:
        check_bounded("LinearizedLaplace.regression", eigenvalues, square_norm)
    if noise is not None and precision is not None:
        return float(noise), float(precision)
    if noise is not None:
        scaled = eigenvalues / noise
        return float(noise), best_precision(lambda delta: effective(scaled, delta), square_norm, size)
    if precision is not None:
        prior = eigenvalues / precision
        variance = root(lambda s: residual / s - float(np.sum(s / (prior + s))), residual / size)
        return variance, float(precision)

    def excess(ridge: float) -> float:
        unexplained = float(np.sum(ridge / (eigenvalues + ridge)))
        return size * residual / (residual + square_norm * ridge) - unexplained

    ridge = root(excess, residual / square_norm)
    precision = size / (residual / ridge + square_norm)
    return ridge / precision, precision


def best_precision(determined: Callable[[float], float], square_norm: float, size: int) -> float:
    """The prior precision at which the evidence is largest, the only root of `γ(δ) = δ |θ* - m|²`.

    Args:
        determined: `γ(δ)`, falling.
        square_norm: `|θ* - m|²`, positive.
        size: an upper bound of γ.
    """
    return root(lambda delta: determined(delta) / delta - square_norm, size / square_norm)


def effective(eigenvalues: Float[np.ndarray, " n"], precision: float) -> float:
    """`γ = Σ s_i / (s_i + δ)`, the number of directions that the data determine."""
    return float(np.sum(eigenvalues / (eigenvalues + precision)))


def check_bounded(who: str, eigenvalues: Float[np.ndarray, " n"], square_norm: float) -> None:
    """Raise when the evidence grows without bound as the prior precision goes to infinity or to 0."""
    if square_norm == 0.0:
        raise ValueError(
            f"{who} needs weights that training moved to estimate the prior precision from, got weights at the prior "
            "mean. Pass prior_precision=, or another prior_mean."
        )
    if not (eigenvalues > 0.0).any():
        raise ValueError(
            f"{who} needs outputs that depend on the weights to estimate the prior precision from, got a curvature of "
            "zero: the tangent kernel vanishes on the data, or every prediction is certain. Pass prior_precision=."
        )


def root(falling: Callable[[float], float], start: float) -> float:
    """The positive number at which a falling function is zero, to twelve digits, from any positive start.

    Raises:
        ValueError: when there is no sign change within 300 powers of ten.
    """
    tens = math.log10(min(max(start, 1e-280), 1e280))

    def at(exponent):
        return falling(10.0**exponent)

    low = high = tens
    if at(tens) > 0.0:
        while at(high) > 0.0:
            low, high = high, high + 1.0
            _check_reach(high, tens)
    else:
        while at(low) <= 0.0:
            low, high = low - 1.0, low
            _check_reach(low, tens)
    return float(10.0 ** brentq(at, low, high, xtol=1e-13, rtol=1e-13))


def _check_reach(exponent: float, start: float) -> None:
    if abs(exponent) > WIDEST or not math.isfinite(start):
        raise ValueError(
            "LinearizedLaplace needs a marginal likelihood with a maximum, got one that still grows at "
            f"1e{exponent:+.0f}. Pass noise= and prior_precision=."
        )
