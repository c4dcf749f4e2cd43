"""Source text of elementary functions that LLVM can vectorise: no branch, no call, no table.

The C library's functions are called one number at a time and keep a loop from being vectorised. These are polynomials
after a range reduction, accurate to a few roundings of their dtype over the arguments that duals have.
"""

from collections.abc import Callable

import numpy as np

LOG2_HIGH = 0.693145751953125
"""ln 2 to 20 bits, so that its product with an exponent is exact in float64 (and nearly so in float32)."""

LOG2_LOW = 1.42860682030941723212e-6


def source(dtype: np.dtype) -> str:
    """Functions `exp`, `expm1` and `atan2` of numbers of one dtype, as the beginning of a generated module."""
    single = dtype == np.float32
    half = float(np.log(2.0)) / 2.0
    growth = _taylor_like(
        lambda r: np.where(np.abs(r) < 1e-8, 1.0 + r / 2.0, np.expm1(r) / np.where(r == 0, 1.0, r)),
        6 if single else 11,
        -half,
        half,
    )
    turn = (np.sqrt(2.0) - 1.0) ** 2
    arc = _taylor_like(
        lambda s: np.where(s < 1e-16, 1.0, np.arctan(np.sqrt(s)) / np.sqrt(np.where(s < 1e-16, 1.0, s))),
        6 if single else 13,
        0.0,
        turn,
    )
    low, high = (-87.0, 88.3) if single else (-708.0, 709.4)
    return f"""
@njit(inline="always")
def _reduced(x):
    x = x if x < f({high}) else f({high})
    x = x if x > f({low}) else f({low})
    n = math.floor(x * f({1.0 / np.log(2.0)!r}) + f(0.5))
    r = (x - n * f({LOG2_HIGH!r})) - n * f({LOG2_LOW!r})
    return n, r * ({_horner(growth, "r")})


@njit(inline="always")
def exp(x):
    n, grown = _reduced(x)
    return power_of_two(f(n)) * (f(1.0) + grown)


@njit(inline="always")
def expm1(x):
    n, grown = _reduced(x)
    scale = power_of_two(f(n))
    return scale * grown + (scale - f(1.0))


@njit(inline="always")
def atan2(y, x):
    across, up = abs(x), abs(y)
    small = across if across < up else up
    large = up if across < up else across
    large = large if large > f(0.0) else f(1.0)
    beyond = small > f({np.sqrt(2.0) - 1.0!r}) * large
    over = small - large if beyond else small
    under = small + large if beyond else large
    t = over / under
    s = t * t
    angle = t * ({_horner(arc, "s")})
    angle = angle + f({np.pi / 4.0!r}) if beyond else angle
    angle = f({np.pi / 2.0!r}) - angle if up > across else angle
    angle = f({np.pi!r}) - angle if x < f(0.0) else angle
    return -angle if y < f(0.0) else angle
"""


def _taylor_like(function: Callable, degree: int, low: float, high: float) -> np.ndarray:
    """Coefficients in powers of the argument of the Chebyshev interpolant of a function."""
    interpolant = np.polynomial.Chebyshev.interpolate(function, degree, domain=[low, high])
    return interpolant.convert(kind=np.polynomial.Polynomial).coef


def _horner(coefficients: np.ndarray, name: str) -> str:
    text = f"f({float(coefficients[-1])!r})"
    for value in coefficients[-2::-1]:
        text = f"({text} * {name} + f({float(value)!r}))"
    return text
