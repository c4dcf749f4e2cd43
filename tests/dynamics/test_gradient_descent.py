"""Gradient descent in closed form against descending step by step."""

import numpy as np
import pytest
from tests.dynamics.problems import KERNELS, TEST, TEST_Y, WEIGHTS, X, Y, start

from ntkit.dynamics import gradient_descent, gradient_flow
from ntkit.errors import DivergenceError

every_pair = pytest.mark.parametrize(("ntk", "prior"), KERNELS.values(), ids=KERNELS)
every_reduction = pytest.mark.parametrize("reduction", WEIGHTS)


@every_pair
@every_reduction
@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.98], ids=["slow", "fast", "nearly divergent"])
def test_it_equals_descending_step_by_step(ntk, prior, reduction, fraction):
    weight = WEIGHTS[reduction]
    points = np.concatenate([X, TEST])
    kernel = ntk(points)[:, :7]
    rate = fraction * 2 / (weight * np.linalg.eigvalsh(kernel[:7])[-1])
    descent = gradient_descent(ntk, X, Y, f0=start, learning_rate=rate, reduction=reduction)
    outputs = start(points)
    for step in range(41):
        if step in (0, 1, 2, 17, 40):
            # Forty steps, each rounding sums of seven terms of order 10 and contracting what came before.
            np.testing.assert_allclose(descent.after(step).mean(TEST), outputs[7:], rtol=0, atol=1e-12)
            np.testing.assert_allclose(descent.training_outputs(step), outputs[:7], rtol=0, atol=1e-12)
            loss = 0.5 * weight * ((outputs[:7] - Y) ** 2).sum()
            assert descent.loss(step) == pytest.approx(loss, rel=1e-11)
        outputs = outputs - rate * weight * kernel @ (outputs[:7] - Y)


@every_pair
def test_the_ensemble_is_that_of_descending_members(ntk, prior):
    """The members' outputs are linear in their initial ones; the operator is found by descending from unit vectors."""
    points = np.concatenate([X, TEST])
    kernel = ntk(points)[:, :7]
    rate = 1.5 / np.linalg.eigvalsh(kernel[:7])[-1]
    linear = np.eye(11)
    for _ in range(13):
        linear = linear - rate * kernel @ linear[:7]
    expected = (linear @ prior(points) @ linear.T)[7:, 7:]
    descent = gradient_descent(ntk, X, Y, prior=prior, learning_rate=rate)
    trained = descent.after(13)
    np.testing.assert_allclose(trained.covariance(TEST), expected, rtol=0, atol=1e-11)
    np.testing.assert_allclose(trained.variance(TEST), np.diag(expected), rtol=0, atol=1e-11)
    bias = 0.5 * ((trained.mean(TEST) - TEST_Y) ** 2).sum()
    assert descent.test_loss(13, TEST, TEST_Y) == pytest.approx(bias + np.trace(expected), rel=1e-10)
    path = descent.trajectory([0, 13], TEST)
    np.testing.assert_allclose(path.mean[1], trained.mean(TEST), rtol=0, atol=1e-12)
    np.testing.assert_allclose(path.variance[0], prior.diag(TEST), rtol=1e-14)


@every_pair
def test_huge_numbers_of_steps_converge(ntk, prior):
    descent = gradient_descent(ntk, X, Y, prior=prior, learning_rate=1e-3)
    end = gradient_flow(ntk, X, Y, prior=prior).at(np.inf)
    for steps in (10**9, 1e12, 10**30, np.inf):
        np.testing.assert_allclose(descent.after(steps).mean(TEST), end.mean(TEST), rtol=0, atol=1e-13)
        np.testing.assert_allclose(
            descent.after(steps).variance(TEST), end.variance(TEST), rtol=0, atol=1e-13
        )
        assert descent.loss(steps) <= 1e-300


def test_small_steps_are_the_flow():
    ntk, prior = KERNELS["erf"]
    t, steps = 2.0, 10**9
    descent = gradient_descent(ntk, X, Y, prior=prior, learning_rate=t / steps)
    flow = gradient_flow(ntk, X, Y, prior=prior)
    # (1 - η λ)^k = exp(-λ t) (1 - λ² t² / 2k + ...), and λ² t² exp(-λ t) < 1.
    np.testing.assert_allclose(descent.after(steps).mean(TEST), flow.at(t).mean(TEST), rtol=0, atol=1e-8)
    np.testing.assert_allclose(descent.loss([0, steps]), flow.loss([0.0, t]), rtol=1e-8)


@every_reduction
def test_a_learning_rate_that_diverges_is_refused(reduction):
    ntk, _ = KERNELS["relu"]
    largest = gradient_flow(ntk, X, Y, reduction=reduction).max_learning_rate
    with pytest.raises(DivergenceError, match=rf"below {largest:.6g} = 2 "):
        gradient_descent(ntk, X, Y, learning_rate=largest, reduction=reduction)
    descent = gradient_descent(ntk, X, Y, learning_rate=0.999 * largest, reduction=reduction)
    losses = descent.loss(np.arange(50))
    assert (np.diff(losses) < 0).all()
    assert descent.max_learning_rate == largest
    assert descent.rank == len(descent.eigenvalues) == 7


@pytest.mark.parametrize("steps", [-1, 1.5, np.nan, -np.inf])
def test_steps_are_counted(steps):
    descent = gradient_descent(*KERNELS["relu"][:1], X, Y, learning_rate=1e-3)
    with pytest.raises(ValueError, match="whole numbers of steps of at least 0, got"):
        descent.after(steps)
    with pytest.raises(ValueError, match="whole numbers of steps of at least 0, got"):
        descent.loss(np.array([1.0, steps]))
