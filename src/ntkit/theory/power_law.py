"""Fits of `value = prefactor * argument^exponent`: decay of spectra, fluctuations against width."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class PowerLaw:
    """`value = prefactor * argument^exponent`, fitted as a straight line through the logarithms.

    Attributes:
        exponent: the slope, with its sign: negative for a decay.
        standard_error: of the exponent.
        prefactor: the value at argument 1.
    """

    exponent: float
    standard_error: float
    prefactor: float

    def __call__(self, argument: Any) -> Any:
        """The fitted value at one or several arguments."""
        return self.prefactor * np.asarray(argument, dtype=np.float64) ** self.exponent


def fit_power_law(
    arguments: Float[np.ndarray, " n"],
    values: Float[np.ndarray, " n"],
    standard_errors: Float[np.ndarray, " n"] | None = None,
    *,
    who: str = "fit_power_law",
) -> PowerLaw:
    """Least squares of `log value` on `log argument`.

    Args:
        arguments: positive numbers, shape (n,), n at least 3 (2 with standard errors).
        values: positive numbers, shape (n,).
        standard_errors: of the values. With them the points are weighted, and the exponent's standard error is
            what they imply; without, it is what the scatter about the line implies.
        who: who asks, for messages.

    Raises:
        ValueError: for too few points, values that are not positive and finite, or equal arguments.

    >>> fit_power_law(np.array([1.0, 10.0, 100.0]), np.array([2.0, 0.2, 0.02])).exponent.__round__(12)
    -1.0
    """
    needed = 3 if standard_errors is None else 2
    if len(arguments) < needed:
        raise ValueError(f"{who} needs at least {needed} points to fit a power law, got {len(arguments)}.")
    for name, numbers in (("arguments", arguments), ("values", values), ("standard errors", standard_errors)):
        if numbers is not None and not (np.isfinite(numbers) & (numbers > 0)).all():
            wrong = numbers[~(np.isfinite(numbers) & (numbers > 0))][0]
            raise ValueError(f"{who} needs positive, finite {name}, got {wrong}. Leave such points out.")
    if np.ptp(arguments) == 0:
        raise ValueError(f"{who} needs different arguments, got {arguments[0]} each time.")
    x, y = np.log(arguments), np.log(values)
    if standard_errors is None:
        (slope, level), covariance = np.polyfit(x, y, 1, cov=True)
    else:
        weights = values / standard_errors  # the standard error of a logarithm is the relative one
        (slope, level), covariance = np.polyfit(x, y, 1, w=weights, cov="unscaled")
    return PowerLaw(float(slope), float(np.sqrt(covariance[0, 0])), float(np.exp(level)))
