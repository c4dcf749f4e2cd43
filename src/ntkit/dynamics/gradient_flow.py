"""The whole course of training by gradient flow: in closed form for the squared loss, by an ODE for any other."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

from ntkit.dynamics.arguments import as_asked, as_nonnegative, as_schedule, as_times
from ntkit.dynamics.filters import FlowFilter
from ntkit.dynamics.loss_flow import LossFlow, loss_flow
from ntkit.dynamics.losses import Loss
from ntkit.dynamics.momentum import HeavyBallFlowFilter
from ntkit.dynamics.schedule import PiecewiseConstant
from ntkit.dynamics.spectral import SpectralTraining, spectral_training
from ntkit.dynamics.squared_loss import Reduction
from ntkit.dynamics.trained import Trained
from ntkit.dynamics.trajectory import Trajectory, test_losses, trajectory
from ntkit.kernels.base import Kernel
from ntkit.numerics.dtypes import Array
from ntkit.numerics.host import like


@overload
def gradient_flow(
    ntk: Kernel,
    x: Any,
    y: Float[Array, "n k"],
    *,
    prior: Kernel | None = None,
    f0: Callable[[Any], Any] | None = None,
    learning_rate: float | int | PiecewiseConstant = 1.0,
    reduction: Reduction = "sum",
    ridge: float | int = 0.0,
    friction: float | int | None = None,
    loss: None = None,
    tolerance: float = 1e-9,
) -> "GradientFlow": ...


@overload
def gradient_flow(
    ntk: Kernel,
    x: Any,
    y: Float[Array, "n k"],
    *,
    prior: None = None,
    f0: Callable[[Any], Any] | None = None,
    learning_rate: float | int | PiecewiseConstant = 1.0,
    reduction: Reduction = "sum",
    ridge: float | int = 0.0,
    friction: float | int | None = None,
    loss: Loss,
    tolerance: float = 1e-9,
) -> LossFlow: ...


def gradient_flow(
    ntk: Kernel,
    x: Any,
    y: Float[Array, "n k"],
    *,
    prior: Kernel | None = None,
    f0: Callable[[Any], Any] | None = None,
    learning_rate: float | int | PiecewiseConstant = 1.0,
    reduction: Reduction = "sum",
    ridge: float | int = 0.0,
    friction: float | int | None = None,
    loss: Loss | None = None,
    tolerance: float = 1e-9,
) -> "GradientFlow | LossFlow":
    """Train an infinitely wide network by gradient flow; `O(n^3)` once, then any time.

    On the squared loss `f_t(x) = f_0(x) + Θ(x, X) Θ^{-1} (I - exp(-η Θ t)) (Y - f_0(X))`, with
    `Θ^{-1}(I - exp(-η Θ t))` as a function of the eigenvalues, so that `t = 0`, `t = inf` and a singular Θ are no
    special cases for the caller. On any other loss the flow `ḟ = -η Θ ∇_f L` is integrated as it is asked about.

    Args:
        ntk: the tangent kernel: `NTK(network)`, or `EmpiricalNTK(f, params)` for a linearised finite network.
        x: n training points, as the kernels take them: an array, or a pytree of arrays.
        y: targets, shape (n, k); the outputs share the kernel and, on the squared loss, are learnt independently.
        prior: the covariance of the outputs at initialisation, `NNGP(network)`: training then starts from an
            ensemble `f_0 ~ GP(0, prior)` and predictions carry its covariance. Squared loss only.
        f0: the initial outputs of one given network, `f0(x) -> (m, k)`, instead of an ensemble. Without `prior` and
            `f0` training starts from zero, which on the squared loss is the mean over an ensemble.
        learning_rate: η, in units of 1 / time; a `PiecewiseConstant` for a rate that changes.
        reduction: the loss is `½ Σ ‖f - y‖²` ("sum"), divided by n k ("mean") or by n ("mean_points"); likewise
            for `loss`, which is summed over points and outputs first.
        ridge: weight decay toward the initialisation: adds `½ ridge ‖θ - θ_0‖²` to the reduced loss.
        friction: None for gradient flow; γ > 0 for heavy-ball motion `θ̈ + γ θ̇ = -η ∇L` from rest.
        loss: None for the squared loss; else a differentiable `loss(outputs, targets)` in JAX operations, such as
            `optax.softmax_cross_entropy`, giving one value per point, per output, or in all.
        tolerance: relative error allowed to a step of the integration; not used in closed form.

    Returns:
        `GradientFlow`, or `LossFlow` when `loss` is given; both answer `at(t)`, `loss(t)`, `trajectory(times, x)`.

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
    who = "gradient_flow"
    schedule = as_schedule(who, learning_rate)
    ridge = as_nonnegative(who, "ridge", ridge)
    if friction is not None:
        friction = as_nonnegative(who, "friction", friction)
        if friction == 0:
            raise ValueError(
                f"{who} needs a positive friction, got 0, with which nothing comes to rest. Leave it None for "
                "gradient flow without momentum."
            )
        if len(schedule.rates) > 1:
            raise ValueError(
                f"{who} needs a single learning_rate with friction, got {learning_rate}. Use one of the two."
            )
    if loss is not None:
        return loss_flow(ntk, x, y, prior, f0, schedule, reduction, ridge, friction, loss, tolerance)
    training = spectral_training(who, ntk, x, y, prior, f0, reduction)
    return GradientFlow(training, schedule, ridge, friction)


