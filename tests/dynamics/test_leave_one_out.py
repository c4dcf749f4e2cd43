"""Leave-one-out prediction over training time against leaving every point out and training again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.dynamics.problems import KERNELS, TEST, TEST_Y, X, Y, start

from ntkit.dynamics import best_stopping_time, gradient_flow
from ntkit.dynamics.leave_one_out import leave_one_out_means
from ntkit.errors import NotPositiveDefiniteError
from ntkit.kernels import RBF

NTK = KERNELS["erf"][0]
TIMES = np.array([0.0, 1e-6, 1e-2, 1.0, 30.0, 1e4, 1e9, np.inf])


def retrained(x, y, times, **arguments):
    """Predictions at each point by the flow on the others, shape (t, n, k)."""
    means = []
    for i in range(len(x)):
        flow = gradient_flow(NTK, np.delete(x, i, 0), np.delete(y, i, 0), **arguments)
        means.append(flow.trajectory(times, x[i : i + 1]).mean[:, 0])
    return np.stack(means, axis=1)


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_leaving_out_is_training_again_without_the_point(ridge):
    flow = gradient_flow(NTK, X, Y, f0=start)
    found = leave_one_out_means(flow.training, TIMES, ridge)
    # The contour's sum is good to 1e-14 of the outputs (2 here), times e^{4.7} of its largest weight.
    np.testing.assert_allclose(found, retrained(X, Y, TIMES, f0=start, ridge=ridge), rtol=0, atol=1e-11)


@settings(max_examples=10)
@given(st.integers(0, 2**31), st.floats(-6, 6))
def test_leaving_out_is_training_again_on_any_data(seed, log_time):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(5, 1))
    times = np.array([10.0**log_time])
    flow = gradient_flow(NTK, x, y)
    np.testing.assert_allclose(
        leave_one_out_means(flow.training, times), retrained(x, y, times), rtol=0, atol=1e-9
    )


def test_the_stopping_time_by_leave_one_out_is_that_of_as_many_folds_as_points():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 6, size=(16, 1))
    y = np.sin(x) + 0.4 * rng.normal(size=x.shape)
    times = np.array([0.1, 1.0, 10.0, 100.0])
    shortcut = best_stopping_time(RBF(), x, y, times=times, folds="leave-one-out", reduction="mean")
    by_folds = best_stopping_time(RBF(), x, y, times=times, folds=16, reduction="mean")
    np.testing.assert_allclose(shortcut.losses, by_folds.losses, rtol=1e-9)
    assert shortcut.time == by_folds.time
    assert shortcut.fold_losses.shape == (16, 4)


def test_the_best_time_is_a_minimum_between_the_points_of_the_grid():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 6, size=(30, 1))
    y = np.sin(x) + 0.5 * rng.normal(size=x.shape)
    for arguments in ({"folds": "leave-one-out"}, {"folds": 5}, {"validation": (x[:9] + 0.1, y[:9])}):
        best = best_stopping_time(RBF(), x, y, **arguments)
        near = best_stopping_time(RBF(), x, y, times=best.time * np.array([0.97, 1.0, 1.03]), **arguments)
        assert near.losses[1] <= best.losses.min() + 1e-15
        assert near.losses[1] < near.losses[0] and near.losses[1] < near.losses[2]


def test_a_validation_set_measures_the_flow_on_all_the_training_data():
    times = np.array([0.0, 0.5, 4.0])
    stopping = best_stopping_time(NTK, X, Y, times=times, validation=(TEST, TEST_Y), learning_rate=0.7)
    flow = gradient_flow(NTK, X, Y, learning_rate=0.7, reduction="sum")
    means = flow.trajectory(times, TEST).mean
    np.testing.assert_allclose(stopping.losses, ((means - TEST_Y[None]) ** 2).mean(axis=(1, 2)), rtol=1e-12)
    assert stopping.fold_losses.shape == (1, 3)


def test_singular_kernels_are_left_at_finite_times():
    x, y = np.concatenate([X, X[:1]]), np.concatenate([Y, Y[:1] + 1.0])
    flow = gradient_flow(NTK, x, y)
    with pytest.raises(
        NotPositiveDefiniteError, match="t = inf needs a positive definite kernel, got rank 7"
    ):
        leave_one_out_means(flow.training, np.array([np.inf]))
    assert np.isfinite(best_stopping_time(NTK, x, y, folds="leave-one-out").times).all()


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="between 2 and 7 folds"):
        best_stopping_time(NTK, X, Y, folds=99)
    with pytest.raises(ValueError, match="finite values"):
        best_stopping_time(NTK, X, Y, validation=(TEST, np.full((4, 1), np.nan)[:, [0, 0]]))
    with pytest.raises(ValueError, match="at least two points, got n_samples = 1"):
        best_stopping_time(NTK, X[:1], Y[:1], folds="leave-one-out")
