"""The spectral filters against 50-digit arithmetic, from the first instant to infinity."""

import mpmath
import numpy as np
import pytest

from ntkit.dynamics.arguments import as_steps
from ntkit.dynamics.filters import DescentFilter, FlowFilter
from ntkit.dynamics.schedule import PiecewiseConstant
from ntkit.solvers import Spectrum

EPS = np.finfo(float).eps
EIGENVALUES = np.array([1e-9, 1e-4, 0.3, 1.0, 1.0 + EPS, 7.0, 19.999])


def spectrum_of(eigenvalues, cutoff=0.0):
    return Spectrum(np.asarray(eigenvalues, dtype=float), np.eye(len(eigenvalues)), cutoff)


def descent(learning_rate, *steps):
    counts, odd = as_steps("A test", np.array(steps, dtype=object))
    return DescentFilter(0.0, PiecewiseConstant((learning_rate,)), counts, odd)


def flow(learning_rate, times):
    return FlowFilter(0.0, learning_rate * times, np.full(len(times), learning_rate))


def close(ours, exact, relative):
    for got, want in zip(np.ravel(ours), exact, strict=True):
        assert abs(got - want) <= relative * abs(want) + 1e-300, (got, mpmath.nstr(want, 20))


@pytest.mark.parametrize("t", [1e-300, 1e-12, 1e-3, 1.0, 50.0, 1e6])
def test_the_flow_has_every_digit_at_every_time(t):
    moment = flow(0.7, np.array([t]))
    spectrum = spectrum_of(EIGENVALUES)
    with mpmath.workdps(400):
        exponents = [mpmath.mpf(0.7) * mpmath.mpf(t) * mpmath.mpf(value) for value in EIGENVALUES]
        remaining = [mpmath.exp(-exponent) for exponent in exponents]
        learnt = [(1 - r) / mpmath.mpf(value) for r, value in zip(remaining, EIGENVALUES, strict=True)]
    close(moment.learnt(spectrum), learnt, 4 * EPS)
    # exp magnifies the rounding of its argument by the argument.
    close(moment.remaining(spectrum), remaining, 4 * EPS * (1 + min(0.7 * t * 20, 745)))


@pytest.mark.parametrize("steps", [1, 2, 3, 50, 51, 10**6, 10**6 + 1])
@pytest.mark.parametrize("learning_rate", [1e-13, 0.01, 0.1])
def test_descent_has_every_digit_after_any_number_of_steps(learning_rate, steps):
    # At 0.1 the last direction moves by 1.9999 of its error: nearly 2, alternating in sign.
    moment = descent(learning_rate, steps)
    spectrum = spectrum_of(EIGENVALUES)
    moved = [learning_rate * float(value) for value in EIGENVALUES]  # as rounded: a property of the problem
    with mpmath.workdps(400):
        remaining = [(1 - mpmath.mpf(m)) ** steps for m in moved]
        learnt = [(1 - r) / mpmath.mpf(value) for r, value in zip(remaining, EIGENVALUES, strict=True)]
    logarithms = [abs(steps * float(np.log(abs(1 - m)))) if m != 1 else 0.0 for m in moved]
    allowed = 8 * EPS * (1 + min(max(logarithms), 745))
    close(moment.learnt(spectrum), learnt, allowed)
    close(moment.remaining(spectrum), remaining, allowed)


def test_early_descent_does_not_cancel():
    learnt = descent(1e-13, 1).learnt(spectrum_of(EIGENVALUES))[0]
    np.testing.assert_allclose(learnt, 1e-13, rtol=4 * EPS)


def test_a_step_of_one_learns_a_direction_at_once():
    spectrum = spectrum_of([0.5, 1.0])
    np.testing.assert_allclose(descent(1.0, 0, 1, 2, 3).remaining(spectrum)[:, 1], [1, 0, 0, 0], atol=0)
    np.testing.assert_array_equal(descent(1.0, 0, 1, 5).learnt(spectrum)[:, 1], [0.0, 1.0, 1.0])


def test_the_parity_of_a_huge_number_of_steps_is_kept():
    # Just below 2 the error keeps its size for long, and its sign depends on a digit that a float has dropped.
    spectrum = spectrum_of([2.0 - 2**-52])
    odd, even = descent(1.0, 2**53 + 1, 2**53 + 2).remaining(spectrum)[:, 0]
    assert odd == pytest.approx(-np.exp(-2.0), rel=1e-9)
    assert even == pytest.approx(np.exp(-2.0), rel=1e-9)


@pytest.mark.parametrize(
    "moments", [flow(0.5, np.array([0.0, np.inf])), descent(0.5, 0, np.inf)], ids=["flow", "descent"]
)
def test_the_beginning_and_the_end_are_exact(moments):
    spectrum = spectrum_of([-1e-17, 0.0, 1e-9, 3.0], cutoff=1e-15)
    np.testing.assert_array_equal(moments.remaining(spectrum), [[1, 1, 1, 1], [1, 1, 0, 0]])
    np.testing.assert_array_equal(moments.learnt(spectrum), [[0, 0, 0, 0], [0, 0, 1 / 1e-9, 1 / 3.0]])


def test_null_directions_start_with_their_limit_and_end_at_zero():
    spectrum = spectrum_of([-1e-17, 4e-16, 4.0], cutoff=1e-15)
    times = np.array([1e-12, 1e-3, 1.0, 1e5, 1e8, 1e12, 1e300])
    learnt = flow(1.0, times).learnt(spectrum)
    fade = np.exp(-times * np.sqrt(1e-15 * 4.0))
    np.testing.assert_array_equal(learnt[:, :2], (times * fade)[:, None] * np.ones((1, 2)))
    assert learnt[0, 0] == pytest.approx(1e-12, rel=1e-12)
    # The weight times rounding of the kernel (cutoff / n) never exceeds the root of the precision.
    assert (learnt[:, :2] * 1e-15 < 1e-7).all()
    assert learnt[-1, 0] == 0.0


def test_nothing_is_learnt_without_a_kernel():
    for moments in (flow(1.0, np.array([0.0, 3.0, np.inf])), descent(1.0, 0, 3, np.inf)):
        np.testing.assert_array_equal(moments.remaining(spectrum_of([0.0, 0.0])), np.ones((3, 2)))
        assert np.isfinite(moments.learnt(spectrum_of([0.0, 0.0]))).all()
