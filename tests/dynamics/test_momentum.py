"""Heavy-ball momentum against 60-digit arithmetic in every regime of damping, and against plain recursions and ODEs."""

import mpmath
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from tests.dynamics.problems import KERNELS, TEST, X, Y

from ntkit.dynamics import gradient_descent, gradient_flow
from ntkit.dynamics.momentum import HeavyBallFilter, HeavyBallFlowFilter
from ntkit.errors import DivergenceError

EPS = np.finfo(float).eps
FRICTION = 0.8
# ω² from almost free to fast oscillation; critical damping at γ²/4 = 0.16, exactly and to a rounding on both sides.
SQUARED = np.array(
    [1e-12, 1e-4, 0.07, 0.159, 0.16 * (1 - 4 * EPS), 0.16, 0.16 * (1 + 4 * EPS), 0.3, 5.0, 400.0]
)
TIMES = np.array([1e-9, 1e-3, 0.03, 0.7, 1.3, 4.0, 30.0])


def exact_flow(squared, t):
    with mpmath.workdps(60):
        half, w2, t = mpmath.mpf(FRICTION) / 2, mpmath.mpf(float(squared)), mpmath.mpf(float(t))
        root = mpmath.sqrt(half**2 - w2 + mpmath.mpf(10) ** -50)
        r = mpmath.exp(-half * t) * (mpmath.cosh(root * t) + half * mpmath.sinh(root * t) / root)
        return mpmath.re(r), mpmath.re(1 - r)


def test_the_damped_oscillator_has_its_digits_in_every_regime():
    remaining, learnt = HeavyBallFlowFilter(0.0, 1.0, FRICTION, TIMES).response(SQUARED)
    for i, t in enumerate(TIMES):
        for j, squared in enumerate(SQUARED):
            left, gained = exact_flow(squared, t)
            # The phase ωt is rounded once, which moves a cosine by its size.
            phase = 1.0 + np.sqrt(squared) * t
            assert abs(remaining[i, j] - left) <= 8 * EPS * phase
            assert abs(learnt[i, j] * squared - gained) <= 32 * EPS * phase * abs(gained)


def test_the_oscillator_begins_at_rest_and_ends_there():
    moments = HeavyBallFlowFilter(0.0, 1.0, FRICTION, np.array([0.0, np.inf]))
    remaining, learnt = moments.response(SQUARED)
    np.testing.assert_array_equal(remaining, [np.ones(10), np.zeros(10)])
    np.testing.assert_array_equal(learnt, [np.zeros(10), 1.0 / SQUARED])


def test_the_weight_of_a_null_direction_is_the_limit_of_small_eigenvalues():
    moments = HeavyBallFlowFilter(0.0, 0.3, FRICTION, TIMES)
    _, learnt = moments.response(np.array([1e-14]))
    np.testing.assert_allclose(moments.distance, learnt[:, 0], rtol=1e-12)
    steps = HeavyBallFilter(
        0.0, 0.3, 0.9, np.array([0.0, 1.0, 2.0, 50.0]), np.array([False, True, False, False])
    )
    _, learnt = steps.response(np.array([1e-14]))
    np.testing.assert_allclose(steps.distance, learnt[:, 0], rtol=1e-12)


def exact_steps(momentum, moved, steps):
    with mpmath.workdps(80):
        beta, m = mpmath.mpf(momentum), mpmath.mpf(float(moved))
        root = mpmath.sqrt((1 + beta - m) ** 2 - 4 * beta + mpmath.mpf(10) ** -70)
        first, second = (1 + beta - m + root) / 2, (1 + beta - m - root) / 2
        weight = (first - 1 + m) / (first - second)
        r = (1 - weight) * first**steps + weight * second**steps
        return mpmath.re(r), mpmath.re(1 - r)


@pytest.mark.parametrize("momentum", [0.01, 0.5, 0.9, 0.99])
def test_steps_with_momentum_have_their_digits_in_every_regime(momentum):
    root = np.sqrt(momentum)
    lower, upper, stable = (1 - root) ** 2, (1 + root) ** 2, 2 * (1 + momentum)
    moved = np.array([1e-9, 0.3 * lower, lower * (1 - 1e-9), lower * (1 + 1e-9), 0.5, 1.0, 0.9 * upper])
    moved = np.concatenate([moved, [upper * (1 + 1e-9), (upper + stable) / 2, 0.999 * stable]])
    counts = np.array([0, 1, 2, 3, 10, 101, 1000])
    moments = HeavyBallFilter(0.0, 1.0, momentum, counts.astype(float), counts % 2 == 1)
    remaining, learnt = moments.response(moved)
    for i, steps in enumerate(counts):
        for j, m in enumerate(moved):
            left, gained = exact_steps(momentum, m, int(steps))
            # Rounding ηλ moves roots a distance s apart by eps ηλ / s, and the power k magnifies that, of which
            # 1 / (1 - √β) steps matter. Where the motion has barely begun 1 - r is a difference of numbers about 1.
            apart = np.sqrt(abs((lower - m) * (upper - m)))
            lasting = min(steps, 1 / (1 - root))
            conditioning = 1 / (1 - root) + lasting * (1 + m / apart) * max(1.0, abs(float(left)))
            begun = max(float(abs(gained)), min(1.0, m / lower))
            assert abs(remaining[i, j] - left) <= 16 * EPS * conditioning
            assert abs(learnt[i, j] * m - gained) <= 16 * EPS * conditioning * begun


