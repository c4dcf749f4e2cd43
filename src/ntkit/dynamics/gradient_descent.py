"""Any number of steps of gradient descent, in closed form."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ntkit.dynamics.arguments import as_asked, as_nonnegative, as_schedule, as_steps
from ntkit.dynamics.filters import DescentFilter, SpectralFilter
from ntkit.dynamics.momentum import HeavyBallFilter
from ntkit.dynamics.schedule import PiecewiseConstant
from ntkit.dynamics.spectral import SpectralTraining, spectral_training
from ntkit.dynamics.squared_loss import Reduction
from ntkit.dynamics.trained import Trained
from ntkit.dynamics.trajectory import Trajectory, test_losses, trajectory
from ntkit.errors import DivergenceError
from ntkit.kernels.base import Kernel
from ntkit.numerics.dtypes import Array
from ntkit.numerics.host import like


def gradient_descent(
    ntk: Kernel,
    x: Any,
    y: Float[Array, "n k"],
    *,
    prior: Kernel | None = None,
    f0: Callable[[Any], Any] | None = None,
    learning_rate: float | int | PiecewiseConstant,
    reduction: Reduction = "sum",
    ridge: float | int = 0.0,
    momentum: float | int = 0.0,
) -> "GradientDescent":
    """Train an infinitely wide network by full-batch gradient descent on the squared loss.

    As `gradient_flow`, with `(1 - η λ)^k` in place of `exp(-η λ t)`; k steps cost the same for any k.

    The mean of stochastic gradient descent is the same function of k: minibatches drawn afresh at each step have the
    full gradient as their mean, and on the squared loss the mean of the steps is the step of the mean (with the
    reduction of the full data). Its spread about the mean is another matter, and not computed here.

    Args:
        ntk: the tangent kernel.
        x: n training points, as the kernels take them: an array, or a pytree of arrays.
        y: targets, shape (n, k).
        prior: the covariance of the outputs at initialisation, for an ensemble.
        f0: the initial outputs of one given network, instead of an ensemble.
        learning_rate: η, the size of a step, below `2 (1 + momentum) / (c λ_max + ridge)` with c from the reduction;
            a `PiecewiseConstant` for a rate that changes after some number of steps.
        reduction: the loss is `½ Σ ‖f - y‖²` ("sum"), divided by n k ("mean") or by n ("mean_points").
        ridge: weight decay toward the initialisation: adds `½ ridge ‖θ - θ_0‖²` to the reduced loss.
        momentum: β in [0, 1) of the heavy ball, `θ_{k+1} = θ_k - η ∇L + β (θ_k - θ_{k-1})`, from rest.

    Raises:
        ValueError: for arguments that do not fit each other.
        DivergenceError: for a learning rate at which the steps do not converge; the text names the largest.
        NotPositiveDefiniteError: when Θ has a materially negative eigenvalue.

    Source:
        Lee et al. (2019), Wide neural networks of any depth evolve as linear models, section 2.2.

    >>> import numpy as np
    >>> from ntkit.kernels.stationary import RBF
    >>> descent = gradient_descent(RBF(), np.array([[0.0]]), np.array([[1.0]]), learning_rate=0.5)
    >>> [round(descent.after(steps).mean(np.array([[0.0]])).item(), 6) for steps in (0, 1, 2)]   # 1 - 0.5^k
    [0.0, 0.5, 0.75]
    """
    who = "gradient_descent"
    schedule = as_schedule(who, learning_rate)
    ridge, momentum = as_nonnegative(who, "ridge", ridge), as_nonnegative(who, "momentum", momentum)
    if momentum >= 1:
        raise ValueError(f"{who} needs momentum below 1, got {momentum}. 0.9 is a usual value.")
    if momentum and len(schedule.rates) > 1:
        raise ValueError(
            f"{who} needs a single learning_rate with momentum, got {learning_rate}. Use one of the two."
        )
    if not all(boundary == int(boundary) and boundary < 2**53 for boundary in schedule.boundaries):
        raise ValueError(f"{who} needs boundaries in whole steps, got {schedule.boundaries}.")
    training = spectral_training(who, ntk, x, y, prior, f0, reduction)
    bound = training.max_learning_rate(ridge / training.weight, momentum)
    if schedule.largest >= bound:
        raise DivergenceError(
            f"{who} needs a learning_rate below {bound:.6g} = 2 (1 + momentum) / (c λ_max + ridge) "
            f'(reduction="{reduction}"), got {schedule.largest:.6g}. Lower it; half of that bound learns fastest in '
            "the first direction."
        )
    return GradientDescent(training, schedule, ridge, momentum)


@dataclass(frozen=True, eq=False)
class GradientDescent:
    """Training by gradient descent, solved: ask after any number of steps (see `gradient_descent`)."""

    training: SpectralTraining
    schedule: PiecewiseConstant
    ridge: float
    momentum: float

    @property
    def eigenvalues(self) -> Float[np.ndarray, " n"]:
        """The tangent kernel's eigenvalues on the training points, largest first; 0 in null directions."""
        return self.training.eigenvalues[::-1]

    @property
    def rank(self) -> int:
        """How many directions can be learnt."""
        return self.training.spectrum.rank

    @property
    def max_learning_rate(self) -> float:
        """The learning rate from which the steps diverge, `2 (1 + momentum) / (c λ_max + ridge)`."""
        return self.training.max_learning_rate(self.ridge / self.training.weight, self.momentum)

    def after(self, steps: float | int) -> Trained:
        """The distribution over functions after a number of steps, 0 to infinity.

        Raises:
            ValueError: for a number that is negative or not whole, or several numbers (see `trajectory`).
        """
        moment, counts = self._moments("GradientDescent.after", steps)
        if counts.ndim:
            raise ValueError(
                f"GradientDescent.after needs a single number of steps, got shape {counts.shape}. "
                "Use .trajectory(steps, x)."
            )
        return Trained(self.training, moment.learnt(self.training.spectrum)[0])

    def trajectory(self, steps: Any, x: Any) -> Trajectory:
        """Mean (t, m, k) and variance (t, m) after several numbers of steps, in one pass over the kernels."""
        moments, _ = self._moments("GradientDescent.trajectory", steps)
        return trajectory("GradientDescent.trajectory", self.training, moments, x)

    def training_outputs(self, steps: float | int) -> Float[Array, "n k"]:
        """The expected outputs at the training points, `Y + (I - η Θ)^k (f_0(X) - Y)`."""
        moments, _ = self._moments("GradientDescent.training_outputs", steps)
        return like(self.training.outputs(moments)[0], self.training.template(self.training.x))

    def loss(self, steps: Any) -> Any:
        """The training loss after a number of steps (float) or several (shape (t,)), as in `GradientFlow.loss`."""
        moments, counts = self._moments("GradientDescent.loss", steps)
        return as_asked(self.training.losses(moments), counts)

    def penalty(self, steps: Any) -> Any:
        """`½ ridge ‖θ_k - θ_0‖²`, what the ridge adds to `loss`; a float for one moment, shape (t,) for several."""
        moments, counts = self._moments("GradientDescent.penalty", steps)
        return as_asked(self.ridge * self.training.penalties(moments), counts)

    def test_loss(self, steps: Any, x: Any, y: Float[Array, "m k"]) -> Any:
        """The loss at other points, reduced over these; averaged over the ensemble when there is one."""
        moments, counts = self._moments("GradientDescent.test_loss", steps)
        return as_asked(test_losses("GradientDescent.test_loss", self.training, moments, x, y), counts)

    def _moments(self, who: str, steps: Any) -> tuple[SpectralFilter, np.ndarray]:
        counts, odd = as_steps(who, steps)
        flat, odd, weight = counts.reshape(-1), odd.reshape(-1), self.training.weight
        shift = self.ridge / weight
        if self.momentum:
            return HeavyBallFilter(shift, self.schedule.rates[0] * weight, self.momentum, flat, odd), counts
        rates = tuple(rate * weight for rate in self.schedule.rates)
        return DescentFilter(shift, PiecewiseConstant(rates, self.schedule.boundaries), flat, odd), counts
