"""Duals of functions made of pieces `Σ c x^p exp(r x)`, p in {0, 1}: ELU, SELU, hard tanh, and again ReLU, step.

Given u, `E[φ(v) | u]` has a closed form through the normal distribution function; the remaining
one-dimensional integral is done by Gauss-Legendre panels in multiple precision, 25 digits and more.
"""

import functools
import itertools
from dataclasses import dataclass

import numpy as np
from tests.oracles.arithmetic import mp, residual_variance

REACH = 13
ORDER = 24


@dataclass(frozen=True)
class Piece:
    """`Σ coefficient x^power exp(rate x)` on (lower, upper); terms are (coefficient, power, rate)."""

    lower: object
    upper: object
    terms: tuple

    def value(self, x):
        return mp.fsum(c * x**p * mp.exp(r * x) for c, p, r in self.terms)

    def mean(self, centre, deviation):
        """`E[φ(v) 1(lower < v < upper)]` for `v ~ N(centre, deviation^2)`."""
        total = mp.zero
        for coefficient, power, rate in self.terms:
            # exp(rate v) tilts the normal: its mean moves by rate deviation^2.
            tilted = centre + rate * deviation**2
            factor = mp.exp(rate * centre + (rate * deviation) ** 2 / 2) if rate else mp.one
            a, b = (self.lower - tilted) / deviation, (self.upper - tilted) / deviation
            mass = mp.ncdf(b) - mp.ncdf(a) if a < 0 else mp.ncdf(-a) - mp.ncdf(-b)
            if power == 0:
                total += coefficient * factor * mass
            else:
                total += coefficient * factor * (tilted * mass + deviation * (mp.npdf(a) - mp.npdf(b)))
        return total


@functools.cache
def _legendre(order):
    nodes = []
    for guess in np.polynomial.legendre.leggauss(order)[0]:
        x = mp.mpf(float(guess))
        for _ in range(7):
            before, now = mp.one, x
            for n in range(1, order):
                before, now = now, ((2 * n + 1) * x * now - n * before) / (n + 1)
            slope = order * (x * now - before) / (x * x - 1)
            x -= now / slope
        nodes.append((x, 2 / ((1 - x * x) * slope * slope)))
    return nodes


def dual(pieces, cov, var1, var2, order=ORDER):
    """`E[φ(u) φ(v)]`; two variables that are equal to 15 digits or less need no special case."""
    residual = mp.sqrt(residual_variance(cov, var1, var2))  # with all digits, as rho may be nearly ±1
    with mp.workdps(40):
        if var1 == 0 or var2 == 0:
            return _mean(pieces, var1) * _mean(pieces, var2)
        return _integral(pieces, mp.sqrt(var1), cov / var1, residual, order)


def _mean(pieces, var):
    """`E[φ(u)]`."""
    return mp.fsum(piece.mean(mp.zero, mp.sqrt(var)) for piece in pieces) if var else _at(pieces, mp.zero)


def _integral(pieces, deviation, slope, residual, order):
    """`E[φ(u) E[φ(v) | u]]` for `u = deviation z`, `v ~ N(slope u, residual^2)`."""
    marks = [mp.mpf(i) * 3 / 2 for i in range(-9, 10)]
    for edge in _edges(pieces):
        marks.append(edge / deviation)
        if slope:
            blur = [i * residual for i in range(-12, 13, 2)] if residual else [mp.zero]
            marks += [(edge + offset) / (slope * deviation) for offset in blur]
    if any(rate for piece in pieces for _, _, rate in piece.terms):
        for ratio in (deviation, slope * deviation):
            marks += [i / ratio for i in (-90, -60, -40, -24, -12, -4) if ratio]
    marks = sorted({min(max(mark, mp.mpf(-REACH)), mp.mpf(REACH)) for mark in marks})
    total = mp.zero
    for left, right in itertools.pairwise(marks):
        half, middle = (right - left) / 2, (right + left) / 2
        for node, weight in _legendre(order):
            z = middle + half * node
            u = deviation * z
            inner = (
                mp.fsum(p.mean(slope * u, residual) for p in pieces) if residual else _at(pieces, slope * u)
            )
            total += half * weight * mp.npdf(z) * _at(pieces, u) * inner
    return total


def _edges(pieces):
    return [piece.lower for piece in pieces if piece.lower != mp.ninf]


def _at(pieces, x):
    for piece in pieces:
        if x < piece.upper:
            return piece.value(x)
    return pieces[-1].value(x)


def linear(negative, positive):
    """The pieces of `negative min(x, 0) + positive max(x, 0)`."""
    return (
        Piece(mp.ninf, mp.zero, ((mp.mpf(negative), 1, mp.zero),)),
        Piece(mp.zero, mp.inf, ((mp.mpf(positive), 1, mp.zero),)),
    )


def constants(negative, positive):
    """The pieces of a jump at 0, such as the derivative of `linear`."""
    return (
        Piece(mp.ninf, mp.zero, ((mp.mpf(negative), 0, mp.zero),)),
        Piece(mp.zero, mp.inf, ((mp.mpf(positive), 0, mp.zero),)),
    )


def exponential_linear(scale, alpha):
    """The pieces of `scale max(x, 0) + scale alpha (exp(min(x, 0)) - 1)` (ELU, SELU)."""
    product = scale * alpha
    return (
        Piece(mp.ninf, mp.zero, ((product, 0, mp.one), (-product, 0, mp.zero))),
        Piece(mp.zero, mp.inf, ((scale, 1, mp.zero),)),
    )


def exponential_linear_derivative(scale, alpha):
    return (
        Piece(mp.ninf, mp.zero, ((scale * alpha, 0, mp.one),)),
        Piece(mp.zero, mp.inf, ((scale, 0, mp.zero),)),
    )


def clipped():
    """The pieces of hard tanh, `min(max(x, -1), 1)`."""
    one = mp.one
    return (
        Piece(mp.ninf, -one, ((-one, 0, mp.zero),)),
        Piece(-one, one, ((one, 1, mp.zero),)),
        Piece(one, mp.inf, ((one, 0, mp.zero),)),
    )


def clipped_derivative():
    one = mp.one
    return (
        Piece(mp.ninf, -one, ((mp.zero, 0, mp.zero),)),
        Piece(-one, one, ((one, 0, mp.zero),)),
        Piece(one, mp.inf, ((mp.zero, 0, mp.zero),)),
    )
