"""Selection criteria against their definitions, and their gradients against finite differences."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from ntkit.errors import NotPositiveDefiniteError
from ntkit.inference.evidence import CRITERIA, leave_one_out_log_density, log_marginal_likelihood


def _problem(points=12, outputs=2, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(points, 3))
    gram = np.exp(-0.5 * ((x[:, None, :] - x[None, :, :]) ** 2).sum(axis=2))
    return gram, 0.3, rng.normal(size=(points, outputs))


def test_log_marginal_likelihood_is_the_gaussian_density_of_every_output():
    gram, noise, y = _problem()
    density = multivariate_normal(np.zeros(12), gram + noise * np.eye(12))
    expected = density.logpdf(y[:, 0]) + density.logpdf(y[:, 1])
    # Rounding: n condition-number eps, 12 * 40 * 1e-16.
    assert log_marginal_likelihood(gram, noise, y).value == pytest.approx(expected, rel=1e-12)


def test_leave_one_out_is_the_density_of_each_point_under_the_others():
    gram, noise, y = _problem()
    total = 0.0
    for i in range(12):
        others = np.delete(np.arange(12), i)
        solved = np.linalg.solve(gram[np.ix_(others, others)] + noise * np.eye(11), gram[others, i])
        variance = gram[i, i] + noise - gram[i, others] @ solved
        residual = y[i] - solved @ y[others]
        total += (-0.5 * np.log(2.0 * np.pi * variance) - 0.5 * residual**2 / variance).sum()
    assert leave_one_out_log_density(gram, noise, y).value == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("outputs", [1, 3])
def test_gradients_agree_with_central_differences(name, outputs):
    criterion = CRITERIA[name]
    gram, noise, y = _problem(outputs=outputs)
    evidence = criterion(gram, noise, y)
    direction = np.random.default_rng(1).normal(size=gram.shape)
    direction = direction + direction.T
    h = 1e-5
    # Central differences err by h^2 |third derivative| / 6 + eps |value| / h: with derivatives of at
    # most (1/noise)^3 relative to the first this is about 1e-8, relative to a gradient of order 1 to 100.
    slope = (
        criterion(gram + h * direction, noise, y).value - criterion(gram - h * direction, noise, y).value
    ) / (2 * h)
    assert np.sum(evidence.gram * direction) == pytest.approx(slope, rel=1e-6)
    np.testing.assert_array_equal(evidence.gram.shape, gram.shape)
    np.testing.assert_allclose(evidence.gram, evidence.gram.T, atol=1e-12 * np.abs(evidence.gram).max())
    slope = (criterion(gram, noise + h, y).value - criterion(gram, noise - h, y).value) / (2 * h)
    assert evidence.noise == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("entry", [-2.0, np.nan])
def test_a_matrix_without_a_factor_is_refused(name, entry):
    gram, _, y = _problem()
    gram[3, 3] = entry
    with pytest.raises(NotPositiveDefiniteError, match=r"no Cholesky factor\. Raise the noise"):
        CRITERIA[name](gram, 0.1, y)


@pytest.mark.parametrize("name", CRITERIA)
def test_the_arguments_are_left_untouched(name):
    gram, noise, y = _problem()
    before = gram.copy(), y.copy()
    CRITERIA[name](gram, noise, y)
    np.testing.assert_array_equal(gram, before[0])
    np.testing.assert_array_equal(y, before[1])
