"""What every activation owes: duals that agree with its own function, with each other, and under jit and grad."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import roots_legendre
from tests.table import ALIKE, CLOSED, DISCONTINUOUS, EXPANDED, KIN, named, some_slow

from ntkit import nn
from ntkit.errors import KernelUndefinedError
from ntkit.numerics.gaussian_pair import GaussianPair

ALL = CLOSED + EXPANDED


def pair_of(var1, var2, correlation):
    scale = np.sqrt(np.asarray(var1) * np.asarray(var2))
    return GaussianPair.of(*map(jnp.asarray, (scale * correlation, var1, var2)))


def fixed(activation, degree=128):
    """The activation with a set number of terms, as inside `jit`."""
    return replace(activation, degree=degree) if activation in EXPANDED else activation


GRID = (np.array([0.2, 0.7, 1.3, 2.0]), np.array([0.5, 0.7, 0.9, 1.4]), np.array([-0.6, 0.1, 0.5, 0.9]))


@pytest.mark.parametrize("activation", some_slow(ALL, ALIKE), ids=named(ALL))
def test_the_second_dual_is_the_slope_of_the_first(activation):
    """Price's theorem, with JAX's own derivative of the dual in the covariance."""
    activation = fixed(activation)
    with jax.enable_x64(True):
        pair = pair_of(*GRID)

        def dual(cov):
            return activation.dual(GaussianPair.of(cov, pair.var1, pair.var2)).sum()

        slope, derivative = jax.jit(
            lambda pair: (jax.grad(dual)(pair.cov), activation.dual_derivative(pair))
        )(pair)
    # Both sides of an expansion are cut after the same number of terms, up to one: 1e-5 for the kinked.
    tolerance = 1e-11 if activation in CLOSED else 1e-5
    np.testing.assert_allclose(slope, derivative, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("activation", ALL + DISCONTINUOUS, ids=named(ALL + DISCONTINUOUS))
def test_duals_are_the_expectations_of_the_finite_activation(activation):
    """Monte Carlo over 400,000 Gaussian pairs, to five standard errors of the estimate."""
    activation = fixed(activation)
    rng = np.random.default_rng(0)
    var1, var2, correlation = 0.7, 1.3, 0.4
    first, other = rng.standard_normal((2, 400_000))
    second = correlation * first + np.sqrt(1 - correlation**2) * other
    with jax.enable_x64(True):
        pair = pair_of(np.array([var1]), np.array([var2]), np.array([correlation]))
        u, v = jnp.asarray(np.sqrt(var1) * first), jnp.asarray(np.sqrt(var2) * second)
        products = {"dual": activation(u) * activation(v)}
        values = {"dual": activation.dual(pair)}
        if activation not in DISCONTINUOUS:

            def slope(x):
                return jax.jvp(activation, (x,), (jnp.ones_like(x),))[1]

            products["dual_derivative"] = slope(u) * slope(v)
            values["dual_derivative"] = activation.dual_derivative(pair)
    products = {name: np.asarray(sample) for name, sample in products.items()}
    for name, sample in products.items():
        error = abs(float(values[name][0]) - float(sample.mean()))
        assert error <= 5 * float(sample.std()) / np.sqrt(sample.size) + 1e-12, name


MEANS = ALL + DISCONTINUOUS
NODES, WEIGHTS = roots_legendre(400)


@pytest.mark.parametrize("activation", MEANS, ids=named(MEANS))
def test_means_are_the_expectations_of_the_finite_activation(activation):
    """Gauss-Legendre with 400 nodes on either side of 0, up to twelve standard deviations."""
    activation = fixed(activation)
    z = 6.0 * (NODES + 1.0)
    weight = 6.0 * WEIGHTS * np.exp(-(z**2) / 2.0) / np.sqrt(2.0 * np.pi)
    with jax.enable_x64(True):
        for var in (0.3, 1.7):
            values = np.asarray(activation(jnp.asarray(var**0.5 * np.concatenate([z, -z]))))
            expected = np.concatenate([weight, weight]) @ values
            size = np.concatenate([weight, weight]) @ np.abs(values)
            mean = activation.mean(jnp.asarray([var]))[0]
            np.testing.assert_allclose(mean, expected, rtol=0, atol=1e-12 * max(size, 1.0))
        assert np.isfinite(np.asarray(activation.mean(jnp.zeros(1)))).all()


@pytest.mark.slow
@pytest.mark.parametrize("activation", CLOSED, ids=named(CLOSED))
def test_closed_forms_agree_with_the_expansion_of_the_same_function(activation):
    """Two derivations of one number: the tail bound of the expansion is the tolerance."""
    expansion = nn.Elementwise(activation, degree=512)
    with jax.enable_x64(True):
        pair = pair_of(*GRID)
        scale = jnp.sqrt(activation.second_moment(pair.var1) * activation.second_moment(pair.var2))
        error = jnp.abs(jax.jit(expansion.dual)(pair) - activation.dual(pair)) / scale
        bound = jnp.max(expansion.missing(expansion.__call__, jnp.concatenate([pair.var1, pair.var2]))[-1])
    # Kinks away from 0 (hard tanh) fall between the quadrature's nodes: 1e-5 of the moment.
    floor = 3e-4 if isinstance(activation, nn.HardTanh) else 1e-13
    assert np.asarray(error).max() <= float(bound) + floor


@pytest.mark.slow
@pytest.mark.parametrize("activation", ALL, ids=named(ALL))
def test_second_moments_are_the_dual_at_full_correlation(activation):
    activation = fixed(activation)
    with jax.enable_x64(True):
        var = jnp.asarray([0.0, 1e-6, 0.3, 1.0, 2.5])
        same = activation.dual(GaussianPair.same(var))
        np.testing.assert_allclose(activation.second_moment(var), same, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("activation", some_slow(ALL, ALIKE + KIN), ids=named(ALL))
@given(
    var1=st.floats(0, 1e3),
    var2=st.floats(0, 1e3),
    correlation=st.one_of(st.floats(-1, 1), st.sampled_from([-1.0, 0.0, 1.0, 1 - 1e-16, -1 + 1e-15])),
)
def test_no_covariance_gives_nan(activation, var1, var2, correlation):
    """Infinities may occur (exponentials of variance 1e3), NaN may not."""
    activation = fixed(activation, 16)
    with jax.enable_x64(True):
        pair = pair_of(np.array([var1]), np.array([var2]), np.array([correlation]))
        assert not np.isnan(_both(activation, pair)).any()


@jax.jit
def _both(activation, pair):
    return activation.dual(pair), activation.dual_derivative(pair)


@pytest.mark.parametrize("activation", DISCONTINUOUS, ids=named(DISCONTINUOUS))
def test_jumps_have_no_tangent_kernel(activation):
    with pytest.raises(KernelUndefinedError, match=r"square-integrable derivative.*NNGP"):
        activation.dual_derivative(GaussianPair.same(jnp.ones(1)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.Monomial(-1), "degree from 0"),
        (lambda: nn.RectifiedMonomial(31), "degree from 0 to 30"),
        (lambda: nn.Polynomial(()), "at least one coefficient"),
        (lambda: nn.LeakyRelu(float("nan")), "negative_slope as a finite number"),
        (lambda: nn.Rbf(-1.0), "gamma as a finite number of at least 0"),
    ],
)
def test_impossible_hyper_parameters_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
