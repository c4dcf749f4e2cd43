"""Variances that came out of a subtraction: rounding below zero is clipped, anything larger is reported."""

import warnings
from typing import Any

import numpy as np

from ntkit.errors import AccuracyWarning
from ntkit.numerics.dtypes import is_concrete


def nonnegative(variance: Any, prior: Any, dtype: Any, who: str) -> Any:
    """`max(variance, 0)`, where `variance` is `prior` less what was explained.

    Warns:
        AccuracyWarning: when a variance is negative by more than the root of `dtype`'s precision, relative to
            the prior's: then the matrix is too ill-conditioned for the answer to have digits.
    """
    if is_concrete(variance):
        scale = np.asarray(prior)
        worst = float(np.max(-np.asarray(variance) / np.where(scale > 0, scale, 1.0), initial=0.0))
        if worst > np.sqrt(np.finfo(dtype).eps):
            warnings.warn(
                f"{who}: a variance came out as {-worst:.2g} of the prior variance and is set to 0. The Gram matrix is "
                "too ill-conditioned for its dtype: use float64 or a larger noise.",
                AccuracyWarning,
                stacklevel=3,
            )
    return variance.clip(0.0, None)
