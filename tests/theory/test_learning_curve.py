"""Learning curves: exact cases, conservation laws, brute-force averages, and real kernel regression."""

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from tests.theory.harmonics import random_on_sphere

from ntkit import NTK, RBF, nn
from ntkit.theory import (
    eigensystem,
    learning_curve,
    learning_curve_on,
    measured,
    measured_learning_curve,
    sphere_spectrum,
)

DECAY = np.arange(1.0, 61.0) ** -1.5
POWER = np.arange(1.0, 61.0) ** -1.0
NETWORK = nn.Serial(nn.Dense(8, w_std=1.2, b_std=0.3), nn.Relu(), nn.Dense(1, w_std=2**0.5))

spectra = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=12).map(np.array)


@pytest.mark.parametrize("samples", [1, 7, 39, 41, 100])
def test_a_white_spectrum_is_linear_regression(samples):
    # p = 40 equal directions: the bias (1 - n/p) v² and variance noise n/(p - n) below p, noise p/(n - p) above.
    p, noise, power = 40, 0.3, 2.0
    curve = learning_curve(np.full(p, 0.7), np.full(p, power / p), samples, noise=noise)
    below = samples < p
    bias = (1 - samples / p) * power if below else 0.0
    variance = noise * samples / (p - samples) if below else noise * p / (samples - p)
    assert curve.test_error[0] == pytest.approx(bias + variance, rel=1e-12)
    assert curve.threshold[0] == pytest.approx(0.7 * (p / samples - 1) if below else 0.0, rel=1e-12)
    # Least squares leaves the residual variance noise (n - p) / n.
    expected = 0.0 if below else noise * (samples - p) / samples
    assert curve.train_error[0] == pytest.approx(expected, rel=1e-12, abs=1e-15)


@given(spectra, st.integers(1, 30), st.sampled_from([0.0, 1e-9, 1e-2, 1e4]))
def test_learnabilities_share_out_the_samples(values, samples, ridge):
    # Simon et al. (2023), theorem 3.1: Σ L + ridge/κ = n; with no ridge and fewer modes than samples all are learnt.
    curve = learning_curve(values, np.ones(len(values)), samples, ridge)
    total = curve.learnability.sum()
    if ridge == 0.0 and samples >= len(values):
        assert total == len(values)
    else:
        spent = ridge / curve.threshold[0] if ridge else 0.0
        assert total + spent == pytest.approx(samples, rel=1e-10)
    assert np.isfinite(curve.threshold).all() and (curve.learnability <= 1.0).all()


@pytest.mark.parametrize("ridge", [0.0, 0.37])
def test_the_threshold_solves_its_equation_to_rounding(ridge):
    with mpmath.workdps(40):

        def excess(kappa):
            return (
                sum(mpmath.mpf(v) / (mpmath.mpf(v) + kappa) for v in DECAY) + mpmath.mpf(ridge) / kappa - 25
            )

        exact = mpmath.findroot(
            excess, (mpmath.mpf("0.001"), mpmath.mpf("0.5")), solver="anderson", tol=1e-30
        )
    assert learning_curve(DECAY, POWER, 25, ridge).threshold[0] == pytest.approx(float(exact), rel=1e-13)


def test_a_multiplicity_is_an_eigenvalue_repeated():
    values, counts, powers = np.array([3.0, 0.5, 0.01]), np.array([1.0, 4.0, 90.0]), np.array([1.0, 2.0, 0.5])
    together = learning_curve(values, powers, [3, 40], 0.1, 0.2, counts)
    repeats = counts.astype(int)
    apart = learning_curve(np.repeat(values, repeats), np.repeat(powers / counts, repeats), [3, 40], 0.1, 0.2)
    np.testing.assert_allclose(together.test_error, apart.test_error, rtol=1e-12)
    np.testing.assert_allclose(together.train_error, apart.train_error, rtol=1e-12)
    np.testing.assert_allclose(together.overfitting, apart.overfitting, rtol=1e-12)
    np.testing.assert_allclose(together.mode_errors[:, 1], apart.mode_errors[:, 1:5].sum(axis=1), rtol=1e-12)


def test_scaling_the_kernel_and_the_ridge_changes_no_error():
    one = learning_curve(DECAY, POWER, [5, 50], 0.1, 0.2)
    other = learning_curve(1e5 * DECAY, POWER, [5, 50], 1e4, 0.2)
    np.testing.assert_allclose(one.test_error, other.test_error, rtol=1e-11)


