"""The course of training on a table with a network of one's choice: losses over time, their bound, when to stop."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import optax
import polars as pl
from jaxtyping import Float

from ntkit.analysis.prepare import Prepared
from ntkit.analysis.spectral import in_table_rows
from ntkit.analysis.threads import suited_to
from ntkit.dynamics import GradientFlow, LossFlow, StoppingTime, best_stopping_time, gradient_flow
from ntkit.dynamics.losses import Loss
from ntkit.dynamics.squared_loss import Reduction
from ntkit.errors import DivergenceError, TableError
from ntkit.kernels import NTK
from ntkit.nn.base import Layer
from ntkit.theory.certificate import Certificate, convergence_certificate

LossName = Literal["squared", "huber", "cross-entropy", "logistic"]

CURVATURE: dict[LossName, float] = {"squared": 1.0, "huber": 1.0, "cross-entropy": 0.5, "logistic": 0.25}
"""The largest second derivative of each loss in the outputs of a point."""

LONGEST_SPAN = {"squared": 1e9, "other": 1e5}
"""By default the last time is at most this multiple of the first: closed forms cost nothing, integration does."""


@dataclass(frozen=True)
class CourseSettings:
    """How to train.

    Attributes:
        loss: "squared" is `½ |f - y|²`; "huber" its Huber loss; "cross-entropy" of a softmax over classes;
            "logistic" for two classes and one output.
        reduction: of the summed loss: "sum", "mean" (over points and outputs) or "mean_points".
        learning_rate: η; None for 1 without asking whether steps of that size would converge.
        ridge: weight decay toward the initialisation.
        friction: of heavy-ball motion; None for gradient flow.
        times: how many positive times, logarithmically spaced.
        last_time: the last of them; None for ten times the longest time scale, within bounds.
        tolerance: relative error of an integration step; not used on the squared loss.
    """

    loss: LossName = "squared"
    reduction: Reduction = "mean_points"
    learning_rate: float | int | None = None
    ridge: float | int = 0.0
    friction: float | int | None = None
    times: int = 60
    last_time: float | int | None = None
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        if self.times < 2:
            raise TableError(f"The course of training needs at least 2 times (--times), got {self.times}.")
        if self.last_time is not None and not (np.isfinite(self.last_time) and self.last_time > 0):
            raise TableError(
                f"The course of training needs a positive, finite last time (--last-time), got {self.last_time}."
            )


@dataclass(frozen=True)
class Course:
    """Losses over training time, from outputs of zero, the mean over random initialisations.

    Attributes:
        loss: the loss's name.
        times: 0, then logarithmically spaced, shape (t,).
        train_loss: reduced over the training rows, shape (t,).
        test_loss: reduced over the test rows, shape (t,).
        loss_rate: `dC/dt` of the training loss, shape (t,).
        bound: what the certificate proves of the training loss, shape (t,); None unless the loss is squared and
            neither ridge nor friction change its course.
        certificate: of the tangent kernel on the training rows; points are row numbers of the table.
        rank: directions that can be learnt.
        half_time: when the training loss is half of what it was; None if it is not by the last time.
        stopping: the best stopping time by leaving out each row in turn; None unless `bound` is given.
        stable_rate: learning rates below this are stable for gradient descent in steps.
    """

    loss: LossName
    times: Float[np.ndarray, " t"]
    train_loss: Float[np.ndarray, " t"]
    test_loss: Float[np.ndarray, " t"]
    loss_rate: Float[np.ndarray, " t"]
    bound: Float[np.ndarray, " t"] | None
    certificate: Certificate
    rank: int
    half_time: float | None
    stopping: StoppingTime | None
    stable_rate: float

    def to_frame(self) -> pl.DataFrame:
        """One row per time."""
        columns = {
            "time": self.times,
            "train_loss": self.train_loss,
            "test_loss": self.test_loss,
            "loss_rate": self.loss_rate,
        }
        return pl.DataFrame(columns if self.bound is None else {**columns, "certified_bound": self.bound})


def training_course(network: Layer, data: Prepared, settings: CourseSettings = CourseSettings()) -> Course:
    """Train the infinitely wide network on the training rows by gradient flow.

    Raises:
        TableError: for a target that the loss cannot use.
        DivergenceError: for a learning rate at which gradient descent on the squared loss would diverge.
        IntegrationError: when the flow of a general loss cannot be followed to the last time.
    """
    loss, y, y_test = _loss_and_targets(data, settings.loss)
    ntk, rate = NTK(network), 1.0 if settings.learning_rate is None else settings.learning_rate
    with suited_to(len(y)):
        certificate = convergence_certificate(
            ntk, data.x, learning_rate=rate, reduction=settings.reduction, outputs=y.shape[1]
        )
        bend = CURVATURE[settings.loss] * certificate.weight * certificate.largest_eigenvalue
        stable = 2.0 / (bend + settings.ridge) if bend > 0 else np.inf
        plain = loss is None and settings.friction is None
        if settings.learning_rate is not None and plain and rate >= stable:
            raise DivergenceError(
                f"Training on these rows needs a learning rate (--learning-rate) below {stable:.6g}, got {rate:g}: "
                "steps of that size diverge, so no network follows the flow. Choose a smaller one."
            )
        flow = gradient_flow(
            ntk,
            data.x,
            y,
            learning_rate=rate,
            reduction=settings.reduction,
            ridge=settings.ridge,
            friction=settings.friction,
            loss=loss,
            tolerance=settings.tolerance,
        )
        times = _times(flow, settings, rate * bend)
        losses = np.asarray(flow.loss(times))
        test_losses = np.asarray(flow.test_loss(times, data.x_test, y_test))
        rates = np.asarray(flow.loss_rate(times))
        stopping = None
        proved = plain and settings.ridge == 0
        if proved:
            stopping = best_stopping_time(
                ntk, data.x, y, folds="leave-one-out", learning_rate=rate, reduction=settings.reduction
            )
        return Course(
            loss=settings.loss,
            times=times,
            train_loss=losses,
            test_loss=test_losses,
            loss_rate=rates,
            bound=np.asarray(certificate.loss_bound(losses[0], times)) if proved else None,
            certificate=in_table_rows(certificate, data.rows),
            rank=flow.rank,
            half_time=_half_time(flow, times, losses),
            stopping=stopping,
            stable_rate=stable,
        )


def _loss_and_targets(data: Prepared, loss: LossName) -> tuple[Loss | None, np.ndarray, np.ndarray]:
    """The loss as a function, None for the squared one, and its targets for training and test rows."""
    if loss == "squared":
        return None, data.y, data.y_test
    if loss == "huber":
        return optax.huber_loss, data.y, data.y_test
    target = data.encoder.target
    if target.task != "classification":
        raise TableError(
            f"The {loss} loss (--loss) needs classes, got the number '{target.name}'. Use squared or huber, or treat "
            "the numbers as classes with --task classification."
        )
    one_hot, one_hot_test = (
        np.eye(len(target.classes))[data.codes],
        np.eye(len(target.classes))[data.test_codes],
    )
    if loss == "cross-entropy":
        return optax.softmax_cross_entropy, one_hot, one_hot_test
    if len(target.classes) != 2:
        raise TableError(
            f"The logistic loss (--loss) needs two classes, got {len(target.classes)} in '{target.name}'. Use "
            "cross-entropy."
        )
    return optax.sigmoid_binary_cross_entropy, one_hot[:, 1:], one_hot_test[:, 1:]


def _times(
    flow: GradientFlow | LossFlow, settings: CourseSettings, fastest: float
) -> Float[np.ndarray, " t"]:
    """0, then from a tenth of the shortest time scale to ten times the longest, or to where the user says."""
    if isinstance(flow, GradientFlow):
        scales = flow.timescales[np.isfinite(flow.timescales)]
        span = LONGEST_SPAN["squared"]
    else:
        eigenvalues = flow.eigenvalues[flow.eigenvalues > 0]
        scales = eigenvalues[0] / eigenvalues / fastest if fastest > 0 else eigenvalues
        span = LONGEST_SPAN["other"]
    if len(scales) == 0:
        raise TableError("The course of training needs a kernel that is not zero on these rows, got zeros.")
    first = 0.1 * float(scales.min())
    last = settings.last_time
    if last is None:
        last = min(10.0 * float(scales.max()), span * first)
    elif last <= first:
        first = 1e-3 * last
    return np.append(0.0, np.geomspace(first, last, settings.times))


def _half_time(flow: GradientFlow | LossFlow, times: np.ndarray, losses: np.ndarray) -> float | None:
    """When the loss is half of what it was; with friction, under which it oscillates, the first listed time."""
    below = np.flatnonzero(losses <= 0.5 * losses[0])
    if len(below) == 0:
        return None
    return float(times[below[0]]) if flow.friction is not None else flow.time_to_loss(0.5 * float(losses[0]))
