"""Leave-one-out in closed form against refitting without each point."""

import numpy as np
import pytest
from scipy.stats import norm

from ntkit.inference import GaussianProcess
from ntkit.kernels import NTK, RBF
from ntkit.nn import Dense, Relu, Serial
from ntkit.solvers import Cholesky, Eigh

random = np.random.default_rng(4)
X, Y = random.normal(size=(9, 2)), random.normal(size=(9, 2))
NETWORK = Serial(Dense(1, b_std=0.3), Relu(), Dense(1))


@pytest.mark.parametrize("kernel", [RBF(0.6), NTK(NETWORK)], ids=["rbf", "ntk"])
@pytest.mark.parametrize("solver", [Cholesky(), Eigh()], ids=["cholesky", "eigh"])
@pytest.mark.parametrize("noise", [0.1, 1e-4])
def test_it_equals_refitting_without_each_point(kernel, solver, noise):
    process = GaussianProcess(kernel, noise)
    left_out = process.condition(X, Y, solver).leave_one_out()
    condition = np.linalg.cond(kernel(X) + noise * np.eye(9))
    tolerance = 100 * np.finfo(float).eps * condition
    total = 0.0
    for i in range(9):
        others = np.arange(9) != i
        refitted = process.condition(X[others], Y[others]).with_noise()
        mean, variance = refitted.mean(X[i : i + 1])[0], refitted.variance(X[i : i + 1])[0]
        # The refit loses the digits of its variance to a subtraction; the closed form does not.
        np.testing.assert_allclose(left_out.mean[i], mean, rtol=0, atol=tolerance * 10)
        np.testing.assert_allclose(left_out.residuals[i], Y[i] - mean, rtol=0, atol=tolerance * 10)
        np.testing.assert_allclose(left_out.variance[i], variance, rtol=tolerance)
        densities = norm.logpdf(Y[i], mean, np.sqrt(variance))
        np.testing.assert_allclose(left_out.log_densities[i], densities, rtol=0, atol=1e-6)
        total += densities.sum()
    # 18 squares of residuals over variances as small as the noise, each to the tolerances above.
    assert left_out.log_density == pytest.approx(total, rel=1e-7)


def test_the_parts_are_consistent():
    left_out = GaussianProcess(RBF(), 0.2).condition(X, Y).leave_one_out()
    np.testing.assert_allclose(left_out.mean + left_out.residuals, Y, rtol=1e-14)
    assert left_out.log_densities.shape == (9, 2)
