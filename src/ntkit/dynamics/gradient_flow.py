"""The whole course of training by gradient flow, in closed form."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ntkit.dynamics.arguments import as_asked, as_learning_rate, as_times
from ntkit.dynamics.filters import FlowFilter
from ntkit.dynamics.spectral import SpectralTraining, spectral_training
from ntkit.dynamics.squared_loss import Reduction
from ntkit.dynamics.trained import Trained
from ntkit.dynamics.trajectory import Trajectory, test_losses, trajectory
from ntkit.kernels.base import Kernel
from ntkit.numerics.dtypes import Array
from ntkit.numerics.host import like


def gradient_flow(
    ntk: Kernel,
    x: Float[Array, "n d"],
    y: Float[Array, "n k"],
    *,
    prior: Kernel | None = None,
    f0: Callable[[Any], Any] | None = None,
    learning_rate: float | int = 1.0,
    reduction: Reduction = "sum",
) -> "GradientFlow":
    """Train an infinitely wide network by gradient flow on the squared loss; `O(n^3)` once, then any time.

    `f_t(x) = f_0(x) + Θ(x, X) Θ^{-1} (I - exp(-η Θ t)) (Y - f_0(X))`, with `Θ^{-1}(I - exp(-η Θ t))` as a function of
    the eigenvalues, so that `t = 0`, `t = inf` and a singular Θ are no special cases for the caller.

    Args:
        ntk: the tangent kernel: `NTK(network)`, or `EmpiricalNTK(f, params)` for a linearised finite network.
        x: training points, shape (n, d).
        y: targets, shape (n, k); the outputs share the kernel and are learnt independently.
        prior: the covariance of the outputs at initialisation, `NNGP(network)`: training then starts from an
            ensemble `f_0 ~ GP(0, prior)` and predictions carry its covariance.
        f0: the initial outputs of one given network, `f0(x) -> (m, k)`, instead of an ensemble. Without `prior` and
            `f0` training starts from zero, which is the mean over an ensemble.
        learning_rate: η, in units of 1 / time.
        reduction: the loss is `½ Σ ‖f - y‖²` ("sum"), divided by n k ("mean") or by n ("mean_points").

    Raises:
        ValueError: for arguments that do not fit each other.
        NotPositiveDefiniteError: when Θ has a materially negative eigenvalue, along which the flow would diverge.

    Source:
        Jacot, Gabriel & Hongler (2018), Neural Tangent Kernel, section 5; Lee et al. (2019), equations 8 and 14 to 16.

    >>> import numpy as np
    >>> from ntkit.kernels.stationary import RBF
    >>> flow = gradient_flow(RBF(), np.array([[0.0]]), np.array([[1.0]]))
    >>> [round(flow.at(t).mean(np.array([[0.0]])).item(), 6) for t in (0.0, 1.0, np.inf)]   # 1 - exp(-t)
    [0.0, 0.632121, 1.0]
    """
    rate = as_learning_rate("gradient_flow", learning_rate)
    return GradientFlow(spectral_training("gradient_flow", ntk, x, y, prior, f0, reduction), rate)


@dataclass(frozen=True, eq=False)
class GradientFlow:
    """Training by gradient flow, solved: ask about any time, at any points (see `gradient_flow`).

    Eigenvalues too small to be told from zero are null directions: nothing is learnt along them, at any time.
    """

    training: SpectralTraining
    learning_rate: float

    @property
    def eigenvalues(self) -> Float[np.ndarray, " n"]:
        """The tangent kernel's eigenvalues on the training points, largest (fastest) first; 0 in null directions."""
        return self.training.eigenvalues[::-1]

    @property
    def rank(self) -> int:
        """How many directions can be learnt."""
        return self.training.spectrum.rank

    @property
    def null_directions(self) -> Float[np.ndarray, "n r"]:
        """The directions over the training points along which nothing is learnt, in orthonormal columns."""
        return self.training.spectrum.eigenvectors[:, ~self.training.spectrum.retained]

    @property
    def timescales(self) -> Float[np.ndarray, " n"]:
        """The time `1 / (η c λ_i)` in which direction i's error falls by the factor e, shortest first.

        In the order of `eigenvalues`; infinite in null directions. c is the loss's reduction, 1 for "sum".
        """
        rates = self.eigenvalues * (self.learning_rate * self.training.weight)
        return np.divide(1.0, rates, out=np.full(len(rates), np.inf), where=rates > 0)

    @property
    def max_learning_rate(self) -> float:
        """The learning rate from which gradient *descent* diverges, `2 / (c λ_max)`; the flow takes any."""
        return self.training.max_learning_rate

    def at(self, t: float | int) -> Trained:
        """The distribution over functions at time t, from 0 (the initialisation) to infinity (convergence).

        Raises:
            ValueError: for a negative or NaN time, or several times (see `trajectory`).
        """
        moment, times = self._moments("GradientFlow.at", t)
        if times.ndim:
            raise ValueError(
                f"GradientFlow.at needs a single time, got shape {times.shape}. Use .trajectory(times, x)."
            )
        return Trained(self.training, moment.learnt(self.training.spectrum)[0])

    def trajectory(self, times: Any, x: Float[Array, "m d"]) -> Trajectory:
        """Mean (t, m, k) and variance (t, m) at several times, the kernels at `x` being evaluated once."""
        moments, _ = self._moments("GradientFlow.trajectory", times)
        return trajectory("GradientFlow.trajectory", self.training, moments, x)

    def training_outputs(self, t: float | int) -> Float[Array, "n k"]:
        """The expected outputs at the training points at time t, `Y + exp(-η Θ t) (f_0(X) - Y)`."""
        moments, _ = self._moments("GradientFlow.training_outputs", t)
        return like(self.training.outputs(moments)[0], self.training.x)

    def loss(self, t: Any) -> Any:
        """The training loss C(t), a float for one time, shape (t,) for several.

        With `prior` it is the average of the members' losses; else the loss of the one function that is trained.
        """
        moments, times = self._moments("GradientFlow.loss", t)
        return as_asked(self.training.losses(moments), times)

    def loss_rate(self, t: Any) -> Any:
        """The loss's rate of change `dC/dt = -η ‖∇C‖²_Θ <= 0`, with C and its reduction as in `loss`."""
        moments, times = self._moments("GradientFlow.loss_rate", t)
        return as_asked(self.training.loss_rates(moments, self.learning_rate), times)

    def test_loss(self, t: Any, x: Float[Array, "m d"], y: Float[Array, "m k"]) -> Any:
        """The loss at other points, reduced over these; averaged over the ensemble as in `loss`."""
        moments, times = self._moments("GradientFlow.test_loss", t)
        return as_asked(test_losses("GradientFlow.test_loss", self.training, moments, x, y), times)

    def _moments(self, who: str, t: Any) -> tuple[FlowFilter, np.ndarray]:
        times = as_times(who, t)
        return FlowFilter(self.learning_rate * self.training.weight, times.reshape(-1)), times
