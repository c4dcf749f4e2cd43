"""Duals in closed form, `E[φ(u)φ(v)]` and `E[φ'(u)φ'(v)]` for a centred Gaussian pair, in 100-digit arithmetic.

Derived for these references alone; the library's own formulas were not looked at. `test_oracles.py`
checks each against a two-dimensional quadrature that knows nothing but φ.
"""

from tests.oracles.arithmetic import angle, determinant_root, mp

# --- positively homogeneous pieces ----------------------------------------------------------------


def rectified_moment(m, n, cov, var1, var2):
    """`E[max(u,0)^m max(v,0)^n]`, a power 0 meaning the indicator.

    Integration by parts, `E[u g] = var1 E[∂g/∂u] + cov E[∂g/∂v]`, takes one power of u away at a
    time; the boundary terms carry a delta function and leave a one-dimensional moment.
    """
    if var1 == 0 or var2 == 0:
        # Continuous extension; an indicator at 0 counts 1/2, as in the limit of a vanishing variance.
        half = mp.mpf(1) / 2
        first = half_moment(m) * var1 ** (mp.mpf(m) / 2) if (var1 or m) else half
        second = half_moment(n) * var2 ** (mp.mpf(n) / 2) if (var2 or n) else half
        return first * second
    if m == 0 and n == 0:
        return (mp.pi - angle(cov, var1, var2)) / (2 * mp.pi)
    if m == 0:
        return rectified_moment(n, m, cov, var2, var1)
    deviation1 = determinant_root(cov, var1, var2) / mp.sqrt(var2)  # of u given v = 0
    deviation2 = determinant_root(cov, var1, var2) / mp.sqrt(var1)  # of v given u = 0
    total = mp.zero
    if m >= 2:
        total += var1 * (m - 1) * rectified_moment(m - 2, n, cov, var1, var2)
    else:
        total += var1 * density_at_zero(var1) * half_moment(n) * deviation2**n
    if n >= 1:
        total += cov * n * rectified_moment(m - 1, n - 1, cov, var1, var2)
    else:
        total += cov * density_at_zero(var2) * half_moment(m - 1) * deviation1 ** (m - 1)
    return total


def half_moment(n):
    """`E[max(z,0)^n]` of a standard normal z; 1/2 for n = 0."""
    return mp.power(2, mp.mpf(n) / 2 - 1) * mp.gamma(mp.mpf(n + 1) / 2) / mp.sqrt(mp.pi)


def density_at_zero(variance):
    """The density of `N(0, variance)` at 0."""
    return 1 / mp.sqrt(2 * mp.pi * variance)


def rectified_monomial(degree, cov, var1, var2):
    """`φ(x) = max(x, 0)^degree`, the step for degree 0."""
    if degree == 0:
        return step(cov, var1, var2)
    return rectified_moment(degree, degree, cov, var1, var2)


def rectified_monomial_derivative(degree, cov, var1, var2):
    return degree**2 * rectified_moment(degree - 1, degree - 1, cov, var1, var2)


def piecewise_linear(negative, positive, cov, var1, var2):
    """`φ(x) = negative min(x, 0) + positive max(x, 0)`; `min(x, 0) = -max(-x, 0)` gives the mixed terms."""
    same = rectified_moment(1, 1, cov, var1, var2)
    opposite = rectified_moment(1, 1, -cov, var1, var2)
    return (negative**2 + positive**2) * same - 2 * negative * positive * opposite


def piecewise_linear_derivative(negative, positive, cov, var1, var2):
    same = rectified_moment(0, 0, cov, var1, var2)
    opposite = rectified_moment(0, 0, -cov, var1, var2)
    return (negative**2 + positive**2) * same + 2 * negative * positive * opposite


def step(cov, var1, var2):
    """`φ(x) = [x > 0]`: the orthant probability; 0 for a variable that is always 0."""
    if var1 == 0 or var2 == 0:
        return mp.zero
    return (mp.pi - angle(cov, var1, var2)) / (2 * mp.pi)


def sign(cov, var1, var2):
    """`φ(x) = sign(x)`, Grothendieck's identity."""
    return 1 - 2 * angle(cov, var1, var2) / mp.pi


# --- the error function and its relatives ---------------------------------------------------------


def erf(a, b, c, cov, var1, var2):
    """`φ(x) = a erf(b x) + c` (Williams 1997); the odd part has mean zero."""
    cov, var1, var2 = (2 * b * b * value for value in (cov, var1, var2))
    return a * a * 2 / mp.pi * mp.asin(cov / mp.sqrt((1 + var1) * (1 + var2))) + c * c


def erf_derivative(a, b, cov, var1, var2):
    cov, var1, var2 = (2 * b * b * value for value in (cov, var1, var2))
    return a * a * b * b * 4 / mp.pi / mp.sqrt((1 + var1) * (1 + var2) - cov * cov)


