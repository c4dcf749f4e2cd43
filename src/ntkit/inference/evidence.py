"""Selection criteria of a Gaussian process as functions of its Gram matrix, each with its gradient.

Hyper-parameters enter only through the Gram matrix and the noise, so a criterion needs to know its
sensitivity to those two; the kernel's own derivative pulls that back to the hyper-parameters. This
costs one inverse, where differentiating through the factorisation costs several, and a matrix that
is not positive definite is an exception here instead of a NaN.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float
from scipy.linalg import get_lapack_funcs

from ntkit.errors import NotPositiveDefiniteError


@dataclass(frozen=True)
class Evidence:
    """The value of a criterion (larger is better) and its derivatives.

    Attributes:
        value: the criterion, in nats, summed over points and outputs.
        gram: `d value / d gram`, symmetric, shape (n, n).
        noise: `d value / d noise`, the trace of `gram`.
    """

    value: float
    gram: Float[np.ndarray, "n n"]
    noise: float


def log_marginal_likelihood(
    gram: Float[np.ndarray, "n n"], noise: float, y: Float[np.ndarray, "n k"]
) -> Evidence:
    """Log marginal likelihood `log p(y | x)` of a zero-mean Gaussian process, with its gradient.

    With `K = gram + noise 1` and `alpha = K^-1 y`, summed over the k outputs, which share K:

        value = -1/2 tr(y^T alpha) - k/2 log det K - n k/2 log(2 pi),
        d value / d K = 1/2 (alpha alpha^T - k K^-1).

    Rasmussen and Williams (2006), eqs. 2.30 and 5.9.

    Args:
        gram: the kernel on the training points, shape (n, n), float64.
        noise: noise variance, at least 0.
        y: targets, shape (n, k).

    Raises:
        NotPositiveDefiniteError: when `gram + noise 1` cannot be factored.
    """
    inverse, log_det = _inverse(gram, noise)
    outputs = y.shape[1]
    weights = inverse @ y
    value = (
        -0.5 * float(np.sum(y * weights)) - 0.5 * outputs * log_det - 0.5 * y.size * math.log(2.0 * math.pi)
    )
    return _evidence(value, 0.5 * (weights @ weights.T - outputs * inverse))


def leave_one_out_log_density(
    gram: Float[np.ndarray, "n n"], noise: float, y: Float[np.ndarray, "n k"]
) -> Evidence:
    """Leave-one-out log predictive density `sum_i log p(y_i | x, y without i)`, with its gradient.

    With `K = gram + noise 1`, `alpha = K^-1 y` and `q = diag(K^-1)`, the prediction of point i from
    the others has variance `1/q_i` and residual `alpha_i / q_i`, so, summed over the k outputs,

        value = sum_i [k/2 log q_i - |alpha_i|^2 / (2 q_i)] - n k/2 log(2 pi),
        d value / d K = sym(K^-1 (alpha/q) alpha^T) - K^-1 diag(k/(2 q) + |alpha|^2/(2 q^2)) K^-1.

    Rasmussen and Williams (2006), eqs. 5.10 to 5.13; Sundararajan and Keerthi (2001). It asks only for
    good predictions, so it is more robust than the marginal likelihood when the model is wrong.

    Args:
        gram: the kernel on the training points, shape (n, n), float64.
        noise: noise variance, at least 0.
        y: targets, shape (n, k).

    Raises:
        NotPositiveDefiniteError: when `gram + noise 1` cannot be factored.
    """
    inverse, _ = _inverse(gram, noise)
    outputs = y.shape[1]
    weights, precisions = inverse @ y, np.diag(inverse)
    squares = np.sum(weights**2, axis=1)
    densities = 0.5 * outputs * np.log(precisions) - 0.5 * squares / precisions
    value = float(np.sum(densities)) - 0.5 * y.size * math.log(2.0 * math.pi)
    through_mean = (inverse @ (weights / precisions[:, None])) @ weights.T
    through_variance = 0.5 * outputs / precisions + 0.5 * squares / precisions**2
    gradient = 0.5 * (through_mean + through_mean.T) - (inverse * through_variance[None, :]) @ inverse
    return _evidence(value, gradient)


Criterion = Callable[[np.ndarray, float, np.ndarray], Evidence]

CRITERIA: Mapping[str, Criterion] = MappingProxyType(
    {"log_marginal_likelihood": log_marginal_likelihood, "leave_one_out": leave_one_out_log_density}
)
"""The criteria by the names that `select` takes."""


def _inverse(gram: Float[np.ndarray, "n n"], noise: float) -> tuple[Float[np.ndarray, "n n"], float]:
    """`(gram + noise 1)^-1` and the log determinant, by Cholesky."""
    noisy = np.array(gram, dtype=np.float64, order="F")
    noisy[np.diag_indices_from(noisy)] += noise
    factorise, invert = get_lapack_funcs(("potrf", "potri"), (noisy,))
    factor, failed = factorise(noisy, lower=1, overwrite_a=1)
    diagonal = np.diag(factor).copy()
    if failed or not np.isfinite(diagonal).all():
        raise NotPositiveDefiniteError(
            f"The criterion needs a positive definite kernel matrix, got one of {len(gram)} points with noise "
            f"{noise:g} that has no Cholesky factor. Raise the noise."
        )
    lower, _ = invert(factor, lower=1, overwrite_c=1)
    inverse = np.tril(lower, -1)
    inverse += inverse.T
    inverse[np.diag_indices_from(inverse)] = np.diag(lower)
    return inverse, 2.0 * float(np.sum(np.log(diagonal)))


def _evidence(value: float, gradient: Float[np.ndarray, "n n"]) -> Evidence:
    return Evidence(value, gradient, float(np.trace(gradient)))
