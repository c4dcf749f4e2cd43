"""Checks of what a user says about training: learning rates, times and numbers of steps."""

from typing import Any

import numpy as np

from ntkit.dynamics.schedule import PiecewiseConstant


def as_times(who: str, t: Any) -> np.ndarray:
    """Times as float64, shape () or (t,): at least 0, infinity allowed.

    Raises:
        ValueError: for a negative or NaN time, or more than one axis.
    """
    times = np.asarray(t, dtype=np.float64)
    if times.ndim > 1:
        raise ValueError(f"{who} needs a time or a vector of times, got shape {times.shape}.")
    if not (times >= 0).all():
        wrong = times[~(times >= 0)].flat[0] if times.ndim else times
        raise ValueError(f"{who} needs times of at least 0, got {wrong}. Training starts at t = 0.")
    return times


def as_steps(who: str, steps: Any) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of steps as float64 and whether each is odd, shape () or (t,); infinity allowed.

    Raises:
        ValueError: for a negative, fractional or NaN number of steps, or more than one axis.
    """
    given = np.asarray(steps, dtype=object)
    if given.ndim > 1:
        raise ValueError(f"{who} needs a number of steps or a vector of them, got shape {given.shape}.")
    for count in given.flat:
        if not (count >= 0 and (count == np.inf or count == int(count))):
            raise ValueError(f"{who} needs whole numbers of steps of at least 0, got {count}.")
    odd = [count != np.inf and int(count) % 2 == 1 for count in given.flat]
    return given.astype(np.float64), np.array(odd, dtype=bool).reshape(given.shape)


def as_learning_rate(who: str, learning_rate: Any) -> float:
    """A learning rate as a positive, finite float.

    Raises:
        ValueError: otherwise.
    """
    rate = float(learning_rate)
    if not (np.isfinite(rate) and rate > 0):
        raise ValueError(f"{who} needs a positive, finite learning_rate, got {learning_rate}.")
    return rate


def as_schedule(who: str, learning_rate: Any) -> PiecewiseConstant:
    """A learning rate as a schedule; a number is a schedule of one piece.

    Raises:
        ValueError: for a number that is not positive and finite.
    """
    if isinstance(learning_rate, PiecewiseConstant):
        return learning_rate
    return PiecewiseConstant((as_learning_rate(who, learning_rate),))


def as_nonnegative(who: str, name: str, value: Any) -> float:
    """A finite number of at least 0.

    Raises:
        ValueError: otherwise.
    """
    number = float(value)
    if not (np.isfinite(number) and number >= 0):
        raise ValueError(f"{who} needs {name} as a finite number of at least 0, got {value}.")
    return number


def as_asked(values: np.ndarray, moments: np.ndarray) -> Any:
    """One number per moment: a float if a single moment was asked about."""
    return float(values[0]) if moments.ndim == 0 else values
