"""One reference per activation: `dual`, `dual_derivative`, and the plain function they are the duals of.

Every argument is read as the exact binary number it is. Closed forms are good for 50 digits, ELU,
SELU and hard tanh for 25, and the smooth functions without a closed form (tanh, ...) for `digits`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import special
from tests.oracles import closed_forms as closed
from tests.oracles import piecewise, quadrature
from tests.oracles.arithmetic import DIGITS, exact, mp

NUMERICAL_DIGITS = 16


@dataclass(frozen=True)
class Oracle:
    """The infinite-width action of one activation, and φ itself for checking it.

    Attributes:
        covariance: `E[φ(u) φ(v)]` of exact (cov, var1, var2).
        derivative: `E[φ'(u) φ'(v)]`; None where it is distributional.
        function: φ on NumPy arrays, in their own precision where NumPy has it.
        slope: φ' likewise.
        kinks: where φ or φ' is not smooth.
        digits: the relative accuracy, on the natural scale.
    """

    covariance: Callable
    derivative: Callable | None
    function: Callable
    slope: Callable | None
    kinks: tuple[float, ...] = ()
    digits: int = DIGITS

    def dual(self, cov, var1, var2):
        """`E[φ(u) φ(v)]`."""
        return self.covariance(exact(cov), exact(var1), exact(var2))

    def dual_derivative(self, cov, var1, var2):
        """`E[φ'(u) φ'(v)] = ∂ dual / ∂ cov`."""
        if self.derivative is None:
            raise ArithmeticError("The derivative of this activation is a distribution.")
        return self.derivative(exact(cov), exact(var1), exact(var2))

    def second_moment(self, var):
        """`E[φ(u)^2]`."""
        return self.dual(var, var, var)


def identity():
    return Oracle(lambda k, p, q: k, lambda k, p, q: mp.one, lambda x: x, np.ones_like)


def piecewise_linear(negative, positive):
    a, b = exact(negative), exact(positive)
    return Oracle(
        partial(closed.piecewise_linear, a, b),
        partial(closed.piecewise_linear_derivative, a, b),
        lambda x: negative * np.minimum(x, 0) + positive * np.maximum(x, 0),
        lambda x: np.where(x > 0, positive, negative) + 0 * x,
        (0.0,),
    )


def relu():
    return piecewise_linear(0.0, 1.0)


def leaky_relu(negative_slope=0.01):
    return piecewise_linear(negative_slope, 1.0)


def absolute():
    return piecewise_linear(-1.0, 1.0)


def step():
    return Oracle(closed.step, None, lambda x: (x > 0) + 0 * x, None, (0.0,))


def sign():
    return Oracle(closed.sign, None, np.sign, None, (0.0,))


def erf(a=1.0, b=1.0, c=0.0):
    first, second, third = exact(a), exact(b), exact(c)
    return Oracle(
        partial(closed.erf, first, second, third),
        partial(closed.erf_derivative, first, second),
        lambda x: a * special.erf(b * x.astype(float)) + c,
        lambda x: a * b * 2 / np.sqrt(np.pi) * np.exp(-((b * x) ** 2)),
    )


def gelu():
    return Oracle(
        closed.gelu,
        closed.gelu_derivative,
        lambda x: x * special.ndtr(x.astype(float)),
        lambda x: special.ndtr(x.astype(float)) + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi),
    )


def sin(a=1.0, b=1.0, c=0.0):
    values = exact(a), exact(b), exact(c)
    return Oracle(
        partial(closed.sin, *values),
        partial(closed.sin_derivative, *values),
        lambda x: a * np.sin(b * x + c),
        lambda x: a * b * np.cos(b * x + c),
    )


def cos(a=1.0, b=1.0, c=0.0):
    values = exact(a), exact(b), exact(c) + mp.pi / 2
    return Oracle(
        partial(closed.sin, *values),
        partial(closed.sin_derivative, *values),
        lambda x: a * np.cos(b * x + c),
        lambda x: -a * b * np.sin(b * x + c),
    )


def exponential(a=1.0, b=1.0):
    values = exact(a), exact(b)
    return Oracle(
        partial(closed.exponential, *values),
        lambda *pair: values[1] ** 2 * closed.exponential(*values, *pair),
        lambda x: a * np.exp(b * x),
        lambda x: a * b * np.exp(b * x),
    )


def gaussian(a=1.0, b=-1.0):
    values = exact(a), exact(b)
    return Oracle(
        partial(closed.gaussian, *values),
        partial(closed.gaussian_derivative, *values),
        lambda x: a * np.exp(b * x * x),
        lambda x: 2 * a * b * x * np.exp(b * x * x),
    )


def rbf(gamma=1.0):
    value = exact(gamma)
    frequency = np.sqrt(2 * np.longdouble(gamma))
    return Oracle(
        partial(closed.rbf, value),
        lambda *pair: 2 * value * closed.rbf(value, *pair),
        lambda x: np.sqrt(np.longdouble(2)) * np.sin(frequency * x + np.arctan(np.longdouble(1))),
        lambda x: np.sqrt(np.longdouble(2)) * frequency * np.cos(frequency * x + np.arctan(np.longdouble(1))),
    )


def _polynomial(coefficients):
    slope = closed.differentiated(coefficients)
    rounded = [np.array([quadrature.to_long(value) for value in row]) for row in (coefficients, slope)]
    return Oracle(
        partial(closed.polynomial, coefficients),
        partial(closed.polynomial, slope),
        lambda x: np.polyval(rounded[0][::-1], x),
        lambda x: np.polyval(rounded[1][::-1], x),
    )


def polynomial(coefficients):
    """`Σ_i coefficients[i] x^i`."""
    return _polynomial([exact(value) for value in coefficients])


def monomial(degree):
    return _polynomial([mp.zero] * degree + [mp.one])


def hermite(degree):
    """The orthonormal probabilists' polynomial `He_n(x) / sqrt(n!)`, of the value itself, whatever its variance."""
    return _polynomial(closed.hermite_coefficients(degree))


