"""Both kernels of a network between the points of a task: evaluated whenever asked for, or once and kept."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from ntkit.dynamics import GradientFlow, gradient_flow
from ntkit.dynamics.squared_loss import Reduction
from ntkit.inference.gaussian_process import GaussianProcess, Posterior
from ntkit.kernels import NNGP, NTK, Kernel, evaluate
from ntkit.kernels.row_kernel import RowKernel
from ntkit.nn.base import Layer

KernelName = Literal["nngp", "ntk"]

REDUCTION: Reduction = "mean_points"
"""The training loss is divided by the number of points, so learning rates are of order 1 for any table."""


@dataclass(frozen=True, eq=False)
class NetworkKernels:
    """Both kernels, and what they know the training points and the new points by.

    Attributes:
        nngp: the covariance at initialisation.
        ntk: the tangent kernel.
        train: the training points, or their numbers, shape (n, ...).
        new: the points to be predicted, or their numbers, shape (m, ...).
    """

    nngp: Kernel
    ntk: Kernel
    train: Float[np.ndarray, "n *d"]
    new: Float[np.ndarray, "m *d"]

    @classmethod
    def on_demand(
        cls, network: Layer, x: Float[np.ndarray, "n *d"], x_new: Float[np.ndarray, "m *d"]
    ) -> "NetworkKernels":
        """Kernels that are evaluated whenever they are asked for."""
        return cls(NNGP(network), NTK(network), x, x_new)

    @classmethod
    def stored(
        cls,
        network: Layer,
        x: Float[np.ndarray, "n *d"],
        x_new: Float[np.ndarray, "m *d"],
        grams: tuple[Float[np.ndarray, "n n"], Float[np.ndarray, "n n"]] | None = None,
    ) -> "NetworkKernels":
        """Kernels evaluated now, once: what images need, whose kernels are dear.

        Args:
            network: the network.
            x: training points.
            x_new: points to be predicted.
            grams: NNGP and NTK of the training points, where they are known.
        """
        kernels = (NNGP(network), NTK(network))
        square = evaluate(kernels, x) if grams is None else grams
        cross = evaluate(kernels, x_new, x)
        rows = [
            RowKernel(
                np.concatenate([own, other]),
                type(kernel).__name__,
                np.concatenate([np.diag(own), np.asarray(kernel.diag(x_new))]),
            )
            for kernel, own, other in zip(kernels, square, cross, strict=True)
        ]
        numbers = np.arange(len(x) + len(x_new), dtype=np.float64)[:, None]
        return cls(rows[0], rows[1], numbers[: len(x)], numbers[len(x) :])

    def scaled(self, factor: float) -> "NetworkKernels":
        """The stored kernels of the same network with a readout whose weights have `factor` times the variance."""
        nngp, ntk = (
            RowKernel(factor * kernel.gram, kernel.name, None if kernel.own is None else factor * kernel.own)
            for kernel in (self.nngp, self.ntk)
            if isinstance(kernel, RowKernel)
        )
        return NetworkKernels(nngp, ntk, self.train, self.new)

    def named(self, name: KernelName) -> Kernel:
        """The NNGP or the NTK."""
        return self.nngp if name == "nngp" else self.ntk

    def posterior(self, name: KernelName, noise: float, y: Float[np.ndarray, "n k"]) -> Posterior:
        """The Gaussian process with one of the kernels, conditioned on the training targets."""
        return GaussianProcess(self.named(name), noise).condition(self.train, y)

    def flow(self, y: Float[np.ndarray, "n k"]) -> GradientFlow:
        """Gradient flow of the infinitely wide network on `1/(2 n) sum |f - y|^2`, learning rate 1."""
        return gradient_flow(self.ntk, self.train, y, prior=self.nngp, learning_rate=1.0, reduction=REDUCTION)
