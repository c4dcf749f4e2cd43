"""Selection as a whole: it recovers what made the data, keeps to its limits, and says what it did."""

import itertools
import math

import numpy as np
import pytest

from ntkit.errors import NotPositiveDefiniteError
from ntkit.inference import select
from ntkit.inference.gram_gradient import DifferentiableGram
from ntkit.inference.search_space import Candidate, NetworkFamily
from ntkit.kernels import NNGP, NTK
from ntkit.nn import Dense, Relu, Scale, Serial

ONE = {"depths": (1,), "activations": ("relu",), "kernels": ("nngp",), "time_limit": math.inf}


def _noisy_wave(points=40):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(points, 2))
    return x, np.sin(2.0 * x[:, :1]) + 0.1 * rng.normal(size=(points, 1))


@pytest.fixture(scope="module")
def wave():
    """One selection with both kernels and feature scales; the second feature is irrelevant."""
    x, y = _noisy_wave()
    return x, y, select(x, y, **{**ONE, "kernels": ("nngp", "ntk")}, ard=True)


def test_the_reported_value_is_that_of_the_returned_process(wave):
    x, y, selection = wave
    assert selection.points == len(x)
    order = np.random.default_rng(0).permutation(len(x))
    expected = selection.gaussian_process().log_marginal_likelihood(x[order], y[order])
    # Feature scales make the kernel stiff: condition number up to 1e7 by the bound on the noise.
    assert selection.value == pytest.approx(expected, rel=1e-7)
    assert selection.gaussian_process().kernel == selection.kernel


def test_every_climb_ends_above_its_start_and_the_best_is_chosen(wave):
    _, _, selection = wave
    assert selection.ending == "finished"
    assert len(selection.history) == 2 * 2 + 2
    for trial in selection.history:
        assert trial.score >= trial.start_score
        assert trial.score == pytest.approx(trial.value - 0.5 * np.sum(trial.coordinates**2), rel=1e-12)
        assert dict(trial.parameters)["noise"] > 0.0
    final = [trial for trial in selection.history if trial.candidate.ard]
    best = max(final, key=lambda trial: trial.score)
    assert (selection.value, selection.candidate) == (best.value, best.candidate)
    assert best.score > max(trial.score for trial in selection.history if not trial.candidate.ard)


def test_feature_scales_mark_the_irrelevant_feature(wave):
    _, _, selection = wave
    scale = selection.network.layers[0]
    assert isinstance(scale, Scale)
    assert scale.scales[1] < 0.1 * scale.scales[0]


def test_the_result_holds_plain_numbers(wave):
    _, _, selection = wave
    assert isinstance(selection.kernel, NNGP | NTK)
    assert selection.kernel.network == selection.network
    dense = selection.network.layers[1]
    assert isinstance(dense, Dense)
    assert type(dense.b_std) is float
    assert type(selection.noise) is float


@pytest.mark.slow
def test_the_noise_of_data_drawn_from_the_prior_is_recovered():
    family = NetworkFamily(Candidate(1, Relu(), "nngp"), 1, 1, 512)
    truth = np.array([1.0, 1.5, 0.5, 0.04])
    assert family.names == ("input b_std", "readout w_std", "readout b_std", "noise")
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 1))
    covariance = family(truth)(x) + truth[3] * np.eye(200)
    outputs = 2
    y = np.linalg.cholesky(covariance) @ rng.normal(size=(200, outputs))
    selection = select(x, y, **ONE, starts=1)
    # The estimate's standard error from the Fisher information of all parameters in their logarithms,
    # F_ij = outputs/2 tr(K^-1 dK_i K^-1 dK_j); four of them for a false alarm of 6e-5 on another seed.
    gram = DifferentiableGram(family)
    h = 1e-4
    slopes = [
        (gram.gram(truth * np.exp(step), x) - gram.gram(truth * np.exp(-step), x)) / (2.0 * h)
        for step in np.eye(4) * h
    ]
    slopes[3] += truth[3] * np.eye(200)
    solved = [np.linalg.solve(covariance, slope) for slope in slopes]
    fisher = 0.5 * outputs * np.array([[np.sum(a * b.T) for b in solved] for a in solved])
    standard_error = np.sqrt(np.linalg.inv(fisher)[3, 3])
    assert standard_error < 0.15
    assert abs(np.log(selection.noise / truth[3])) < 4.0 * standard_error


