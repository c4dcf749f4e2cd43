"""The cross-validated stopping time against brute force over folds."""

import numpy as np
import pytest
from scipy.linalg import expm

from ntkit.dynamics.squared_loss import loss_weight
from ntkit.dynamics.stopping import best_stopping_time
from ntkit.kernels import RBF

FOLDS, SEED = 4, 3


def _noisy_sine(points=22, outputs=2):
    rng = np.random.default_rng(0)
    x = rng.uniform(0.0, 6.0, size=(points, 1))
    return x, np.sin(x + np.arange(outputs)[None, :]) + 0.5 * rng.normal(size=(points, outputs))


@pytest.mark.parametrize("reduction", ["sum", "mean", "mean_points"])
def test_the_loss_curve_is_that_of_retraining_on_every_fold(reduction):
    x, y = _noisy_sine()
    rate = 0.7
    stopping = best_stopping_time(
        RBF(),
        x,
        y,
        folds=FOLDS,
        seed=SEED,
        times=np.array([0.0, 0.5, 3.0]),
        learning_rate=rate,
        reduction=reduction,
    )
    expected = np.zeros(3)
    effective = rate * loss_weight("test", reduction, 22, 2)
    for fold in np.array_split(np.random.default_rng(SEED).permutation(22), FOLDS):
        others = np.setdiff1d(np.arange(22), fold)
        gram, cross = RBF()(x[others]), RBF()(x[fold], x[others])
        for i, t in enumerate((0.0, 0.5, 3.0)):
            # The flow of the weights alpha of f = K alpha: alpha' = rate (y - K alpha), by an augmented matrix
            # exponential, so neither an inverse nor the library's eigendecomposition is involved.
            system = np.block([[-gram, y[others]], [np.zeros((2, len(others) + 2))]]) * effective * t
            weights = expm(system)[: len(others), len(others) :]
            expected[i] += np.sum((cross @ weights - y[fold]) ** 2) / y.size
    # Both sides round at about n eps times the entries' size; expm adds its own 1e-13.
    np.testing.assert_allclose(stopping.losses, expected, rtol=1e-10)
    assert stopping.time == (0.0, 0.5, 3.0)[int(np.argmin(expected))]


def test_at_time_zero_the_loss_is_that_of_predicting_zero():
    x, y = _noisy_sine()
    stopping = best_stopping_time(RBF(), x, y, times=np.array([0.0]))
    assert stopping.time == 0.0
    assert stopping.losses[0] == pytest.approx(np.mean(y**2), rel=1e-14)


def test_fold_losses_average_to_the_loss_when_folds_are_equal():
    x, y = _noisy_sine(points=20)
    stopping = best_stopping_time(RBF(), x, y, folds=5)
    assert stopping.fold_losses.shape == (5, len(stopping.times))
    np.testing.assert_allclose(stopping.fold_losses.mean(axis=0), stopping.losses, rtol=1e-13)


def test_the_default_grid_is_increasing_and_ends_at_infinity():
    x, y = _noisy_sine()
    times = best_stopping_time(RBF(), x, y).times
    assert (np.diff(times) > 0).all()
    assert np.isinf(times[-1])


def test_noisy_data_stop_early_and_clean_data_do_not():
    x, y = _noisy_sine()
    noisy = best_stopping_time(RBF(), x, y)
    assert noisy.time < np.inf
    assert noisy.losses.min() < noisy.losses[-1]
    clean = best_stopping_time(RBF(), x, np.sin(x))
    # Interpolating an analytic function only improves with training.
    assert clean.time > noisy.time
    assert clean.losses.min() < 1e-3


@pytest.mark.parametrize("folds", [1, 23])
def test_an_impossible_number_of_folds_is_refused(folds):
    x, y = _noisy_sine()
    with pytest.raises(ValueError, match=f"between 2 and 22 folds .*got {folds}"):
        best_stopping_time(RBF(), x, y, folds=folds)
