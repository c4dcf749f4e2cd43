"""Two-dimensional Gaussian expectations by composite Gauss-Legendre panels: a reference that knows only φ.

`u = sqrt(var1) z`, `v = (cov/var1) u + s w` with `s^2 = Var(v|u)`, so that the covariance enters
exactly and ρ = ±1 is no special case. Panels are graded towards every place where φ, or φ smoothed
by the inner integral, bends; the node-doubling check compares two orders and raises when they differ.
NumPy's extended precision (64-bit mantissa on x86) leaves about 18 digits.
"""

import functools

import numpy as np
from tests.oracles.arithmetic import mp, residual_variance

LONG = np.longdouble
REACH = 11.0
"""Standard deviations integrated over; the rest holds less than 1e-26 of the mass."""


@functools.cache
def legendre(order):
    """Gauss-Legendre nodes and weights on [-1, 1]; two Newton steps take NumPy's to extended precision."""
    nodes = np.polynomial.legendre.leggauss(order)[0].astype(LONG)
    for _ in range(3):
        before, now = np.ones_like(nodes), nodes
        for n in range(1, order):
            before, now = now, ((2 * n + 1) * nodes * now - n * before) / (n + 1)
        slope = order * (nodes * now - before) / (nodes * nodes - 1)
        nodes = nodes - now / slope
    return nodes, 2 / ((1 - nodes * nodes) * slope * slope)


def graded(centre, width, reach):
    """Breakpoints `centre ± width {0, 2, 6, 18, ...}` out to `reach`."""
    offsets, offset = [0.0], 2.0 * width
    while offset < reach:
        offsets += [offset, -offset]
        offset *= 3.0
    return [centre + value for value in offsets]


def panels(breakpoints, order):
    """Nodes and weights over consecutive breakpoints (last axis), which may coincide."""
    nodes, weights = legendre(order)
    left, right = breakpoints[..., :-1, None], breakpoints[..., 1:, None]
    half = (right - left) / 2
    x = (left + right) / 2 + half * nodes
    return x.reshape(*x.shape[:-2], -1), (half * weights).reshape(*x.shape[:-2], -1)


def normal_density(z):
    return np.exp(-z * z / 2) / np.sqrt(2 * LONG(np.pi) + 2 * LONG(1.2246467991473532e-16))


def expectation(function, cov, var1, var2, kinks=(), width=1.0, order=24):
    """`E[function(u) function(v)]` at one order; see `checked_expectation`."""
    if not (var1 or var2):
        return function(np.zeros(1, LONG))[0] ** 2
    if not (var1 and var2):
        deviation = mp.sqrt(max(var1, var2))
        z, weight = panels(outer_breakpoints(deviation, deviation, mp.zero, kinks, width), order)
        mean = np.sum(weight * normal_density(z) * function(to_long(deviation) * z))
        return to_long(mean) * function(np.zeros(1, LONG))[0]
    slope = cov / var1
    deviation, residual = mp.sqrt(var1), mp.sqrt(residual_variance(cov, var1, var2))
    z, weight = panels(outer_breakpoints(deviation, slope * deviation, residual, kinks, width), order)
    outer = weight * normal_density(z) * function(to_long(deviation) * z)
    mean = to_long(slope * deviation) * z
    if residual == 0:
        return np.sum(outer * function(mean))
    s = to_long(residual)
    grid = np.arange(-REACH, REACH + 1.0, 1.375, dtype=LONG)
    marks = np.array(
        [mark for kink in kinks or (0.0,) for mark in graded(kink, width, 2 * REACH * float(s) + 1e3)]
    )
    inside = np.clip((marks.astype(LONG) - mean[:, None]) / s, -REACH, REACH)
    breakpoints = np.sort(
        np.concatenate([np.broadcast_to(grid, (len(mean), len(grid))), inside], axis=1), axis=1
    )
    inner = np.empty_like(mean)
    for start in range(0, len(mean), 256):
        part = slice(start, start + 256)
        w, inner_weight = panels(breakpoints[part], order)
        inner[part] = np.sum(inner_weight * normal_density(w) * function(mean[part, None] + s * w), axis=1)
    return np.sum(outer * inner)


def outer_breakpoints(deviation, conditional_deviation, residual, kinks, width):
    """Where `φ(u)` bends and where `E[φ(v)|u]` does, in units of the outer variable's deviation."""
    marks = list(np.arange(-REACH, REACH + 1.0, 1.375))
    deviation, conditional, residual = float(deviation), abs(float(conditional_deviation)), float(residual)
    for kink in kinks or (0.0,):
        marks += [mark / deviation for mark in graded(kink, width, 2 * REACH * deviation + 1e3)]
        if conditional > 0:
            # The inner mean passes the kink, blurred over `residual`.
            smoothing = np.arange(-12.0, 13.0) * residual if residual > 0 else np.zeros(1)
            for sign in (1.0, -1.0):
                marks += list((sign * kink + smoothing) / conditional)
                marks += [
                    mark / conditional for mark in graded(sign * kink, width, 2 * REACH * conditional + 1e3)
                ]
    return np.unique(np.clip(np.array(marks, dtype=LONG), -REACH, REACH))


def to_long(value):
    """An mpf in extended precision: its double part plus the rest."""
    head = float(value)
    return LONG(head) + LONG(float(mp.mpf(value) - mp.mpf(head)))


def from_long(value):
    """An extended-precision number as an mpf, exactly."""
    head = float(value)
    return mp.mpf(head) + mp.mpf(float(value - LONG(head)))


def checked_expectation(function, cov, var1, var2, kinks=(), width=1.0, tolerance=1e-16):
    """`E[function(u) function(v)]` for a vectorised `function`, by two orders that must agree.

    Args:
        function: acts on extended-precision arrays; analytic between its kinks.
        cov: the covariance, an mpf.
        var1: the variance of u, an mpf.
        var2: the variance of v, an mpf.
        kinks: where φ or its derivative is not smooth.
        width: the distance over which φ bends (that of its nearest complex singularity).
        tolerance: of the two orders' difference, relative to `sqrt(E[φ(u)^2] E[φ(v)^2])`.

    Raises:
        ArithmeticError: when the orders differ by more.
    """
    coarse, fine = (expectation(function, cov, var1, var2, kinks, width, order) for order in (20, 28))
    squares = [expectation(function, var, var, var, kinks, width, 20) for var in (var1, var2)]
    scale = np.sqrt(squares[0] * squares[1])
    if not abs(fine - coarse) <= tolerance * scale:
        raise ArithmeticError(
            f"Two quadratures differ by {abs(fine - coarse) / scale:.1e} at {cov}, {var1}, {var2}."
        )
    return from_long(fine)
