"""Climbs: exact gradients, deadlines, interrupts, and regions where the criterion does not exist."""

import itertools

import numpy as np
import pytest

from ntkit.inference import GaussianProcess
from ntkit.inference.evidence import CRITERIA
from ntkit.inference.search import Deadline, Objective, climb
from ntkit.inference.search_space import Candidate, NetworkFamily, SearchSpace
from ntkit.nn import Erf, Relu

NEVER = Deadline(lambda: 0.0, np.inf)


def _data(points=15):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(points, 2))
    return x, np.stack([np.sin(x[:, 0]), x[:, 1] ** 2], axis=1) + 0.1 * rng.normal(size=(points, 2))


def _objective(activation, depth, kernel, criterion="log_marginal_likelihood", ard=False):
    space = SearchSpace(NetworkFamily(Candidate(depth, activation, kernel, ard), 2, 2, 8), 1.0, 1.0)
    return Objective(space, CRITERIA[criterion])


@pytest.mark.parametrize(
    ("activation", "depth", "kernel", "criterion", "ard"),
    [
        (Relu(), 1, "ntk", "log_marginal_likelihood", True),
        pytest.param(Erf(), 2, "nngp", "leave_one_out", False, marks=pytest.mark.slow),
    ],
)
def test_the_objective_is_criterion_and_prior_with_their_exact_gradient(
    activation, depth, kernel, criterion, ard
):
    x, y = _data()
    objective = _objective(activation, depth, kernel, criterion, ard)
    space = objective.space
    point = space.start(np.random.default_rng(1), 1)
    value, gradient = objective(point, x, y)
    values = dict(zip(space.names, space.values(point), strict=True))
    process = GaussianProcess(space.family(space.values(point)), values["noise"])
    posterior = process.condition(x, y)
    if criterion == "log_marginal_likelihood":
        expected = posterior.log_marginal_likelihood()
    else:
        expected = float(np.sum(posterior.leave_one_out().log_density))
    # The condition number is at most a few thousand, so both ways agree to 1e4 eps n.
    assert value == pytest.approx(expected - 0.5 * np.sum(point**2), rel=1e-10)
    h = 1e-5
    for i, step in enumerate(np.eye(len(point)) * h):
        slope = (objective(point + step, x, y)[0] - objective(point - step, x, y)[0]) / (2.0 * h)
        # h^2 times a third derivative of about the value itself (logarithmic coordinates), and eps |value| / h.
        assert gradient[i] == pytest.approx(slope, rel=1e-6, abs=1e-7 * max(1.0, abs(value)))


class _Valley(Objective):
    """A parabola with its maximum at `top`, that does not exist beyond a cliff; it counts its evaluations."""

    def __init__(self, top, cliff=np.inf, clock=None, interrupt_at=None):
        super().__init__(_objective(Relu(), 1, "nngp").space, CRITERIA["leave_one_out"])
        self.top, self.cliff, self.evaluations, self.interrupt_at = top, cliff, 0, interrupt_at

    def __call__(self, coordinates, x, y):
        self.evaluations += 1
        if self.evaluations == self.interrupt_at:
            raise KeyboardInterrupt
        if coordinates[0] > self.cliff:
            return -np.inf, np.zeros_like(coordinates)
        scales = np.array([1.0, 30.0, 3.0, 0.1])
        offset = coordinates - self.top
        return -float(np.sum(scales * offset**2)) * y.size, -2.0 * scales * offset * y.size


def test_a_climb_without_limits_finds_the_maximum():
    x, y = _data()
    found = climb(_Valley(1.5), np.zeros(4), x, y, iterations=200, deadline=NEVER)
    assert found.ending == "converged"
    # ftol 1e-8 of a value of order 1 in the shallowest direction, whose curvature is 0.2.
    np.testing.assert_allclose(found.coordinates, 1.5, atol=1e-3)
    assert found.value > found.start_value


def test_the_deadline_is_overrun_by_one_evaluation_at_most():
    x, y = _data()
    valley = _Valley(1.5)
    # An evaluation takes one second of this clock, so the sixth begins at 5 s, before the deadline.
    deadline = Deadline(lambda: float(valley.evaluations), 5.5)
    found = climb(valley, np.zeros(4), x, y, iterations=200, deadline=deadline)
    assert found.ending == "time limit"
    assert valley.evaluations == found.evaluations == 6
    assert found.value > found.start_value


def test_a_deadline_that_has_passed_still_allows_one_evaluation():
    x, y = _data()
    found = climb(_Valley(1.5), np.zeros(4), x, y, iterations=200, deadline=Deadline(lambda: 1.0, 0.0))
    assert (found.evaluations, found.ending) == (1, "time limit")
    assert found.value == found.start_value > -np.inf


def test_an_interrupt_keeps_the_best_point_so_far():
    x, y = _data()
    found = climb(_Valley(1.5, interrupt_at=4), np.zeros(4), x, y, iterations=200, deadline=NEVER)
    assert (found.ending, found.evaluations) == ("interrupted", 3)
    assert found.value > found.start_value
    assert found.value == pytest.approx(_Valley(1.5)(found.coordinates, x, y)[0], rel=1e-12)


def test_a_climb_turns_back_where_the_criterion_does_not_exist():
    x, y = _data()
    found = climb(_Valley(1.5, cliff=1.0), np.zeros(4), x, y, iterations=200, deadline=NEVER)
    assert found.coordinates[0] <= 1.0
    # It came closer to the cliff than the start: the remaining loss is mostly that of the cliff itself, 0.25.
    assert found.value / y.size > -1.0
    assert found.start_value / y.size < -75.0


def test_a_start_where_the_criterion_does_not_exist_fails():
    x, y = _data()
    found = climb(_Valley(1.5, cliff=-1.0), np.zeros(4), x, y, iterations=200, deadline=NEVER)
    assert (found.ending, found.value, found.evaluations) == ("failed", -np.inf, 1)


def test_an_overflowing_kernel_has_no_criterion_and_raises_no_warning():
    x, y = _data()
    objective = _objective(Relu(), 1, "ntk")
    value, gradient = objective(np.zeros(len(objective.space.names)), 1e200 * x, y)
    assert value == -np.inf
    np.testing.assert_array_equal(gradient, 0.0)


def test_shares_of_a_deadline_divide_the_time_left():
    readings = itertools.count()
    deadline = Deadline(lambda: float(next(readings)) * 0.0 + 2.0, 10.0)
    assert deadline.share(0.25).moment == 4.0
    assert deadline.share(1.0).moment == 10.0
    assert Deadline(lambda: 11.0, 10.0).passed