def test_the_parity_of_steps_shows_where_the_roots_are_negative():
    moments = HeavyBallFilter(0.0, 1.0, 0.5, np.array([100.0, 101.0]), np.array([False, True]))
    even, odd = moments.response(np.array([2.999]))[0][:, 0]
    assert even > 0 > odd


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("rate", [0.02, 0.5])
def test_steps_with_momentum_are_those_of_the_recursion(reduction, rate):
    ntk, _ = KERNELS["relu"]
    gram, weight = ntk(X), {"sum": 1.0, "mean": 1 / 14}[reduction]
    bound = 2 * (1 + 0.8) / (weight * np.linalg.eigvalsh(gram)[-1] + 0.3)
    step = rate * bound
    descent = gradient_descent(ntk, X, Y, learning_rate=step, momentum=0.8, ridge=0.3, reduction=reduction)
    assert descent.max_learning_rate == pytest.approx(bound, rel=1e-12)
    before = current = np.zeros((7, 2))
    for count in range(41):
        if count in (0, 1, 7, 40):
            cross = ntk(TEST, X)
            np.testing.assert_allclose(descent.after(count).mean(TEST), cross @ current, rtol=0, atol=1e-12)
            assert descent.loss(count) == pytest.approx(
                weight * 0.5 * np.sum((gram @ current - Y) ** 2), rel=1e-11
            )
            penalty = 0.3 * 0.5 * np.sum(current * (gram @ current))
            assert descent.penalty(count) == pytest.approx(penalty, rel=1e-11)
        # The weights are θ - θ_0 = Jᵀ a: one recursion for a.
        force = -weight * (gram @ current - Y) - 0.3 * current
        before, current = current, current + step * force + 0.8 * (current - before)


@pytest.mark.parametrize("friction", [0.3, 3.0, 30.0])
@pytest.mark.parametrize("ridge", [0.0, 0.4])
def test_the_flow_with_friction_solves_its_differential_equation(friction, ridge):
    ntk, _ = KERNELS["erf"]
    gram, rate, weight = ntk(X), 1.7, 1 / 7
    flow = gradient_flow(
        ntk, X, Y, learning_rate=rate, friction=friction, ridge=ridge, reduction="mean_points"
    )

    def field(_, state):
        a, v = state.reshape(2, 7, 2)
        force = -weight * (gram @ a - Y) - ridge * a
        return np.concatenate([v.ravel(), (rate * force - friction * v).ravel()])

    times = [0.1, 2.0, 15.0]
    solution = solve_ivp(field, (0, 15), np.zeros(28), "DOP853", times, rtol=1e-12, atol=1e-13)
    for t, state in zip(times, solution.y.T, strict=True):
        a, v = state.reshape(2, 7, 2)
        # The solver's tolerance, times the growth of error over a dozen oscillations.
        np.testing.assert_allclose(flow.at(t).mean(TEST), ntk(TEST, X) @ a, rtol=0, atol=1e-9)
        residual = gram @ a - Y
        assert flow.loss(t) == pytest.approx(weight * 0.5 * np.sum(residual**2), abs=1e-9)
        assert flow.loss_rate(t) == pytest.approx(weight * np.sum(residual * (gram @ v)), abs=1e-9)
    rest = np.linalg.solve(gram + 7 * ridge * np.eye(7), Y)
    np.testing.assert_allclose(flow.at(np.inf).mean(TEST), ntk(TEST, X) @ rest, rtol=0, atol=1e-9)


def test_momentum_and_friction_that_cannot_be_are_refused():
    ntk, _ = KERNELS["relu"]
    with pytest.raises(ValueError, match="momentum below 1, got 1.0"):
        gradient_descent(ntk, X, Y, learning_rate=0.01, momentum=1.0)
    with pytest.raises(ValueError, match="momentum as a finite number of at least 0"):
        gradient_descent(ntk, X, Y, learning_rate=0.01, momentum=-0.1)
    with pytest.raises(ValueError, match="positive friction, got 0"):
        gradient_flow(ntk, X, Y, friction=0.0)
    with pytest.raises(ValueError, match="ridge as a finite number of at least 0"):
        gradient_flow(ntk, X, Y, ridge=-1.0)
    with pytest.raises(DivergenceError, match="2 \\(1 \\+ momentum\\)"):
        gradient_descent(ntk, X, Y, learning_rate=1e3, momentum=0.5)
    with pytest.raises(ValueError, match="a loss that only falls"):
        gradient_flow(ntk, X, Y, friction=1.0).time_to_loss(0.1)
