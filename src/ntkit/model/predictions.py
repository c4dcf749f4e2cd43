"""Predictions in the table's own units: means with intervals, or class probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float, Int
from scipy.stats import norm


@dataclass(frozen=True)
class Predictions:
    """What a model says about the rows of a table.

    Attributes:
        distribution: Which distribution the numbers come from, in words.
        mean: Expected target; for classes the expected score of each (one-hot scale). Shape (m, k).
        std: Standard deviation of a new observation: the function's spread and the observation noise. Shape (m,).
        function_std: Standard deviation of the function alone. Shape (m,).
        level: Probability that the interval should hold the target, such as 0.95.
        classes: The classes, or () for regression.
        probabilities: Class probabilities, shape (m, k), or None for regression.
    """

    distribution: str
    mean: Float[np.ndarray, "m k"]
    std: Float[np.ndarray, " m"]
    function_std: Float[np.ndarray, " m"]
    level: float
    classes: tuple[str, ...] = ()
    probabilities: Float[np.ndarray, "m k"] | None = None

    @property
    def interval(self) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
        """Lower and upper end of the central interval of a new observation of the (first) output."""
        half = norm.ppf(0.5 + 0.5 * self.level) * self.std
        return self.mean[:, 0] - half, self.mean[:, 0] + half

    @property
    def codes(self) -> Int[np.ndarray, " m"]:
        """The number of the most probable class."""
        scores = self.mean if self.probabilities is None else self.probabilities
        return np.argmax(scores, axis=1)

    def to_frame(
        self, rows: Sequence[int], target: str, truth: pl.Series | None = None, names: Sequence[str] = ()
    ) -> pl.DataFrame:
        """One row per prediction: `row`, the `image` where rows have `names`, the known target, and the prediction.

        Regression has `mean`, `std`, `lower`, `upper` (of a new observation) and `function_std`;
        classification has `prediction` and `probability_of_CLASS` for every class, `std` and
        `function_std` of the scores.
        """
        columns: dict[str, object] = {"row": np.asarray(rows, dtype=np.int64)}
        if names:
            columns["image"] = list(names)
        if truth is not None:
            columns[f"target_{target}"] = truth
        if self.probabilities is None:
            lower, upper = self.interval
            columns |= {"mean": self.mean[:, 0], "std": self.std, "lower": lower, "upper": upper}
        else:
            columns["prediction"] = [self.classes[code] for code in self.codes]
            columns |= {
                f"probability_of_{name}": self.probabilities[:, code]
                for code, name in enumerate(self.classes)
            }
            columns["std"] = self.std
        columns["function_std"] = self.function_std
        return pl.DataFrame(columns)
