"""The evidence in function space against weight space in 50 digits, exact marginal likelihoods and their optima."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import multivariate_normal
from tests.inference.laplace.problems import WEIGHTS, X, Y, features_of, linear_model, ridge_weights

from ntkit.inference import linearized_laplace
from ntkit.inference.laplace.evidence import (
    best_gaussian,
    best_precision,
    effective,
    gaussian_evidence,
    occam_factor,
)

FEATURES, TARGETS = features_of(X), Y.reshape(-1)
EIGENVALUES = np.linalg.eigvalsh(FEATURES @ FEATURES.T).clip(0.0)


def exact(noise, precision):
    """`log N(y; 0, Φ Φᵀ / δ + σ²)`, the marginal likelihood of the linear model."""
    covariance = FEATURES @ FEATURES.T / precision + noise * np.eye(len(TARGETS))
    return float(multivariate_normal.logpdf(TARGETS, np.zeros(len(TARGETS)), covariance))


def at_the_mode(noise, precision):
    """Squared residual and squared norm of the mode."""
    weights = ridge_weights(noise, precision)
    return float(np.sum((TARGETS - FEATURES @ weights) ** 2)), float(weights @ weights)


@pytest.mark.parametrize(("noise", "precision"), [(0.3, 0.7), (1e-3, 20.0), (5.0, 1e-2)])
def test_at_the_mode_of_a_linear_model_it_is_the_marginal_likelihood(noise, precision):
    posterior = linearized_laplace(linear_model, ridge_weights(noise, precision)).regression(
        X, Y, noise=noise, prior_precision=precision
    )
    assert posterior.log_marginal_likelihood() == pytest.approx(exact(noise, precision), rel=1e-10)


def test_it_is_the_weight_space_formula_in_fifty_digits_away_from_the_mode_too():
    noise, precision, weights = 0.25, 3.0, np.array([0.5, -1.0, 2.0, 0.0, 1.5])
    with mpmath.workdps(50):
        features, targets = mpmath.matrix(FEATURES.tolist()), mpmath.matrix(TARGETS.tolist())
        residuals = targets - features * mpmath.matrix(weights.tolist())
        hessian = features.T * features / noise + precision * mpmath.eye(WEIGHTS)
        expected = (
            -mpmath.fdot(residuals, residuals) / (2 * noise)
            - len(TARGETS) * mpmath.log(2 * mpmath.pi * noise) / 2
            - precision * mpmath.mpf(float(weights @ weights)) / 2
            + WEIGHTS * mpmath.log(precision) / 2
            - mpmath.log(mpmath.det(hessian)) / 2
        )
    posterior = linearized_laplace(linear_model, weights).regression(
        X, Y, noise=noise, prior_precision=precision
    )
    assert posterior.log_marginal_likelihood() == pytest.approx(float(expected), rel=1e-12)


def test_its_gradient_at_the_mode_is_that_of_the_marginal_likelihood():
    """The mode is held fixed in one and moves in the other: the difference is of second order."""
    noise, precision, step = 0.3, 0.7, 1e-4
    residual, norm = at_the_mode(noise, precision)
    for up, down in (((1 + step, 1), (1 - step, 1)), ((1, 1 + step), (1, 1 - step))):
        ours, theirs = (
            function(noise * up[0], precision * up[1]) - function(noise * down[0], precision * down[1])
            for function in (lambda s, d: gaussian_evidence(EIGENVALUES, residual, norm, s, d), exact)
        )
        # Central differences: relative errors of step², and of rounding 1e-14 * 30 / (gradient * step) = 1e-9.
        assert ours == pytest.approx(theirs, rel=1e-6)
        assert abs(ours) > 1e-5


def test_fitting_weights_and_hyperparameters_in_turn_ends_at_the_best_marginal_likelihood():
    noise, precision = 1.0, 1.0
    for _ in range(300):
        noise, precision = best_gaussian(EIGENVALUES, *at_the_mode(noise, precision), None, None)
    best = minimize(
        lambda z: -exact(*np.exp(z)),
        np.zeros(2),
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-13},
    )
    # Nelder-Mead on values of 30 with 15 digits locates a maximum to the root of that.
    np.testing.assert_allclose(np.log([noise, precision]), best.x, atol=1e-5)


@given(
    exponents=st.lists(st.floats(-6, 4), min_size=2, max_size=12),
    residual=st.floats(-6, 4),
    norm=st.floats(-4, 4),
    given_one=st.floats(-3, 3),
    nulls=st.integers(0, 5),
)
@settings(max_examples=50)
def test_what_is_chosen_is_a_stationary_point_and_beats_its_surroundings(
    exponents, residual, norm, given_one, nulls
):
    eigenvalues = np.concatenate([np.zeros(nulls), 10.0 ** np.array(exponents)])
    squares, given_one = (10.0**residual, 10.0**norm), 10.0**given_one
    factors = np.array([0.01, 0.5, 0.999, 1.001, 2.0, 100.0])
    for noise, precision in ((None, None), (given_one, None), (None, given_one)):
        chosen = best_gaussian(eigenvalues, *squares, noise, precision)
        value = gaussian_evidence(eigenvalues, *squares, *chosen)
        slack = 1e-12 * (abs(value) + len(eigenvalues) * 30)
        for factor in factors:
            if noise is None:
                assert (
                    gaussian_evidence(eigenvalues, *squares, chosen[0] * factor, chosen[1]) <= value + slack
                )
            if precision is None:
                assert (
                    gaussian_evidence(eigenvalues, *squares, chosen[0], chosen[1] * factor) <= value + slack
                )
        # dlog p/dlog δ = (γ - δ |θ|²)/2 and dlog p/dlog σ² = (|r|²/σ² - n + γ)/2
        determined = effective(eigenvalues / chosen[0], chosen[1])
        if precision is None:
            assert determined == pytest.approx(chosen[1] * squares[1], rel=1e-6)
        else:
            assert chosen[1] == given_one
        if noise is None:
            unexplained = np.sum(chosen[0] * chosen[1] / (eigenvalues + chosen[0] * chosen[1]))
            assert unexplained == pytest.approx(squares[0] / chosen[0], rel=1e-6)
        else:
            assert chosen[0] == given_one


@given(exponents=st.lists(st.floats(-8, 8), min_size=1, max_size=10), norm=st.floats(-6, 6))
@settings(max_examples=30)
def test_the_prior_precision_of_any_curvature_is_the_maximum(exponents, norm):
    eigenvalues, norm = 10.0 ** np.array(exponents), 10.0**norm
    best = best_precision(lambda delta: effective(eigenvalues, delta), norm, len(eigenvalues))
    value = occam_factor(eigenvalues, norm, best)
    for factor in (1e-3, 0.5, 0.999, 1.001, 2.0, 1e3):
        assert occam_factor(eigenvalues, norm, best * factor) <= value + 1e-12 * abs(value)


def test_the_regression_uses_that_choice():
    weights = ridge_weights(0.3, 0.7)
    posterior = linearized_laplace(linear_model, weights).regression(X, Y)
    noise, precision = best_gaussian(EIGENVALUES, *at_the_mode(0.3, 0.7), None, None)
    assert posterior.noise == pytest.approx(noise, rel=1e-9)
    assert posterior.prior_precision == pytest.approx(precision, rel=1e-9)
    assert posterior.effective_parameters == pytest.approx(precision * weights @ weights, rel=1e-9)
    alone = linearized_laplace(linear_model, weights).regression(X, Y, noise=0.2)
    assert alone.noise == 0.2
    assert alone.prior_precision == pytest.approx(
        best_gaussian(EIGENVALUES, *at_the_mode(0.3, 0.7), 0.2, None)[1], rel=1e-9
    )
