"""What the main job finds out about a table or images: plain values, for the report, the pictures and the files."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from ntkit.analysis.finite_networks import FiniteNetworks
from ntkit.analysis.given_network import GivenNetwork
from ntkit.analysis.metrics import Calibration, Scores
from ntkit.analysis.outlook import Outlook
from ntkit.analysis.settings import Settings
from ntkit.analysis.stopping import Stopping
from ntkit.inference.selection import Selection
from ntkit.model.fitted import Distribution
from ntkit.model.image_model import ImageModel
from ntkit.model.predictions import Predictions
from ntkit.model.table_model import TableModel


@dataclass(frozen=True)
class ColumnSummary:
    """One column: its kind, how many values are missing, and what the others are like, in words."""

    name: str
    kind: str
    missing: int
    content: str


@dataclass(frozen=True)
class DataSummary:
    """The table: rows read, used to train and to test, the columns, and what else the reader should know.

    Of images, each of which is a row, there are no columns, but the `image_shape`: height, width and channels.
    """

    rows: int
    train_rows: int
    test_rows: int
    features: int
    columns: tuple[ColumnSummary, ...]
    target: ColumnSummary
    notes: tuple[str, ...]
    image_shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class ScoreRow:
    """One method's test scores.

    Attributes:
        name: The method.
        source: "ntkit" or "baseline".
        meaning: Which distribution the numbers come from, in words.
        scores: The scores.
        seconds: Time to fit and predict (without the selection of hyper-parameters), None if not measured.
    """

    name: str
    source: Literal["ntkit", "baseline"]
    meaning: str
    scores: Scores
    seconds: float | None = None


@dataclass(frozen=True)
class Learning:
    """The course of training: the infinite ensemble's expected losses, and finite networks'.

    Attributes:
        times: Finite training times, shape (t,).
        train_loss: Expected training loss of a network of the ensemble, shape (t,).
        test_loss: Expected test loss, shape (t,).
        mean_test_loss: Test loss of the ensemble's mean, shape (t,).
        stopping: Cross-validation over time.
        finite: Finite networks, or None.
    """

    times: Float[np.ndarray, " t"]
    train_loss: Float[np.ndarray, " t"]
    test_loss: Float[np.ndarray, " t"]
    mean_test_loss: Float[np.ndarray, " t"]
    stopping: Stopping
    finite: FiniteNetworks | None


@dataclass(frozen=True)
class SpectrumSummary:
    """Eigenvalues of the kernels' Gram matrices on the training points, divided by their number n.

    Attributes:
        ntk: Eigenvalues of NTK / n, decreasing, shape (n,).
        nngp: Eigenvalues of NNGP / n, decreasing; None for tables too large to afford them.
        timescales: Learning time 1 / eigenvalue of each NTK direction, shape (n,).
        projections: Share of the targets' squared length along each NTK direction, shape (n,), sums to 1.
        rank: NTK directions that can be learnt.
    """

    ntk: Float[np.ndarray, " n"]
    nngp: Float[np.ndarray, " n"] | None
    timescales: Float[np.ndarray, " n"]
    projections: Float[np.ndarray, " n"]
    rank: int


@dataclass(frozen=True)
class Analysis:
    """Everything about one table, or one set of images, each of which counts as a row.

    Attributes:
        model: The model, ready to be saved.
        settings: The choices made.
        data: What the table holds.
        selection: How the network was chosen.
        scores: Test scores of all methods, best first.
        predictions: Test predictions by distribution.
        calibration: Calibration by distribution.
        learning: The course of training.
        spectrum: The kernels' spectra.
        outlook: What the spectrum predicts.
        test_rows: Row numbers of the test rows in their table, from 0.
        test_truth: The target of the test rows, as in the table.
        test_targets: The target in units of the table, shape (m, 1); one-hot for classes, shape (m, k).
        seconds: Wall time of each stage, in order.
        test_names: The files of the test images; () for tables, and for images that came in an array.
    """

    model: TableModel | ImageModel
    settings: Settings
    data: DataSummary
    selection: Selection | GivenNetwork
    scores: tuple[ScoreRow, ...]
    predictions: Mapping[Distribution, Predictions]
    calibration: Mapping[Distribution, Calibration]
    learning: Learning
    spectrum: SpectrumSummary
    outlook: Outlook
    test_rows: Int[np.ndarray, " m"]
    test_truth: pl.Series
    test_targets: Float[np.ndarray, "m k"]
    seconds: Mapping[str, float]
    test_names: tuple[str, ...] = ()

    @property
    def of_images(self) -> bool:
        """Whether the rows are images."""
        return isinstance(self.model, ImageModel)

    @property
    def task(self) -> str:
        """The task, "regression" or "classification"."""
        return self.model.encoder.target.task

    def predictions_frame(self) -> pl.DataFrame:
        """The test predictions of the model's own distribution, one row each."""
        target = self.model.encoder.target.name
        chosen = self.predictions[self.model.distribution]
        return chosen.to_frame(self.test_rows.tolist(), target, self.test_truth, self.test_names)
