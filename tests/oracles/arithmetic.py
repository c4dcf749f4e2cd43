"""The arithmetic of the references: a private multiple-precision context, and exact conversion from floats."""

from fractions import Fraction

from mpmath.ctx_mp import MPContext

DIGITS = 50
"""Digits the closed-form references are good for."""

mp = MPContext()
# Twice the digits: near rho = ±1 the angle is the square root of a difference of rounded numbers.
mp.dps = 2 * DIGITS

Real = mp.mpf


def exact(value):
    """The binary number `value` (float, NumPy scalar, mpf) itself, with no decimal reading in between."""
    if isinstance(value, mp.mpf):
        return value
    if isinstance(value, Fraction):
        return mp.mpf(value.numerator) / value.denominator
    return mp.mpf(float(value))


def determinant_root(cov, var1, var2):
    """`sqrt(var1 var2 - cov^2)`, and 0 where rounding of the arguments made the difference negative."""
    return mp.sqrt(max(var1 * var2 - cov * cov, mp.zero))


def angle(cov, var1, var2):
    """`arccos(cov / sqrt(var1 var2))` in [0, pi], accurate at both ends; pi/2 where a variance is 0."""
    if var1 == 0 or var2 == 0:
        return mp.pi / 2
    return mp.atan2(determinant_root(cov, var1, var2), cov)


def residual_variance(cov, var1, var2):
    """`Var(v | u) = var2 - cov^2 / var1`."""
    return max(var2 - cov * cov / var1, mp.zero) if var1 else var2
