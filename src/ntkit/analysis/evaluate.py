"""Score every method on the test rows: the three distributions of the wide network, and the baselines."""

from collections.abc import Callable, Iterator

import numpy as np

from ntkit.analysis.baselines import BaselineResult, classification_baselines, regression_baselines
from ntkit.analysis.metrics import (
    Calibration,
    Scores,
    class_calibration,
    classification_scores,
    interval_calibration,
    regression_scores,
)
from ntkit.analysis.prepare import Prepared
from ntkit.analysis.results import ScoreRow
from ntkit.model.predictions import Predictions


def score(data: Prepared, predictions: Predictions) -> Scores:
    """The scores of the model's predictions of the test rows."""
    if predictions.probabilities is not None:
        return classification_scores(data.test_codes, predictions.probabilities)
    return regression_scores(
        truth_in_units(data)[:, 0], predictions.mean[:, 0], predictions.std, predictions.level
    )


def calibrate(data: Prepared, predictions: Predictions) -> Calibration:
    """The calibration of the model's predictions of the test rows."""
    if predictions.probabilities is not None:
        return class_calibration(data.test_codes, predictions.probabilities)
    return interval_calibration(truth_in_units(data)[:, 0], predictions.mean[:, 0], predictions.std)


def truth_in_units(data: Prepared) -> np.ndarray:
    """The test targets in the table's units; one-hot for classes."""
    return data.y_test * data.encoder.target_scale + data.encoder.target_means[None, :]


def baseline_rows(
    data: Prepared, seed: int, level: float, announce: Callable[[str], None]
) -> Iterator[ScoreRow]:
    """Fit and score the baselines; `announce` hears the name of each one that is done."""
    for result in _baselines(data, seed):
        announce(result.name)
        yield ScoreRow(result.name, "baseline", "", _baseline_scores(data, result, level), result.seconds)


def sort_rows(rows: list[ScoreRow]) -> tuple[ScoreRow, ...]:
    """Best first: by root mean squared error, or by accuracy and then log loss."""

    def rank(row: ScoreRow) -> tuple[float, ...]:
        scores = row.scores
        if scores.rmse is not None:
            return (scores.rmse,)
        return (-(scores.accuracy or 0.0), scores.log_loss or 0.0)

    return tuple(sorted(rows, key=rank))


def _baselines(data: Prepared, seed: int) -> Iterator[BaselineResult]:
    # Images become their pixels side by side.
    x, x_test = data.x.reshape(len(data.x), -1), data.x_test.reshape(len(data.x_test), -1)
    if data.encoder.target.task == "regression":
        return regression_baselines(x, data.y[:, 0], x_test, seed)
    return classification_baselines(x, data.codes, data.y.shape[1], x_test, seed)


def _baseline_scores(data: Prepared, result: BaselineResult, level: float) -> Scores:
    if result.probabilities is not None:
        return classification_scores(data.test_codes, result.probabilities)
    if result.mean is None or result.std is None:
        raise ValueError(f"A baseline needs a mean and a standard deviation, got none from {result.name}.")
    scale, centre = data.encoder.target_scale, float(data.encoder.target_means[0])
    return regression_scores(
        truth_in_units(data)[:, 0], result.mean * scale + centre, result.std * scale, level
    )
