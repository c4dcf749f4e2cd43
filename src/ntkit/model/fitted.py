"""What every fitted model knows, of a table or of images: network, targets, noises, and three distributions."""

from abc import ABC
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from ntkit.dynamics import GradientFlow
from ntkit.inference.class_probabilities import class_probabilities
from ntkit.inference.gaussian_process import Posterior
from ntkit.inference.predictive import Predictive
from ntkit.model.network_kernels import KernelName
from ntkit.model.predictions import Predictions
from ntkit.nn.base import Layer

Distribution = Literal["posterior", "stopped", "converged"]

KERNEL_TITLES: dict[KernelName, str] = {"nngp": "NNGP", "ntk": "NTK"}


@dataclass(frozen=True)
class FittedModel(ABC):
    """An infinitely wide network and what it learnt.

    It holds three distributions over functions, which differ (SPEC section 6):

    * "posterior": the Gaussian process with the chosen kernel, conditioned on the training targets
      with observation noise;
    * "stopped" and "converged": the ensemble of networks trained by gradient flow on the squared loss
      `1/(2 n) sum |f - y|^2`, at the best stopping time and at t = infinity, each from its own random
      initialisation.

    Attributes:
        encoder: From the user's data to points and encoded targets.
        network: The chosen network.
        kernel: The posterior's kernel.
        noise: The noise variance of the posterior's training targets, in units of the encoded target.
        score_noise: The variance of a new observation about the posterior's function: `noise` for
            regression; for classes chosen so that leave-one-out class probabilities have the smallest log loss.
        x: Training points, shape (n, d), or images, shape (n, height, width, channels).
        y: Encoded training targets, shape (n, k).
        stopping_time: The best stopping time, by cross-validation.
        times: Increasing training times, the last of them infinity, shape (t,).
        time_noises: Noise variance of an observation about the ensemble at each of `times`, estimated
            from cross-validated residuals, shape (t,).
        distribution: The distribution that predictions come from unless another is asked for.
        level: The intervals' probability.
    """

    encoder: Any
    network: Layer
    kernel: KernelName
    noise: float
    score_noise: float
    x: Float[np.ndarray, "n *d"]
    y: Float[np.ndarray, "n k"]
    stopping_time: float
    times: Float[np.ndarray, " t"]
    time_noises: Float[np.ndarray, " t"]
    distribution: Distribution = "posterior"
    level: float = 0.95

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

    def from_posterior(self, posterior: Posterior, points: Float[np.ndarray, "m *d"]) -> Predictions:
        """Predictions of an already conditioned posterior."""
        title = posterior_title(self.kernel)
        return self._predictions(title, posterior, points, self.score_noise)

    def from_flow(self, flow: GradientFlow, points: Float[np.ndarray, "m *d"], time: float) -> Predictions:
        """Predictions of the trained ensemble at a training time."""
        return self._predictions(ensemble_title(time), flow.at(time), points, self.observation_noise(time))

    def _predictions(
        self, title: str, distribution: Predictive, points: Float[np.ndarray, "m *d"], noise: float
    ) -> Predictions:
        """Ask the distribution, and undo the target's encoding."""
        mean, variance = np.asarray(distribution.mean(points)), np.asarray(distribution.variance(points))
        target, scale = self.encoder.target, self.encoder.target_scale
        function_std, std = np.sqrt(variance), np.sqrt(variance + noise)
        mean_in_units = mean * scale + self.encoder.target_means[None, :]
        probabilities = None
        if target.task == "classification":
            probabilities = np.asarray(class_probabilities(mean_in_units, std))
        return Predictions(
            title, mean_in_units, std * scale, function_std * scale, self.level, target.classes, probabilities
        )


def posterior_title(kernel: KernelName) -> str:
    """The posterior's name on tables and pages."""
    return f"{KERNEL_TITLES[kernel]} posterior"


def ensemble_title(time: float) -> str:
    """The trained ensemble's name on tables and pages."""
    return "trained ensemble, t = ∞" if time == float("inf") else f"trained ensemble, t = {time:.3g}"