@pytest.mark.parametrize(("ridge", "noise"), [(0.0, 0.0), (0.0, 0.1), (0.5, 0.1)])
def test_averages_over_gaussian_features_agree(ridge, noise):
    # Ridge regression on x ~ N(0, diag(λ)): the error on fresh points is Σ λ (w - ŵ)², no test set needed. Bound: 4
    # standard errors of 60 repetitions, plus 1.5 % for what the theory neglects, of order 1/n = 1/60 at most.
    modes, n = 400, 60
    values = np.arange(1.0, modes + 1) ** -1.2
    powers = np.arange(1.0, modes + 1) ** -1.3
    curve = learning_curve(values, powers, n, ridge, noise)
    generator, errors, residuals = np.random.default_rng(0), [], []
    for _ in range(60):
        features = generator.normal(size=(n, modes)) * np.sqrt(values)[None, :]
        weights = np.sqrt(powers / values) * generator.choice([-1.0, 1.0], size=modes)
        y = features @ weights + np.sqrt(noise) * generator.normal(size=n)
        gram = features @ features.T
        dual = np.linalg.solve(gram + ridge * np.eye(n), y)
        errors.append((values * (weights - features.T @ dual) ** 2).sum())
        residuals.append(np.mean((gram @ dual - y) ** 2))
    for theory, found in ((curve.test_error[0], errors), (curve.train_error[0], residuals)):
        allowed = 4 * np.std(found, ddof=1) / len(found) ** 0.5 + 0.015 * theory
        assert abs(theory - np.mean(found)) <= allowed + 1e-20


def test_the_errors_of_the_modes_and_the_noise_add_up():
    curve = learning_curve(DECAY, POWER, [5, 20], 0.1, 0.2)
    noise_part = (curve.overfitting - 1.0) * 0.2
    np.testing.assert_allclose(curve.mode_errors.sum(axis=1) + noise_part, curve.test_error, rtol=1e-13)
    # The training error is (ridge / n κ)² of the error on noisy labels.
    ratio = (0.1 / (np.array([5, 20]) * curve.threshold)) ** 2
    np.testing.assert_allclose(curve.train_error, ratio * (curve.test_error + 0.2), rtol=1e-12)


def test_the_interpolation_threshold_is_infinite_for_noise_and_harmless_without():
    white = np.ones(10)
    assert learning_curve(white, white, 10, noise=0.1).test_error[0] == np.inf
    assert learning_curve(white, white, 10).test_error[0] == 0.0


def test_what_the_kernel_cannot_express_acts_as_noise():
    values, powers = np.array([1.0, 1.0, 0.0]), np.array([0.5, 0.5, 0.2])
    curve = learning_curve(values, powers, 6)
    noisy = learning_curve(values[:2], powers[:2], 6, noise=0.2)
    assert curve.test_error[0] == pytest.approx(noisy.test_error[0] + 0.2, rel=1e-12)


def test_many_samples_learn_everything_and_one_almost_nothing():
    curve = learning_curve(DECAY, POWER, [1, 10, 1000, 100_000], ridge=1e-3)
    assert (np.diff(curve.test_error) < 0).all()
    assert curve.test_error[-1] < 1e-6 * POWER.sum()
    assert curve.test_error[0] < 1.3 * POWER.sum()


def test_a_pool_is_its_own_distribution():
    x = np.random.default_rng(0).normal(size=(50, 3))
    y = np.sin(x[:, :2])
    system = eigensystem(NTK(NETWORK), x)
    curve = learning_curve_on(NTK(NETWORK), x, y, [10, 30], ridge=0.1)
    powers = (system.coefficients(y) ** 2).mean(axis=1)
    direct = learning_curve(system.eigenvalues, powers, [10, 30], 0.1)
    np.testing.assert_allclose(curve.test_error, direct.test_error, rtol=1e-12)
    # The mean over the pool is made of the points drawn and of the others.
    sizes = np.array([10, 30])
    whole = (sizes * curve.train_error + (50 - sizes) * curve.held_out_error) / 50
    np.testing.assert_allclose(whole, curve.test_error, rtol=1e-12)
    np.testing.assert_array_equal(direct.held_out_error, direct.test_error)


def test_the_prediction_holds_on_real_digits():
    # Seen for larger pools: within 6 % for n <= a fifth of the pool. Twelve subsets leave 2 to 3 % to chance.
    digits = load_digits()
    x = (digits.data[:500] - digits.data.mean(axis=0)[None, :]) / 8.0
    y = np.eye(10)[digits.target[:500]] - 0.1
    samples = [25, 50, 100]
    predicted = learning_curve_on(NTK(NETWORK), x, y, samples, ridge=0.5)
    seen = measured_learning_curve(NTK(NETWORK), x, y, samples, ridge=0.5, repeats=12)
    np.testing.assert_allclose(predicted.held_out_error, seen.mean, rtol=0.08)
    np.testing.assert_allclose(predicted.train_error, seen.train_errors.mean(axis=0), rtol=0.08)