def _gelu_parts(cov, var1, var2):
    """`E[Φ(u)Φ(v)]`, `E[Φ'(u)Φ'(v)]` and the determinant they have in common."""
    outer = (1 + var1) * (1 + var2)
    determinant = outer - cov * cov
    probability = mp.mpf(1) / 4 + mp.asin(cov / mp.sqrt(outer)) / (2 * mp.pi)
    return probability, 1 / (2 * mp.pi * mp.sqrt(determinant)), determinant


def gelu(cov, var1, var2):
    """`φ(x) = x Φ(x)`, integrating both factors x and x' by parts."""
    probability, density, _ = _gelu_parts(cov, var1, var2)
    bracket = var1 * var2 - cov**2 + cov**2 * (1 / (1 + var1) + 1 / (1 + var2))
    return cov * probability + density * bracket


def gelu_derivative(cov, var1, var2):
    probability, density, determinant = _gelu_parts(cov, var1, var2)
    inverse = 1 / (1 + var1) + 1 / (1 + var2)
    bracket = var1 * var2 - cov**2 + cov**2 * inverse
    slope = density * cov / determinant
    return probability + cov * density + slope * bracket + density * 2 * cov * (inverse - 1)


# --- exponentials ---------------------------------------------------------------------------------


def _wave(b, cov, var1, var2):
    """`E[cos(b(u - v))]` and `E[cos(b(u + v))]`."""
    minus = mp.exp(-b * b * (var1 + var2 - 2 * cov) / 2)
    plus = mp.exp(-b * b * (var1 + var2 + 2 * cov) / 2)
    return minus, plus


def sin(a, b, c, cov, var1, var2):
    """`φ(x) = a sin(b x + c)`; the cosine is the sine with `c + pi/2`."""
    minus, plus = _wave(b, cov, var1, var2)
    return a * a / 2 * (minus - mp.cos(2 * c) * plus)


def sin_derivative(a, b, c, cov, var1, var2):
    minus, plus = _wave(b, cov, var1, var2)
    return a * a * b * b / 2 * (minus + mp.cos(2 * c) * plus)


def exponential(a, b, cov, var1, var2):
    """`φ(x) = a exp(b x)`."""
    return a * a * mp.exp(b * b * (var1 + var2 + 2 * cov) / 2)


def gaussian(a, b, cov, var1, var2):
    """`φ(x) = a exp(b x^2)`; finite only while `2 b` stays below every inverse eigenvalue."""
    return a * a / mp.sqrt((1 - 2 * b * var1) * (1 - 2 * b * var2) - 4 * b * b * cov * cov)


def gaussian_derivative(a, b, cov, var1, var2):
    determinant = (1 - 2 * b * var1) * (1 - 2 * b * var2) - 4 * b * b * cov * cov
    return 4 * a * a * b * b * cov / determinant ** (mp.mpf(3) / 2)


def rbf(gamma, cov, var1, var2):
    """`φ(x) = sqrt(2) sin(sqrt(2 gamma) x + pi/4)`."""
    return mp.exp(-gamma * (var1 + var2 - 2 * cov))


# --- polynomials ----------------------------------------------------------------------------------


def product_moment(m, n, cov, var1, var2):
    """`E[u^m v^n]` by Isserlis: choose j factors on each side, pair them across, the rest within."""
    total = mp.zero
    for j in range(min(m, n) + 1):
        if (m - j) % 2 or (n - j) % 2:
            continue
        pairings = (
            mp.binomial(m, j) * mp.binomial(n, j) * mp.factorial(j) * mp.fac2(m - j - 1) * mp.fac2(n - j - 1)
        )
        total += pairings * var1 ** ((m - j) // 2) * var2 ** ((n - j) // 2) * cov**j
    return total


def polynomial(coefficients, cov, var1, var2):
    """`φ(x) = Σ_i coefficients[i] x^i`."""
    return mp.fsum(
        first * second * product_moment(i, j, cov, var1, var2)
        for i, first in enumerate(coefficients)
        for j, second in enumerate(coefficients)
        if first and second
    )


def differentiated(coefficients):
    """The coefficients of the derivative of a polynomial."""
    return [i * value for i, value in enumerate(coefficients)][1:] or [mp.zero]


def hermite_coefficients(degree):
    """Those of the orthonormal probabilists' Hermite polynomial `He_n / sqrt(n!)`."""
    before, now = [mp.zero], [mp.one]
    for n in range(degree):
        shifted = [mp.zero, *now]
        padded = [*before, *[mp.zero] * (len(shifted) - len(before))]
        before, now = now, [up - n * down for up, down in zip(shifted, padded, strict=True)]
    return [value / mp.sqrt(mp.factorial(degree)) for value in now]
