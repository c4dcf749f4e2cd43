"""Fits of power laws: exact on exact laws, and standard errors that cover."""

import numpy as np
import pytest

from ntkit.theory import fit_power_law

X = np.array([2.0, 3.0, 5.0, 9.0, 20.0])


def test_an_exact_law_is_found():
    fit = fit_power_law(X, 3.0 * X**-1.5)
    assert fit.exponent == pytest.approx(-1.5, abs=1e-12)
    assert fit.prefactor == pytest.approx(3.0, rel=1e-12)
    assert fit.standard_error < 1e-7
    np.testing.assert_allclose(fit(X), 3.0 * X**-1.5, rtol=1e-12)


@pytest.mark.parametrize("known", [True, False])
def test_the_standard_error_is_the_scatter_of_fits_to_noisy_laws(known):
    # 400 fits: their standard deviation is itself known to 1/sqrt(800) = 3.5 %, so 15 % is more than 4 deviations.
    # Without given errors each fit's own estimate scatters; its root mean square is compared.
    generator, relative = (
        np.random.default_rng(0),
        np.array([0.01, 0.02, 0.01, 0.03, 0.02]) if known else 0.02,
    )
    fits = []
    for _ in range(400):
        values = X**-1.0 * np.exp(relative * generator.normal(size=5))
        fits.append(fit_power_law(X, values, values * relative if known else None))
    scatter = np.std([fit.exponent for fit in fits])
    stated = np.sqrt(np.mean([fit.standard_error**2 for fit in fits]))
    assert stated == pytest.approx(scatter, rel=0.15)


def test_given_errors_decide_even_where_the_points_lie_on_a_line():
    # Ten per cent on every value: the variance of the slope is 0.1² / Σ (log x - mean log x)².
    fit = fit_power_law(X, X**-1.0, 0.1 * X**-1.0)
    assert fit.standard_error == pytest.approx(0.1 / np.sqrt(((np.log(X) - np.log(X).mean()) ** 2).sum()))


@pytest.mark.parametrize(
    ("arguments", "values", "match"),
    [
        (X[:2], X[:2], "at least 3 points"),
        (X, X - 2.0, "positive, finite values, got 0.0"),
        (np.ones(5), X, "different arguments"),
    ],
)
def test_what_cannot_be_fitted_is_refused(arguments, values, match):
    with pytest.raises(ValueError, match=match):
        fit_power_law(arguments, values)