def test_the_prediction_holds_for_a_teacher_made_of_harmonics():
    # A linear and a quadratic harmonic on the sphere in R^6; the spectrum is exact, the test points are fresh. The
    # theory's own error is of order 1/n on top of 3 standard errors.
    dimension, generator = 6, np.random.default_rng(1)
    kernel = NTK(NETWORK)
    spectrum = sphere_spectrum(kernel, dimension, 12, 6**0.5)
    powers = np.zeros(13)
    powers[1], powers[2] = 1.0, 1.0
    # Mean squares: x_1² has mean 1/d; x_2 x_3 has mean 1 / (d (d + 2)).
    scale = np.sqrt([dimension, dimension * (dimension + 2)])

    def teacher(x):
        return (scale[0] * x[:, 0] + scale[1] * x[:, 1] * x[:, 2])[:, None]

    x = random_on_sphere(generator, 1500, dimension)
    samples = [20, 60, 180]
    curve = learning_curve(
        spectrum.eigenvalues, powers, samples, ridge=spectrum.tail, multiplicity=spectrum.multiplicities
    )
    seen = measured_learning_curve(kernel, 6**0.5 * x, teacher(x), samples, repeats=8)
    allowed = 3 * seen.standard_error + 0.08 * curve.test_error
    assert (np.abs(curve.test_error - seen.mean) <= allowed).all()
    assert curve.test_error[-1] < 0.2 * curve.test_error[0]


def test_measuring_is_kernel_regression_on_the_subset_drawn():
    x = np.random.default_rng(0).normal(size=(20, 2))
    y = np.sin(x[:, :1])
    seen = measured_learning_curve(RBF(), x, y, [5, 10], ridge=0.1, repeats=3, seed=4)
    inside = np.random.default_rng(4).permutation(20)
    train, test = inside[:10], inside[10:]
    kernel = RBF()
    dual = np.linalg.solve(kernel(x[train]) + 0.1 * np.eye(10), y[train])
    assert seen.test_errors[0, 1] == pytest.approx(np.mean((kernel(x[test], x[train]) @ dual - y[test]) ** 2))
    assert seen.train_errors[0, 1] == pytest.approx(np.mean((kernel(x[train]) @ dual - y[train]) ** 2))
    assert seen.standard_error[1] == pytest.approx(np.std(seen.test_errors[:, 1], ddof=1) / 3**0.5)
    np.testing.assert_array_equal(
        seen.test_errors,
        measured_learning_curve(RBF(), x, y, [5, 10], ridge=0.1, repeats=3, seed=4).test_errors,
    )


def test_duplicates_without_a_ridge_are_regressed_by_least_norm():
    x = np.repeat(np.random.default_rng(0).normal(size=(10, 2)), 2, axis=0)
    seen = measured_learning_curve(RBF(), x, x[:, :1], [15], repeats=2)
    assert np.isfinite(seen.test_errors).all()
    assert seen.train_errors.max() < 1e-8


def interrupted_after(count):
    def tracked(items, total, description):
        for number, item in enumerate(items):
            if number == count:
                raise KeyboardInterrupt
            yield item

    return tracked


def test_an_interrupt_keeps_the_finished_repetitions(monkeypatch):
    x = np.random.default_rng(0).normal(size=(20, 2))
    whole = measured_learning_curve(RBF(), x, x[:, :1], [5], ridge=0.1, repeats=5)
    monkeypatch.setattr(measured, "tracked", interrupted_after(3))
    part = measured_learning_curve(RBF(), x, x[:, :1], [5], ridge=0.1, repeats=5)
    assert part.interrupted and not whole.interrupted
    np.testing.assert_array_equal(part.test_errors, whole.test_errors[:3])
    monkeypatch.setattr(measured, "tracked", interrupted_after(1))
    with pytest.raises(KeyboardInterrupt):
        measured_learning_curve(RBF(), x, x[:, :1], [5], ridge=0.1, repeats=5)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"samples": 0}, "whole numbers of samples of at least 1, got 0"),
        ({"samples": 2.5}, "whole numbers of samples of at least 1, got 2.5"),
        ({"samples": []}, "a number or a list of them"),
        ({"ridge": -1.0}, "finite ridge of at least 0, got -1"),
        ({"noise": np.inf}, "finite noise of at least 0, got inf"),
        ({"eigenvalues": np.array([1.0, -1.0])}, "eigenvalues of at least 0, got -1"),
        ({"eigenvalues": np.zeros(2)}, "a positive eigenvalue"),
        (
            {"squared_coefficients": np.ones(3)},
            "one squared coefficient .* got 2 eigenvalues, 3 coefficients",
        ),
        ({"squared_coefficients": np.array([1.0, np.nan])}, "finite values"),
    ],
)
def test_bad_arguments_are_named(arguments, match):
    good = {"eigenvalues": np.ones(2), "squared_coefficients": np.ones(2), "samples": 3}
    with pytest.raises(ValueError, match=match):
        learning_curve(**(good | arguments))


def test_a_pool_leaves_points_to_test_on():
    x = np.eye(4)
    with pytest.raises(ValueError, match="at most 3 samples, to leave a point for testing, got 4"):
        learning_curve_on(RBF(), x, x[:, :1], [4])
    with pytest.raises(ValueError, match="at least 2 repeats"):
        measured_learning_curve(RBF(), x, x[:, :1], [2], repeats=1)
    with pytest.raises(ValueError, match="measured_learning_curve needs a finite ridge"):
        measured_learning_curve(RBF(), x, x[:, :1], [2], ridge=-1.0)