def test_leave_one_out_is_climbed_on_a_subset_of_the_asked_size():
    x, y = _noisy_wave()
    selection = select(x, y, **ONE, criterion="leave_one_out", max_points=30, seed=5, starts=1)
    assert selection.points == 30
    subset = np.random.default_rng(5).permutation(40)[:30]
    posterior = selection.gaussian_process().condition(x[subset], y[subset])
    assert selection.value == pytest.approx(float(np.sum(posterior.leave_one_out().log_density)), rel=1e-7)


def test_the_result_depends_on_nothing_but_the_arguments():
    x, y = _noisy_wave(20)
    first, second = (select(x, y, **ONE, seed=3) for _ in range(2))
    assert first.kernel == second.kernel
    assert (first.noise, first.value) == (second.noise, second.value)


def test_when_time_is_up_the_best_so_far_is_returned():
    x, y = _noisy_wave(20)
    readings = itertools.count()
    selection = select(
        x, y, **{**ONE, "kernels": ("nngp", "ntk"), "time_limit": 30.0}, clock=lambda: float(next(readings))
    )
    assert selection.ending == "time limit"
    # This clock advances with every reading, and it is read before every evaluation.
    assert sum(trial.evaluations for trial in selection.history) <= 31
    assert selection.value == max(selection.history, key=lambda trial: trial.score).value


def test_an_interrupt_returns_the_best_so_far():
    x, y = _noisy_wave(20)
    readings = itertools.count()

    def clock():
        if next(readings) == 20:
            raise KeyboardInterrupt
        return 0.0

    selection = select(x, y, **{**ONE, "time_limit": 1.0}, clock=clock)
    assert selection.ending == "interrupted"
    assert selection.history[-1].ending == "interrupted"
    assert math.isfinite(selection.value)


def test_an_interrupt_before_anything_was_found_is_passed_on():
    x, y = _noisy_wave(20)
    readings = itertools.count()

    def clock():
        if next(readings) == 3:
            raise KeyboardInterrupt
        return 0.0

    with pytest.raises(KeyboardInterrupt):
        select(x, y, **{**ONE, "time_limit": 1.0}, clock=clock)


def test_progress_is_shown_on_the_standard_error_on_request(capsys):
    x, y = _noisy_wave(20)
    select(x, y, **ONE, starts=1, progress=True)
    captured = capsys.readouterr()
    assert "Selecting" in captured.err
    assert captured.out == ""
    select(x, y, **ONE, starts=1, progress=False)
    assert capsys.readouterr().err == ""


def test_data_beyond_the_range_of_numbers_fail_with_advice():
    x, y = _noisy_wave(10)
    with pytest.raises(NotPositiveDefiniteError, match=r"got none in 2 climbs. Standardise x and y"):
        select(x * np.array([[1e200, 1.0]]), y, **ONE)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": ()}, "depths as a sequence with at least one entry"),
        ({"activations": ("relu", "tanhh")}, "got 'tanhh'"),
        ({"starts": 0}, "at least one start, got 0"),
        ({"max_points": 1}, "max_points of at least 2, got 1"),
        ({"time_limit": 0.0}, "time_limit above 0 seconds, got 0.0"),
    ],
)
def test_bad_arguments_are_named(changes, message):
    x, y = _noisy_wave(10)
    with pytest.raises(ValueError, match=message):
        select(x, y, **{**ONE, **changes})


def test_one_point_is_not_enough():
    with pytest.raises(ValueError, match="at least two points, got 1"):
        select(np.ones((1, 2)), np.ones((1, 1)), **ONE)


def test_depth_zero_is_tried_once_whatever_the_activations_and_kernels():
    x, y = _noisy_wave(20)
    selection = select(x, y, depths=(0,), activations=("relu", "erf"), starts=1, time_limit=math.inf)
    assert {trial.candidate for trial in selection.history} == {selection.candidate}
    assert selection.network == Serial(
        Dense(1, selection.network.layers[0].w_std, selection.network.layers[0].b_std)
    )
