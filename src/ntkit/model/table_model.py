"""A model of a table: the encoder, the chosen network, the training points, and three distributions."""

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float

from ntkit.dynamics import GradientFlow
from ntkit.errors import TableError
from ntkit.inference.gaussian_process import Posterior
from ntkit.kernels import NNGP, NTK, Kernel
from ntkit.model.fitted import Distribution, FittedModel
from ntkit.model.network_kernels import KernelName, NetworkKernels
from ntkit.model.predictions import Predictions
from ntkit.nn.base import Layer
from ntkit.tables.encode import TableEncoder, Unseen


@dataclass(frozen=True)
class TableModel(FittedModel):
    """An infinitely wide network and what it learnt from a table; attributes as of `FittedModel`."""

    encoder: TableEncoder

    def posterior(self) -> Posterior:
        """The Gaussian process with the chosen kernel, conditioned on the training table."""
        return self._kernels().posterior(self.kernel, self.noise, self.y)

    def flow(self) -> GradientFlow:
        """The ensemble of infinitely wide networks, trained by gradient flow, at all times."""
        return self._kernels().flow(self.y)

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

    def _kernels(self) -> NetworkKernels:
        return NetworkKernels.on_demand(self.network, self.x, self.x[:0])


def kernel_of(network: Layer, name: KernelName) -> Kernel:
    """The network's NNGP or NTK."""
    return NNGP(network) if name == "nngp" else NTK(network)


def training_flow(network: Layer, x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n k"]) -> GradientFlow:
    """Gradient flow of the infinitely wide network on `1/(2 n) sum |f - y|^2`, learning rate 1."""
    return NetworkKernels.on_demand(network, x, x[:0]).flow(y)
