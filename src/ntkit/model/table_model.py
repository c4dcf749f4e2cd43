"""A model of a table: the encoder, the chosen network, the training points, and three distributions."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from jaxtyping import Float

from ntkit.dynamics import GradientFlow, gradient_flow
from ntkit.dynamics.squared_loss import Reduction
from ntkit.errors import TableError
from ntkit.inference.class_probabilities import class_probabilities
from ntkit.inference.gaussian_process import GaussianProcess, Posterior
from ntkit.inference.predictive import Predictive
from ntkit.kernels import NNGP, NTK, Kernel
from ntkit.model.predictions import Predictions
from ntkit.nn.base import Layer
from ntkit.tables.encode import TableEncoder, Unseen

Distribution = Literal["posterior", "stopped", "converged"]
KernelName = Literal["nngp", "ntk"]

REDUCTION: Reduction = "mean_points"
"""The training loss is divided by the number of points, so learning rates are of order 1 for any table."""

KERNEL_TITLES: dict[KernelName, str] = {"nngp": "NNGP", "ntk": "NTK"}


@dataclass(frozen=True)
class TableModel:
    """An infinitely wide network and what it learnt from a table.

    It holds three distributions over functions, which differ (SPEC section 6):

    * "posterior": the Gaussian process with the chosen kernel, conditioned on the training targets
      with observation noise;
    * "stopped" and "converged": the ensemble of networks trained by gradient flow on the squared loss
      `1/(2 n) sum |f - y|^2`, at the best stopping time and at t = infinity, each from its own random
      initialisation.

    Attributes:
        encoder: From a table to points and encoded targets.
        network: The chosen network.
        kernel: The posterior's kernel.
        noise: The noise variance of the posterior's training targets, in units of the encoded target.
        score_noise: The variance of a new observation about the posterior's function: `noise` for
            regression; for classes chosen so that leave-one-out class probabilities have the smallest log loss.
        x: Training points, shape (n, d).
        y: Encoded training targets, shape (n, k).
        stopping_time: The best stopping time, by cross-validation.
        times: Increasing training times, the last of them infinity, shape (t,).
        time_noises: Noise variance of an observation about the ensemble at each of `times`, estimated
            from cross-validated residuals, shape (t,).
        distribution: The distribution that predictions come from unless another is asked for.
        level: The intervals' probability.
    """

    encoder: TableEncoder
    network: Layer
    kernel: KernelName
    noise: float
    score_noise: float
    x: Float[np.ndarray, "n d"]
    y: Float[np.ndarray, "n k"]
    stopping_time: float
    times: Float[np.ndarray, " t"]
    time_noises: Float[np.ndarray, " t"]
    distribution: Distribution = "posterior"
    level: float = 0.95

    def posterior(self) -> Posterior:
        """The Gaussian process with the chosen kernel, conditioned on the training table."""
        return GaussianProcess(kernel_of(self.network, self.kernel), self.noise).condition(self.x, self.y)

    def flow(self) -> GradientFlow:
        """The ensemble of infinitely wide networks, trained by gradient flow, at all times."""
        return training_flow(self.network, self.x, self.y)

    def time_of(self, distribution: Distribution) -> float:
        """The training time of an ensemble's distribution."""
        return self.stopping_time if distribution == "stopped" else float("inf")

    def observation_noise(self, time: float) -> float:
        """Noise variance of an observation about the ensemble at a training time (interpolated in log t)."""
        finite = self.times[:-1]
        if time >= finite[-1]:
            return float(self.time_noises[-1])
        # Zero lies left of every grid point: np.interp then returns the first value.
        position = np.log(max(time, np.finfo(float).tiny))
        return float(np.interp(position, np.log(finite), self.time_noises[:-1]))

    def predict(
        self,
        frame: pl.DataFrame,
        *,
        distribution: Distribution | None = None,
        time: float | None = None,
        unseen: Unseen = "error",
    ) -> Predictions:
        """Predict the rows of a table.

        Args:
            frame: A table with the model's input columns.
            distribution: Which distribution; the model's own by default.
            time: Training time of the ensemble, 0 to infinity; overrides `distribution`.
            unseen: See `TableEncoder.points`.

        Raises:
            TableError: for columns or values that do not fit, or a negative time.
        """
        if time is not None and not time >= 0.0:
            raise TableError(f"Prediction needs a training time of at least 0, got {time}.")
        points = self.encoder.points(frame, unseen=unseen)
        distribution = distribution or self.distribution
        if distribution == "posterior" and time is None:
            return self.from_posterior(self.posterior(), points)
        return self.from_flow(self.flow(), points, self.time_of(distribution) if time is None else time)

    def from_posterior(self, posterior: Posterior, points: Float[np.ndarray, "m d"]) -> Predictions:
        """Predictions of an already conditioned posterior."""
        title = posterior_title(self.kernel)
        return self._predictions(title, posterior, points, self.score_noise)

    def from_flow(self, flow: GradientFlow, points: Float[np.ndarray, "m d"], time: float) -> Predictions:
        """Predictions of the trained ensemble at a training time."""
        return self._predictions(ensemble_title(time), flow.at(time), points, self.observation_noise(time))

    def _predictions(
        self, title: str, distribution: Predictive, points: Float[np.ndarray, "m d"], noise: float
    ) -> Predictions:
        """Ask the distribution, and undo the target's encoding."""
        mean, variance = np.asarray(distribution.mean(points)), np.asarray(distribution.variance(points))
        target, scale = self.encoder.schema.target, self.encoder.target_scale
        function_std, std = np.sqrt(variance), np.sqrt(variance + noise)
        mean_in_units = mean * scale + self.encoder.target_means[None, :]
        probabilities = None
        if target.task == "classification":
            probabilities = np.asarray(class_probabilities(mean_in_units, std))
        return Predictions(
            title, mean_in_units, std * scale, function_std * scale, self.level, target.classes, probabilities
        )


def kernel_of(network: Layer, name: KernelName) -> Kernel:
    """The network's NNGP or NTK."""
    return NNGP(network) if name == "nngp" else NTK(network)


def training_flow(network: Layer, x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n k"]) -> GradientFlow:
    """Gradient flow of the infinitely wide network on `1/(2 n) sum |f - y|^2`, learning rate 1."""
    return gradient_flow(NTK(network), x, y, prior=NNGP(network), learning_rate=1.0, reduction=REDUCTION)


def posterior_title(kernel: KernelName) -> str:
    """The posterior's name on tables and pages."""
    return f"{KERNEL_TITLES[kernel]} posterior"


def ensemble_title(time: float) -> str:
    """The trained ensemble's name on tables and pages."""
    return "trained ensemble, t = ∞" if time == float("inf") else f"trained ensemble, t = {time:.3g}"
