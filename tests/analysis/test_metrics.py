"""Scores against hand-computed values and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss, mean_absolute_error, r2_score, root_mean_squared_error

from ntkit.analysis.metrics import (
    class_calibration,
    classification_scores,
    interval_calibration,
    regression_scores,
)


def test_regression_scores_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    y, mean = rng.normal(size=40), rng.normal(size=40)
    scores = regression_scores(y, mean, np.ones(40), 0.95)
    assert scores.rmse == pytest.approx(root_mean_squared_error(y, mean), rel=1e-14)
    assert scores.mae == pytest.approx(mean_absolute_error(y, mean), rel=1e-14)
    assert scores.r2 == pytest.approx(r2_score(y, mean), rel=1e-12)
    assert scores.log_density == pytest.approx(-0.5 * np.log(2 * np.pi) - 0.5 * scores.rmse**2, rel=1e-13)
    assert scores.coverage == np.mean(np.abs(y - mean) < 1.959964)


def test_classification_scores_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), size=50)
    codes = rng.integers(3, size=50)
    scores = classification_scores(codes, probabilities)
    assert scores.accuracy == np.mean(probabilities.argmax(axis=1) == codes)
    assert scores.log_loss == pytest.approx(log_loss(codes, probabilities, labels=[0, 1, 2]), rel=1e-12)
    one_hot = np.eye(3)[codes]
    by_class = [brier_score_loss(one_hot[:, c], probabilities[:, c]) for c in range(3)]
    assert scores.brier == pytest.approx(sum(by_class), rel=1e-12)


def test_one_certain_mistake_leaves_the_log_loss_finite():
    assert classification_scores(np.array([0]), np.array([[0.0, 1.0]])).log_loss == pytest.approx(
        -np.log(1e-15)
    )


def test_true_intervals_are_calibrated():
    rng = np.random.default_rng(0)
    std = rng.uniform(0.5, 2.0, size=20_000)
    curve = interval_calibration(std * rng.normal(size=20_000), np.zeros(20_000), std)
    # 4.5 standard errors of a fraction near one half
    np.testing.assert_allclose(curve.observed, curve.nominal, atol=4.5 * 0.5 / 20_000**0.5)
    narrow = interval_calibration(std * rng.normal(size=20_000), np.zeros(20_000), 0.5 * std)
    assert (narrow.observed < narrow.nominal).all()


def test_reliability_counts_rows_by_confidence():
    probabilities = np.array([[0.95, 0.05], [0.92, 0.08], [0.45, 0.55], [1.0, 0.0]])
    curve = class_calibration(np.array([0, 1, 1, 0]), probabilities)
    assert curve.counts.tolist() == [1, 3]
    np.testing.assert_allclose(curve.nominal, [0.55, (0.95 + 0.92 + 1.0) / 3])
    np.testing.assert_allclose(curve.observed, [1.0, 2 / 3])
