"""Class probabilities from a Gaussian posterior over class scores: whose score is the largest?"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Float

from ntkit.numerics.dtypes import Array, check_finite, evaluate

_REACH = 9.0
"""Standard deviations covered around the leading score; the maximum lies outside with chance k 1e-19."""

_STEP = 0.1
"""Spacing of the trapezoidal rule; its error, about exp(-2 pi^2 / (k step^2)), is below rounding to k = 50."""


def class_probabilities(mean: Float[Array, "m k"], std: Float[Array, " m"]) -> Float[Array, "m k"]:
    """The probability that each of `k` independent Gaussian scores is the largest.

    With scores `g_c ~ N(mean_c, std^2)`, all classes sharing the standard deviation of their point,

        P(c) = P(g_c > g_j for all j != c)
             = integral of (1/std) pdf((v - mean_c)/std) prod_{j != c} cdf((v - mean_j)/std) dv,

    pdf and cdf the standard normal's. For two classes this is `cdf((mean_1 - mean_2) / (sqrt(2) std))`.
    The integral runs over the value `v` of the largest score, by the trapezoidal rule, which converges
    exponentially for such analytic, rapidly decaying integrands (Trefethen and Weideman 2014), and
    serves all classes with one set of nodes: the work is O(m k), not O(m k^2). The absolute error is
    about 1e-15 (float64); rows sum to 1.

    This treats one-hot targets as regression targets (Rasmussen and Williams 2006, section 6.5): the
    probabilities say how sure the model is of the largest score, and are not calibrated class frequencies.

    Args:
        mean: expected scores of m points and k >= 2 classes.
        std: standard deviation of the scores of each point, >= 0. At 0 the largest mean has
            probability 1, shared equally between ties.

    Returns:
        Probabilities, shape (m, k), of the arrays' own library and dtype.

    Raises:
        ValueError: for fewer than two classes, a negative `std` or values that are not finite.

    Example:
        >>> import numpy as np
        >>> class_probabilities(np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([1.0, 0.0])).round(4)
        array([[0.7602, 0.2398],
               [0.5   , 0.5   ]])
    """
    if mean.shape[1] < 2:
        raise ValueError(f"class_probabilities needs at least two classes, got mean of shape {mean.shape}.")
    check_finite("class_probabilities", mean, "mean")
    check_finite("class_probabilities", std, "std")
    if isinstance(std, np.ndarray) and (std < 0.0).any():
        raise ValueError(
            f"class_probabilities needs std >= 0, got {std.min()}. A negative variance was rounded: clip it at 0."
        )
    return evaluate(_probabilities, mean, std)


@jax.jit
def _probabilities(mean: Float[Array, "m k"], std: Float[Array, " m"]) -> Float[Array, "m k"]:
    behind = mean - jnp.max(mean, axis=1, keepdims=True)
    certain = std <= 0.0
    # Scores in units of std, relative to the leader; an underflowing quotient of a tiny std is -inf, which is right.
    score = behind / jnp.where(certain, 1.0, std)[:, None]
    nodes = jnp.arange(-_REACH, _REACH + _STEP / 2, _STEP, dtype=mean.dtype)

    def add(total, node):
        log_cdf = log_ndtr(node - score)
        log_pdf = -0.5 * (node - score) ** 2
        return total + jnp.exp(jnp.sum(log_cdf, axis=1, keepdims=True) - log_cdf + log_pdf), None

    total, _ = jax.lax.scan(add, jnp.zeros_like(mean), nodes)
    ties = (behind == 0.0).astype(mean.dtype)
    total = jnp.where(certain[:, None], ties, total)
    return total / jnp.sum(total, axis=1, keepdims=True)