def rectified_monomial(degree):
    return Oracle(
        partial(closed.rectified_monomial, degree),
        partial(closed.rectified_monomial_derivative, degree) if degree else None,
        lambda x: (x > 0) * np.polyval([1] + [0] * degree, x),
        lambda x: degree * (x > 0) * np.polyval([1] + [0] * (degree - 1), x),
        (0.0,),
    )


def _pieces(value, slope, kinks, function, function_slope):
    return Oracle(
        partial(piecewise.dual, value),
        partial(piecewise.dual, slope),
        function,
        function_slope,
        kinks,
        digits=25,
    )


def _exponential_linear(scale, alpha):
    values = exact(scale), exact(alpha)
    return _pieces(
        piecewise.exponential_linear(*values),
        piecewise.exponential_linear_derivative(*values),
        (0.0,),
        lambda x: scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
        lambda x: scale * np.where(x > 0, 1, alpha * np.exp(np.minimum(x, 0))),
    )


def elu():
    return _exponential_linear(1.0, 1.0)


def selu():
    """With the constants of Klambauer et al. (2017)."""
    return _exponential_linear(1.0507009873554804934193349852946, 1.6732632423543772848170429916717)


def hard_tanh():
    return _pieces(
        piecewise.clipped(),
        piecewise.clipped_derivative(),
        (-1.0, 1.0),
        lambda x: np.clip(x, -1, 1),
        lambda x: (np.abs(x) < 1) + 0 * x,
    )


def elementwise(function, slope, kinks=(), width=1.0):
    """Any function given with its derivative, both acting on extended-precision arrays."""

    def expectation(of):
        return lambda *pair: quadrature.checked_expectation(of, *pair, kinks, width)

    return Oracle(expectation(function), expectation(slope), function, slope, kinks, digits=NUMERICAL_DIGITS)


def _sigmoid(x):
    return np.exp(-np.logaddexp(0 * x, -x))


def _sech_squared(x):
    return (2 / (np.exp(np.abs(x)) + np.exp(-np.abs(x)))) ** 2


def tanh():
    return elementwise(np.tanh, lambda x: _sech_squared(np.minimum(np.abs(x), 5000)))


def sigmoid():
    return elementwise(_sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x))


def silu():
    return elementwise(lambda x: x * _sigmoid(x), lambda x: _sigmoid(x) * (1 + x * _sigmoid(-x)))


def softplus():
    return elementwise(lambda x: np.logaddexp(0 * x, x), _sigmoid)


def mish():
    def slope(x):
        inner = np.tanh(np.logaddexp(0 * x, x))
        return inner + x * (1 - inner) * (1 + inner) * _sigmoid(x)

    return elementwise(lambda x: x * np.tanh(np.logaddexp(0 * x, x)), slope)
