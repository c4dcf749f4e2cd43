"""Every activation of the library beside its reference: the rows the accuracy laws run over.

The library is named by text only, so that the references never import it.
"""

from dataclasses import dataclass, field

import numpy as np
from tests.oracles import duals
from tests.oracles.duals import Oracle


@dataclass(frozen=True)
class Row:
    """One activation with fixed hyper-parameters.

    Attributes:
        name: of the class in `ntkit.nn`.
        arguments: its arguments, in order.
        oracle: the reference.
        closed: whether the library promises a closed form, or an expansion with a bound.
        tolerance: of an expansion, what the bound keeps to by default at variances up to 2.
        growth: `r` where the dual grows like `exp(r q)` and overflows a dtype beyond `log(max) / r`; 0 otherwise.
        degree: `n` where it grows like `q^n`.
    """

    name: str
    arguments: dict = field(default_factory=dict)
    oracle: Oracle = None
    closed: bool = True
    tolerance: float = 1e-9
    growth: float = 0.0
    degree: int = 1

    @property
    def label(self):
        # A function shows by its name: its address differs between the processes that share the tests.
        shown = ", ".join(
            f"{key}={getattr(value, '__name__', value)}" for key, value in self.arguments.items()
        )
        return f"{self.name}({shown})"

    def build(self, nn):
        """The library's activation, from its module of layers."""
        return getattr(nn, self.name)(*self.arguments.values())

    @property
    def slow(self):
        """Whether a reference value takes a sizeable part of a second."""
        return self.oracle.digits < duals.DIGITS

    @property
    def has_ntk(self):
        return self.oracle.derivative is not None

    def largest_variance(self, dtype):
        """The largest variance at which the dual is comfortably finite in `dtype`, 1e3 at most."""
        largest = np.log(float(np.finfo(dtype).max))
        return min(1e3, 0.9 * largest / self.growth) if self.growth else 1e3


def smooth(x):
    """A function no table knows: `x / (1 + x^2)`."""
    return x / (1 + x * x)


def smooth_slope(x):
    return (1 - x * x) / (1 + x * x) ** 2


ROWS = (
    Row("Identity", {}, duals.identity()),
    Row("Relu", {}, duals.relu()),
    Row("LeakyRelu", {"negative_slope": 0.25}, duals.leaky_relu(0.25)),
    Row(
        "PiecewiseLinear",
        {"negative_slope": -0.5, "positive_slope": 1.25},
        duals.piecewise_linear(-0.5, 1.25),
    ),
    Row("Abs", {}, duals.absolute()),
    Row("Step", {}, duals.step()),
    Row("Sign", {}, duals.sign()),
    Row("Erf", {}, duals.erf()),
    Row("Erf", {"a": 1.5, "b": 0.75, "c": 0.25}, duals.erf(1.5, 0.75, 0.25)),
    Row("Gelu", {}, duals.gelu()),
    Row("Sin", {}, duals.sin()),
    Row("Sin", {"a": 1.5, "b": 0.75, "c": 0.25}, duals.sin(1.5, 0.75, 0.25)),
    Row("Cos", {}, duals.cos()),
    Row("Cos", {"a": 1.5, "b": 0.75, "c": 0.25}, duals.cos(1.5, 0.75, 0.25)),
    Row("Exp", {}, duals.exponential(), growth=2.0),
    Row("Exp", {"a": 1.5, "b": 0.25}, duals.exponential(1.5, 0.25), growth=0.125),
    Row("Gaussian", {}, duals.gaussian()),
    Row("Gaussian", {"a": 1.5, "b": -0.25}, duals.gaussian(1.5, -0.25)),
    Row("Rbf", {}, duals.rbf()),
    Row("Rbf", {"gamma": 0.25}, duals.rbf(0.25)),
    Row("Monomial", {"degree": 2}, duals.monomial(2), degree=2),
    Row("Monomial", {"degree": 5}, duals.monomial(5), degree=5),
    Row("RectifiedMonomial", {"degree": 2}, duals.rectified_monomial(2), degree=2),
    Row("RectifiedMonomial", {"degree": 5}, duals.rectified_monomial(5), degree=5),
    Row(
        "Polynomial",
        {"coefficients": (1.0, 0.5, -0.25, 0.125)},
        duals.polynomial((1.0, 0.5, -0.25, 0.125)),
        degree=3,
    ),
    Row("Hermite", {"degree": 1}, duals.hermite(1)),
    Row("Hermite", {"degree": 4}, duals.hermite(4), degree=4),
    Row("Tanh", {}, duals.tanh(), closed=False),
    Row("Sigmoid", {}, duals.sigmoid(), closed=False),
    Row("Silu", {}, duals.silu(), closed=False),
    Row("Softplus", {}, duals.softplus(), closed=False),
    Row("Mish", {}, duals.mish(), closed=False),
    Row("Elu", {}, duals.elu(), closed=False, tolerance=1e-6),
    Row("Selu", {}, duals.selu(), closed=False, tolerance=1e-4),
    Row("HardTanh", {}, duals.hard_tanh()),
    Row(
        "Elementwise", {"function": smooth}, duals.elementwise(smooth, smooth_slope, width=0.6), closed=False
    ),
)
