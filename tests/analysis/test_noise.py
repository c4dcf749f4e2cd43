"""Estimated noise is the noise that was put in."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from ntkit.analysis.noise import class_noise, evidence_noise, regression_noise
from ntkit.inference.gaussian_process import GaussianProcess
from ntkit.kernels import RBF
from ntkit.kernels.row_kernel import RowKernel


def test_regression_noise_is_what_the_predicted_variance_leaves_unexplained():
    rng = np.random.default_rng(0)
    variance = rng.uniform(0.1, 0.5, size=20_000)
    y = rng.normal(size=(20_000, 1)) * np.sqrt(variance + 0.3)[:, None]
    # The estimate's standard error is about 0.6 sqrt(2 / 20000) = 0.006; 5 of them and the search's 5 %.
    assert regression_noise(y, np.zeros_like(y), variance) == pytest.approx(0.3, abs=0.03 + 0.015)


def test_evidence_noise_maximises_the_likelihood():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 2))
    gram = RBF()(x)
    y = np.linalg.cholesky(gram + 0.2 * np.eye(30)) @ rng.normal(size=(30, 1))
    best = evidence_noise(gram, y)

    def likelihood(noise):
        return multivariate_normal(np.zeros(30), gram + noise * np.eye(30)).logpdf(y[:, 0])

    assert likelihood(best) > max(likelihood(best * 1.15), likelihood(best / 1.15))


def test_class_noise_is_large_where_scores_are_wrong_and_small_where_they_are_right():
    rng = np.random.default_rng(0)
    codes = rng.integers(3, size=300)
    right = np.eye(3)[codes]
    wrong = np.where(rng.uniform(size=300)[:, None] < 0.4, np.eye(3)[rng.integers(3, size=300)], right)
    assert class_noise(codes, right, np.zeros(300)) < 0.05 < class_noise(codes, wrong, np.zeros(300))


def test_a_stored_gram_matrix_is_the_kernel_it_came_from():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 2)), rng.normal(size=(12, 1))
    stored, rows = RowKernel(RBF()(x), "RBF"), np.arange(12.0)[:, None]
    expected = GaussianProcess(RBF(), 0.1).condition(x[:8], y[:8])
    found = GaussianProcess(stored, 0.1).condition(rows[:8], y[:8])
    np.testing.assert_allclose(found.mean(rows[8:]), expected.mean(x[8:]), rtol=1e-12)
    np.testing.assert_allclose(found.variance(rows[8:]), expected.variance(x[8:]), rtol=1e-10)
    assert repr(stored) == "RBF"
