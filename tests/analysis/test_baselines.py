"""Baselines predict, with sensible uncertainties, whatever the shape of the table."""

import numpy as np
import pytest

from ntkit.analysis.baselines import classification_baselines, regression_baselines


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(140, 2))
    return x, x @ np.array([1.0, -1.0]) + 0.1 * rng.normal(size=140)


def test_every_regression_baseline_but_the_mean_learns_a_plane(data):
    x, y = data
    results = {result.name: result for result in regression_baselines(x[:100], y[:100], x[100:], 0)}
    assert list(results) == [
        "mean of the training targets",
        "ridge regression",
        "random forest",
        "RBF support vector machine",
        "RBF Gaussian process",
        "ARD Matérn Gaussian process",
    ]
    for name, result in results.items():
        error = np.sqrt(np.mean((result.mean - y[100:]) ** 2))
        assert error < (0.75 if "mean" not in name else 2.0)
        assert result.std.shape == (40,)
        # A standard deviation of about the size of the errors; small samples allow a factor of three.
        assert error / 3.0 < np.mean(result.std) < error * 3.0, name


def test_every_classification_baseline_but_the_frequencies_learns_a_plane(data):
    x, y = data
    codes = (y > 0).astype(np.int64)
    results = list(classification_baselines(x[:100], codes[:100], 2, x[100:], 0))
    assert len(results) == 6
    for result in results:
        np.testing.assert_allclose(result.probabilities.sum(axis=1), 1.0, atol=1e-9)
        accuracy = np.mean(result.probabilities.argmax(axis=1) == codes[100:])
        assert accuracy > (0.85 if result.name != "class frequencies" else 0.2)


def test_rare_and_absent_classes_are_no_obstacle(data):
    x, _ = data
    codes = np.zeros(40, dtype=np.int64)
    codes[:3], codes[3:20] = 3, 1
    results = list(classification_baselines(x[:40], codes, 4, x[40:], 0))
    assert "RBF support vector machine" not in [result.name for result in results]
    for result in results:
        assert result.probabilities.shape == (100, 4)
        np.testing.assert_array_equal(result.probabilities[:, 2], 0.0)
