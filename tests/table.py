"""One of each: the activations and networks that the laws are tested on."""

import re

import jax.numpy as jnp
import pytest

from ntkit import nn

CLOSED = (
    nn.Identity(),
    nn.Relu(),
    nn.LeakyRelu(0.1),
    nn.PiecewiseLinear(-0.3, 1.2),
    nn.Abs(),
    nn.Erf(),
    nn.Erf(1.5, 0.7, 0.3),
    nn.Gelu(),
    nn.Sin(),
    nn.Sin(1.2, 0.8, 0.4),
    nn.Cos(0.9, 1.1, 0.2),
    nn.Exp(0.8, 0.4),
    nn.Gaussian(1.1, -0.6),
    nn.Rbf(0.7),
    nn.Monomial(3),
    nn.RectifiedMonomial(2),
    nn.Polynomial((0.5, 1.0, -0.3)),
    nn.Hermite(2),
    nn.HardTanh(),
)
"""Activations with a dual that is exact to rounding."""

EXPANDED = (
    nn.Tanh(),
    nn.Sigmoid(),
    nn.Silu(),
    nn.Softplus(),
    nn.Mish(),
    nn.Elementwise(jnp.arctan, tolerance=1e-6),
    nn.Elu(),
    nn.Selu(),
)
"""Activations whose dual is an expansion."""

ALIKE = (nn.Sigmoid(), nn.Softplus(), nn.Mish(), nn.Selu())
"""Expansions by the same code as Tanh, Silu and Elu, on other functions: slow where the function does not matter."""

KIN = (
    nn.LeakyRelu(0.1), nn.Abs(), nn.Erf(), nn.Sin(), nn.Cos(0.9, 1.1, 0.2), nn.Monomial(3), nn.Hermite(2)
)  # fmt: skip
"""Those that share their duals' code with another one: PiecewiseLinear, Erf and Sin of other numbers, Polynomial.

Their accuracy against the references is tested by default; what holds of code rather than numbers may be slow.
"""

DISCONTINUOUS = (nn.Step(), nn.Sign(), nn.RectifiedMonomial(0))
"""Activations with an NNGP kernel alone."""


def some_slow(values, slow):
    """Values of a parametrised test, of which those in `slow` are run with the slow tests."""
    return [pytest.param(value, marks=pytest.mark.slow if value in slow else ()) for value in values]


def named(values):
    """Labels for a parametrised test, the same in every process."""
    return [re.sub(r" at 0x\w+", "", repr(value)) for value in values]


def one_hidden_layer(activation):
    """The smallest network that bends; without biases, so that a zero input stays zero."""
    return nn.Serial(nn.Dense(64, w_std=1.2), activation, nn.Dense(1))


def two_hidden_layers(activation):
    """A network of two hidden layers that bends at both."""
    return nn.Serial(
        nn.Dense(64, w_std=1.2, b_std=0.3),
        activation,
        nn.Dense(64, w_std=1.1, b_std=0.1),
        activation,
        nn.Dense(1),
    )
