"""The learning curve that a kernel's spectrum predicts for a table, beside the one that is measured on it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float

from ntkit.analysis.threads import suited_to
from ntkit.errors import TableError
from ntkit.kernels.base import Kernel
from ntkit.theory.learning_curve import learning_curve_on
from ntkit.theory.measured import measured_learning_curve

FEWEST_SAMPLES = 5
SIZES = 7
LARGEST_SHARE = 0.25
"""By default subsets have at most this share of the rows: the rows' spectrum stands for that of their source only as
long as the subsets are small beside them."""


@dataclass(frozen=True)
class CurveComparison:
    """Test errors of kernel regression on random subsets of some rows, tested on the rows outside.

    Errors are mean squared errors over rows and outputs, in encoded units.

    Attributes:
        samples: sizes of the subsets, shape (s,).
        predicted: expected error, from eigenvalues and targets alone, shape (s,).
        measured: mean error over random subsets, shape (s,).
        standard_error: of `measured`, shape (s,).
        ridge: of `K + ridge I`.
        repeats: subsets of each size.
        interrupted: whether Ctrl-C ended the repetitions early.
    """

    samples: Float[np.ndarray, " s"]
    predicted: Float[np.ndarray, " s"]
    measured: Float[np.ndarray, " s"]
    standard_error: Float[np.ndarray, " s"]
    ridge: float
    repeats: int
    interrupted: bool

    @property
    def deviations(self) -> Float[np.ndarray, " s"]:
        """`predicted / measured − 1`, shape (s,)."""
        return self.predicted / np.maximum(self.measured, np.finfo(np.float64).tiny) - 1.0

    @property
    def worst(self) -> int:
        """The number of the size with the largest relative deviation."""
        return int(np.argmax(np.abs(self.deviations)))

    def to_frame(self) -> pl.DataFrame:
        """One row per size."""
        return pl.DataFrame(
            {
                "samples": self.samples.astype(np.int64),
                "predicted_error": self.predicted,
                "measured_error": self.measured,
                "standard_error": self.standard_error,
            }
        )


def compare_learning_curves(
    kernel: Kernel,
    x: Float[np.ndarray, "n d"],
    y: Float[np.ndarray, "n k"],
    *,
    ridge: float | int,
    repeats: int,
    seed: int,
    samples: Sequence[int] | None = None,
) -> CurveComparison:
    """Predict and measure the learning curve of kernel ridge regression on random subsets of labelled rows.

    Args:
        kernel: the kernel.
        x: encoded rows.
        y: encoded targets.
        ridge: of the summed squared loss.
        repeats: random subsets of each size.
        seed: of the subsets.
        samples: sizes of the subsets; None for logarithmic sizes up to a quarter of the rows.

    Raises:
        TableError: for sizes that the rows do not allow.

    >>> from ntkit import RBF
    >>> x = np.linspace(-2.0, 2.0, 200)[:, None]
    >>> found = compare_learning_curves(RBF(), x, np.sin(4.0 * x), ridge=0.1, repeats=10, seed=0, samples=[8, 32])
    >>> bool(abs(found.deviations).max() < 0.3)
    True
    """
    sizes = default_samples(len(x)) if samples is None else np.unique(np.asarray(samples, dtype=np.int64))
    if sizes[0] < 1 or sizes[-1] >= len(x):
        wrong = sizes[0] if sizes[0] < 1 else sizes[-1]
        raise TableError(
            f"A learning curve on {len(x)} rows needs subsets (--samples) of 1 to {len(x) - 1} rows, so that some are "
            f"left for testing, got {wrong}."
        )
    with suited_to(len(x)):
        predicted = learning_curve_on(kernel, x, y, sizes, ridge)
        measured = measured_learning_curve(kernel, x, y, sizes, ridge=ridge, repeats=repeats, seed=seed)
    return CurveComparison(
        samples=measured.samples,
        predicted=predicted.held_out_error,
        measured=measured.mean,
        standard_error=measured.standard_error,
        ridge=float(ridge),
        repeats=len(measured.test_errors),
        interrupted=measured.interrupted,
    )


def default_samples(rows: int) -> np.ndarray:
    """Logarithmic sizes from a handful to a quarter of the rows.

    >>> default_samples(100).tolist()
    [5, 7, 9, 11, 15, 19, 25]
    """
    largest = max(int(LARGEST_SHARE * rows), 2)
    return np.unique(np.geomspace(min(FEWEST_SAMPLES, largest), largest, SIZES).round().astype(np.int64))