@dataclass(frozen=True, eq=False)
class GradientFlow:
    """Training by gradient flow, solved: ask about any time, at any points (see `gradient_flow`).

    Eigenvalues too small to be told from zero are null directions: nothing is learnt along them, at any time.
    """

    training: SpectralTraining
    schedule: PiecewiseConstant
    ridge: float
    friction: float | None

    @property
    def eigenvalues(self) -> Float[np.ndarray, " n"]:
        """The tangent kernel's eigenvalues on the training points, largest (fastest) first; 0 in null directions."""
        return self.training.eigenvalues[::-1]

    @property
    def projections(self) -> Float[np.ndarray, "n k"]:
        """The initial error `Y - f_0(X)` along each eigendirection, in the order of `eigenvalues`."""
        return self.training.projections

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
        """The time in which direction i's error falls by the factor e, `1 / (η (c λ_i + ridge))`, shortest first.

        In the order of `eigenvalues`; infinite in null directions. c is the loss's reduction, 1 for "sum". With
        friction γ the time of the slower of its two exponentials, or of the oscillation's envelope, `2 / γ`.
        """
        rates = np.where(self.eigenvalues > 0, self.eigenvalues * self.training.weight + self.ridge, 0.0)
        distances = np.divide(1.0, rates, out=np.full(len(rates), np.inf), where=rates > 0)
        if self.friction is None:
            return self.schedule.time_at(distances)
        half = self.friction / 2.0
        root = np.sqrt(np.clip(half**2 - self.schedule.rates[0] * rates, 0.0, None))
        return np.where(root > 0, (half + root) * distances / self.schedule.rates[0], 1.0 / half)

    @property
    def max_learning_rate(self) -> float:
        """The learning rate from which gradient *descent* diverges, `2 / (c λ_max + ridge)`; the flow takes any."""
        return self.training.max_learning_rate(self._shift)

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

    def trajectory(self, times: Any, x: Any) -> Trajectory:
        """Mean (t, m, k) and variance (t, m) at several times, the kernels at `x` being evaluated once."""
        moments, _ = self._moments("GradientFlow.trajectory", times)
        return trajectory("GradientFlow.trajectory", self.training, moments, x)

    def weights(self, times: Any) -> Float[np.ndarray, "t n"]:
        """The weight `(1 - r(λ)) / λ` of each eigendirection, ascending, in the prediction at several times."""
        return self._moments("GradientFlow.weights", times)[0].learnt(self.training.spectrum)

    def training_outputs(self, t: float | int) -> Float[Array, "n k"]:
        """The expected outputs at the training points at time t, `Y + exp(-η Θ t) (f_0(X) - Y)`."""
        moments, _ = self._moments("GradientFlow.training_outputs", t)
        return like(self.training.outputs(moments)[0], self.training.template(self.training.x))

    def loss(self, t: Any) -> Any:
        """The training loss C(t), a float for one time, shape (t,) for several; without the ridge's penalty.

        With `prior` it is the average of the members' losses; else the loss of the one function that is trained.
        """
        moments, times = self._moments("GradientFlow.loss", t)
        return as_asked(self.training.losses(moments), times)

    def loss_rate(self, t: Any) -> Any:
        """The loss's rate of change `dC/dt`, with C and its reduction as in `loss`.

        Without ridge and friction it is `-η ‖∇C‖²_Θ <= 0`.
        """
        moments, times = self._moments("GradientFlow.loss_rate", t)
        speed = moments.speed(self.training.eigenvalues[self.training.spectrum.retained])
        # The reduction enters once more: the weights grow by the gradient of the reduced loss.
        return as_asked(self.training.loss_rates(moments, speed), times)

    def penalty(self, t: Any) -> Any:
        """`½ ridge ‖θ_t - θ_0‖²`, what the ridge adds to `loss`; a float for one time, shape (t,) for several."""
        moments, times = self._moments("GradientFlow.penalty", t)
        return as_asked(self.ridge * self.training.penalties(moments), times)

    def test_loss(self, t: Any, x: Any, y: Float[Array, "m k"]) -> Any:
        """The loss at other points, reduced over these; averaged over the ensemble as in `loss`."""
        moments, times = self._moments("GradientFlow.test_loss", t)
        return as_asked(test_losses("GradientFlow.test_loss", self.training, moments, x, y), times)

    def time_to_loss(self, target: float | int) -> float:
        """The time at which the training loss has fallen to `target`; infinity if it never does.

        Raises:
            ValueError: for a target that is negative or NaN, or with friction, under which the loss may rise again.
        """
        target = as_nonnegative("GradientFlow.time_to_loss", "target", target)
        if self.friction is not None:
            raise ValueError(
                "GradientFlow.time_to_loss needs a loss that only falls, got a flow with friction, whose loss "
                "oscillates. Look for the time in .loss(times)."
            )
        if self.loss(0.0) <= target:
            return 0.0
        if self.loss(np.inf) > target or self.rank == 0:
            return np.inf
        # The loss is a sum of exponentials: bracket in units of the shortest time scale, solve for log t.
        late = float(self.timescales[0])
        while self.loss(late) > target:
            late *= 2.0
            if not np.isfinite(late):
                return np.inf
        early = late
        while self.loss(early) <= target:
            early /= 2.0
        return float(
            np.exp(brentq(lambda s: self.loss(np.exp(s)) - target, np.log(early), np.log(late), xtol=1e-15))
        )

    @property
    def _shift(self) -> float:
        """The ridge in units of eigenvalues."""
        return self.ridge / self.training.weight

    def _moments(self, who: str, t: Any) -> tuple[FlowFilter | HeavyBallFlowFilter, np.ndarray]:
        times = as_times(who, t)
        flat, weight = times.reshape(-1), self.training.weight
        if self.friction is not None:
            rate = self.schedule.rates[0] * weight
            return HeavyBallFlowFilter(self._shift, rate, self.friction, flat), times
        travelled, rates = self.schedule.distance(flat) * weight, self.schedule.rate_at(flat) * weight
        return FlowFilter(self._shift, travelled, rates), times
