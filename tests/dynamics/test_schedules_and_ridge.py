"""Piecewise-constant learning rates, the ridge, the time to a loss, and the mean of stochastic gradient descent."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from tests.dynamics.problems import KERNELS, TEST, X, Y, start

from ntkit.dynamics import PiecewiseConstant, gradient_descent, gradient_flow

NTK = KERNELS["relu"][0]
GRAM = NTK(X)


@given(
    st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=4),
    st.lists(st.floats(1e-2, 1e2), min_size=3, max_size=3),
    st.floats(0, 1e3),
)
def test_time_and_distance_are_inverse_to_each_other(rates, gaps, t):
    schedule = PiecewiseConstant(tuple(rates), tuple(np.cumsum(gaps)[: len(rates) - 1]))
    distance = schedule.distance([t])
    np.testing.assert_allclose(schedule.time_at(distance), [t], rtol=1e-9, atol=1e-9)
    assert schedule.spent([t]).sum() == pytest.approx(t, rel=1e-12)


def test_a_schedule_of_equal_rates_is_a_single_rate():
    one = gradient_flow(NTK, X, Y, learning_rate=0.3)
    same = gradient_flow(NTK, X, Y, learning_rate=PiecewiseConstant((0.3, 0.3), (1.0,)))
    np.testing.assert_allclose(same.loss([0.5, 1.0, 9.0]), one.loss([0.5, 1.0, 9.0]), rtol=1e-13)
    np.testing.assert_allclose(same.timescales, one.timescales, rtol=1e-13)


def test_the_flow_of_a_changing_rate_solves_its_differential_equation():
    schedule = PiecewiseConstant((2.0, 0.1, 0.5), (0.4, 3.0))
    flow = gradient_flow(NTK, X, Y, f0=start, learning_rate=schedule, ridge=0.2)
    state, at = np.zeros(14), 0.0
    for rate, end in ((2.0, 0.4), (0.1, 3.0), (0.5, 8.0)):

        def field(_, a, rate=rate):
            a = a.reshape(7, 2)
            return -rate * (start(X) + GRAM @ a - Y + 0.2 * a).ravel()

        state = solve_ivp(field, (at, end), state, "DOP853", rtol=1e-12, atol=1e-13).y[:, -1]
        at = end
        expected = start(TEST) + NTK(TEST, X) @ state.reshape(7, 2)
        np.testing.assert_allclose(flow.at(end).mean(TEST), expected, rtol=0, atol=1e-10)
    assert flow.loss_rate(2.0) == pytest.approx(
        (flow.loss(2.0 + 1e-5) - flow.loss(2.0 - 1e-5)) / 2e-5, rel=1e-7
    )


@pytest.mark.parametrize("ridge", [0.0, 0.7])
def test_descent_of_a_changing_rate_is_the_recursion(ridge):
    bound = 2 / (np.linalg.eigvalsh(GRAM)[-1] + ridge)
    # The first rate makes the fastest direction alternate, over an odd number of steps.
    rates, boundaries = (0.95 * bound, 0.1 * bound, 0.6 * bound), (3, 9)
    descent = gradient_descent(NTK, X, Y, learning_rate=PiecewiseConstant(rates, boundaries), ridge=ridge)
    a = np.zeros((7, 2))
    for count in range(25):
        if count in (0, 2, 3, 4, 8, 9, 10, 11, 24):
            np.testing.assert_allclose(descent.after(count).mean(TEST), NTK(TEST, X) @ a, rtol=0, atol=1e-12)
        rate = rates[int(np.searchsorted(boundaries, count, side="right"))]
        a = a - rate * (GRAM @ a - Y + ridge * a)


def test_the_ridge_ends_in_kernel_ridge_regression():
    for reduction, weight in (("sum", 1.0), ("mean", 1 / 14), ("mean_points", 1 / 7)):
        flow = gradient_flow(NTK, X, Y, ridge=0.3, reduction=reduction)
        expected = NTK(TEST, X) @ np.linalg.solve(GRAM + 0.3 / weight * np.eye(7), Y)
        np.testing.assert_allclose(flow.at(np.inf).mean(TEST), expected, rtol=0, atol=1e-11)


def test_a_ridge_far_below_rounding_changes_nothing():
    duplicated, targets = np.concatenate([X, X]), np.concatenate([Y, Y + 1.0])
    with_ridge = gradient_flow(NTK, duplicated, targets, ridge=1e-200).at(np.inf).mean(TEST)
    without = gradient_flow(NTK, duplicated, targets).at(np.inf).mean(TEST)
    np.testing.assert_allclose(with_ridge, without, rtol=1e-12)


def test_the_cost_falls_at_the_rate_of_its_squared_gradient_norm():
    flow = gradient_flow(NTK, X, Y, f0=start, ridge=0.4, learning_rate=0.7, reduction="mean")
    for t in (0.0, 0.3, 5.0):
        a = flow.training_outputs(t)
        # In function space the cost's kernel gradient is Θ (c (f - y)) + ridge (f - f0); its squared norm needs the
        # coefficients: c (f - y) + ridge α with f - f0 = Θ α.
        coefficients = (a - Y) / 14 + 0.4 * np.linalg.solve(GRAM, a - start(X))
        expected = -0.7 * np.sum(coefficients * (GRAM @ coefficients))
        step = 1e-4
        cost = [flow.loss(t + h) + flow.penalty(t + h) for h in (0.0, step, 2 * step)]
        # A one-sided difference of second order errs by step² C''' / 3.
        slope = (-1.5 * cost[0] + 2 * cost[1] - 0.5 * cost[2]) / step
        assert slope == pytest.approx(expected, rel=1e-4)


@given(st.floats(0.01, 0.99))
def test_the_time_to_a_loss_is_the_time_of_that_loss(fraction):
    flow = gradient_flow(NTK, X, Y, learning_rate=PiecewiseConstant((1.0, 0.2), (0.5,)))
    target = fraction * flow.loss(0.0)
    assert flow.loss(flow.time_to_loss(target)) == pytest.approx(target, rel=1e-9)


def test_a_loss_that_is_never_reached_takes_forever():
    duplicated, targets = np.concatenate([X, X]), np.concatenate([Y, Y + 1.0])
    flow = gradient_flow(NTK, duplicated, targets)
    floor = flow.loss(np.inf)
    assert floor == pytest.approx(0.5 * 14 * 0.5, rel=1e-9)  # a pair's mean is half a unit from both
    assert flow.time_to_loss(0.9 * floor) == np.inf
    assert flow.time_to_loss(2 * flow.loss(0.0)) == 0.0
    assert 0 < flow.time_to_loss(1.01 * floor) < np.inf


def test_projections_are_the_targets_along_the_eigendirections():
    flow = gradient_flow(NTK, X, Y, f0=start)
    values, vectors = np.linalg.eigh(GRAM)
    np.testing.assert_allclose(flow.eigenvalues, values[::-1], rtol=1e-12)
    np.testing.assert_allclose(np.abs(flow.projections), np.abs(vectors.T @ (Y - start(X)))[::-1], atol=1e-12)


def test_the_mean_of_stochastic_gradient_descent_is_gradient_descent():
    # Minibatches of 3 of 7 points, drawn afresh each step, on the linearised network's weights in function space.
    rng = np.random.default_rng(0)
    runs, steps, rate = 20_000, 12, 0.4 / np.linalg.eigvalsh(GRAM)[-1]
    y = Y[:, 0]
    a = np.zeros((runs, 7))
    for _ in range(steps):
        chosen = np.argsort(rng.random((runs, 7)), axis=1) < 3
        a = a - rate * (7 / 3) * chosen * (a @ GRAM - y[None, :])
    outputs = a @ GRAM
    expected = gradient_descent(NTK, X, Y[:, :1], learning_rate=rate).after(steps).mean(X)[:, 0]
    standard_error = outputs.std(axis=0) / np.sqrt(runs)
    # Seven normal deviates: all below 4.5 with probability 1 - 5e-5.
    assert (np.abs(outputs.mean(axis=0) - expected) < 4.5 * standard_error).all()
    assert (standard_error < 0.02 * np.abs(y).max()).all()


@pytest.mark.parametrize(
    ("rates", "boundaries", "message"),
    [
        ((), (), "in each piece"),
        ((1.0, -1.0), (1.0,), "in each piece"),
        ((1.0, 2.0), (), "one boundary between two rates"),
        ((1.0, 2.0, 3.0), (2.0, 1.0), "increasing"),
        ((1.0, 2.0), (np.inf,), "finite boundaries"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(rates, boundaries, message):
    with pytest.raises(ValueError, match=message):
        PiecewiseConstant(rates, boundaries)


def test_schedules_do_not_go_with_momentum_and_count_whole_steps():
    schedule = PiecewiseConstant((1e-3, 1e-4), (2.5,))
    with pytest.raises(ValueError, match="boundaries in whole steps"):
        gradient_descent(NTK, X, Y, learning_rate=schedule)
    with pytest.raises(ValueError, match="single learning_rate with momentum"):
        gradient_descent(NTK, X, Y, learning_rate=schedule, momentum=0.5)
    with pytest.raises(ValueError, match="single learning_rate with friction"):
        gradient_flow(NTK, X, Y, learning_rate=schedule, friction=0.5)
