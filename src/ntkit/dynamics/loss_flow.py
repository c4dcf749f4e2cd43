"""Gradient flow on any differentiable loss: an ODE for the weights of the kernel's eigenfunctions.

The tangent kernel's features on the training points are `B = V diag(√λ)`. With `f(X) = f_0(X) + B c` the flow
`ḟ = -η Θ ∇_f L` becomes `ċ = -η Bᵀ ∇_f L`, gradient flow of the linearised network's weights in an orthonormal
basis: `‖c‖ = ‖θ - θ_0‖`, and an error of c moves the output at any x by at most `√Θ(x, x)` times as much. So one
state gives the outputs everywhere, `f(x) = f_0(x) + Θ(x, X) V diag(1/√λ) c`, and test points need not be known
beforehand.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

from ntkit.dynamics.arguments import as_asked, as_nonnegative, as_times
from ntkit.dynamics.integration import Path
from ntkit.dynamics.losses import Loss, as_loss, loss_and_gradient, total
from ntkit.dynamics.schedule import PiecewiseConstant
from ntkit.dynamics.spectral import SpectralTraining, spectral_training
from ntkit.dynamics.squared_loss import loss_weight
from ntkit.dynamics.trained import outputs_at, start_at
from ntkit.dynamics.trajectory import Trajectory
from ntkit.inference.blocks import in_blocks
from ntkit.kernels.base import Kernel
from ntkit.numerics.dtypes import Array, as_targets
from ntkit.numerics.host import like, on_host, working
from ntkit.numerics.points import number_of_points

TIGHTEST, LOOSEST = 1e-12, 1e-2
"""Tolerances outside this range ask for less than rounding, or for nothing."""

DOUBLINGS = 60
"""How often `time_to_loss` doubles the time before it gives up."""


def loss_flow(
    ntk: Kernel,
    x: Any,
    y: Any,
    prior: Kernel | None,
    f0: Callable[[Any], Any] | None,
    schedule: PiecewiseConstant,
    reduction: str,
    ridge: float,
    friction: float | None,
    loss: Loss,
    tolerance: float,
) -> "LossFlow":
    """Check the arguments of `gradient_flow` that concern a general loss, and decompose the kernel."""
    who = "gradient_flow"
    if prior is not None:
        raise ValueError(
            f"{who} needs no prior for a loss other than the squared loss, under which an ensemble does not stay "
            "Gaussian, got one. Pass f0 for each member, e.g. samples of GaussianProcess(NNGP(network))."
        )
    if not TIGHTEST <= tolerance <= LOOSEST:
        raise ValueError(f"{who} needs tolerance between {TIGHTEST:g} and {LOOSEST:g}, got {tolerance}.")
    targets = on_host(as_targets(who, y, number_of_points(ntk.as_inputs(who, x))))
    as_loss(who, loss, targets)
    with jax.enable_x64(True):
        summed = jax.eval_shape(loss, *(jax.ShapeDtypeStruct(targets.shape, jnp.float64),) * 2).shape == ()
    if summed and reduction != "sum":
        raise ValueError(
            f'{who} needs reduction="sum" for a loss that returns a single value, which it has reduced itself, got '
            f"{reduction!r}."
        )
    training = spectral_training(who, ntk, x, y, None, f0, reduction)
    retained = training.spectrum.retained
    features = (
        training.spectrum.eigenvectors[:, retained]
        * np.sqrt(training.spectrum.eigenvalues[retained])[None, :]
    )
    rate = 1.0 if friction is None else schedule.rates[0]
    data = {
        "features": features,
        "targets": targets,
        "start": training.start,
        "weight": training.weight,
        "ridge": ridge,
        "rate": rate,
        "friction": friction or 0.0,
    }
    stiffness = training.weight * float(training.eigenvalues[-1]) + ridge
    slope = training.weight * features.T @ loss_and_gradient(loss, training.start, targets)[1]
    scale = float(np.abs(slope).max(initial=0.0)) / stiffness if stiffness > 0 else 0.0
    path = Path(
        "LossFlow",
        Descent(loss) if friction is None else HeavyBall(loss),
        np.zeros(slope.size * (1 if friction is None else 2)),
        data,
        first_step=0.01 / (rate * stiffness) if stiffness > 0 else 1.0,
        scale=scale or 1.0,
        tolerance=tolerance,
    )
    return LossFlow(training, loss, targets, schedule, ridge, friction, features, path)


@dataclass(frozen=True, eq=False)
class LossFlow:
    """Training by gradient flow on a general loss: ask about any finite time, at any points (see `gradient_flow`).

    The path is integrated as far as it is asked about and kept, so that a later question goes on from there.
    """

    training: SpectralTraining
    loss_function: Loss
    targets: Float[np.ndarray, "n k"]
    schedule: PiecewiseConstant
    ridge: float
    friction: float | None
    features: Float[np.ndarray, "n r"]
    path: Path

    @property
    def eigenvalues(self) -> Float[np.ndarray, " n"]:
        """The tangent kernel's eigenvalues on the training points, largest first; 0 in null directions."""
        return self.training.eigenvalues[::-1]

    @property
    def rank(self) -> int:
        """How many directions can be learnt."""
        return self.training.spectrum.rank

    def at(self, t: float | int) -> "LossTrained":
        """The function at a finite time t of at least 0.

        Raises:
            ValueError: for a negative, NaN or infinite time, or several times (see `trajectory`).
            IntegrationError: when the flow cannot be integrated as far.
        """
        weights, times = self._weights("LossFlow.at", t)
        if times.ndim:
            raise ValueError(
                f"LossFlow.at needs a single time, got shape {times.shape}. Use .trajectory(times, x)."
            )
        return LossTrained(self.training, self._in_span(weights)[0])

    def trajectory(self, times: Any, x: Any) -> Trajectory:
        """Outputs (t, m, k) at several times, the kernel at `x` being evaluated once; no variance."""
        x = self.training.as_inputs("LossFlow.trajectory", x)
        weights, _ = self._weights("LossFlow.trajectory", times)
        spans = self._in_span(weights)

        def block(points: Any) -> np.ndarray:
            cross, start = working(
                self.training.ntk(points, self.training.x), start_at(self.training, points)
            )
            return np.moveaxis(start[None, :, :] + np.matmul(cross[None, :, :], spans), 0, 1)

        moved = np.moveaxis(in_blocks(block, x, self.training.points), 1, 0)
        return Trajectory(like(moved, self.training.template(x)), None)

    def training_outputs(self, t: float | int) -> Float[Array, "n k"]:
        """The outputs at the training points at time t."""
        weights, _ = self._weights("LossFlow.training_outputs", t)
        return like(self._outputs(weights)[0], self.training.template(self.training.x))

    def loss(self, t: Any) -> Any:
        """The training loss, reduced; a float for one time, shape (t,) for several; without the ridge's penalty."""
        weights, times = self._weights("LossFlow.loss", t)
        values = [loss_and_gradient(self.loss_function, f, self.targets)[0] for f in self._outputs(weights)]
        return as_asked(self.training.weight * np.array(values), times)

    def loss_rate(self, t: Any) -> Any:
        """The loss's rate of change `dC/dt`; without ridge and friction it is `-η ‖∇C‖²_Θ <= 0`."""
        weights, times = self._weights("LossFlow.loss_rate", t)
        states = self._states(times)
        rates = self.schedule.rate_at(times.reshape(-1))
        values = []
        for outputs, current, state, rate in zip(self._outputs(weights), weights, states, rates, strict=True):
            slope = self.features.T @ loss_and_gradient(self.loss_function, outputs, self.targets)[1]
            slope = self.training.weight * slope
            motion = -rate * (slope + self.ridge * current)
            if self.friction is not None:
                motion = state[current.size :].reshape(current.shape)
            values.append(float((slope * motion).sum()))
        return as_asked(np.array(values), times)

    def penalty(self, t: Any) -> Any:
        """`½ ridge ‖θ_t - θ_0‖²`, what the ridge adds to `loss`; a float for one time, shape (t,) for several."""
        weights, times = self._weights("LossFlow.penalty", t)
        return as_asked(0.5 * self.ridge * (weights**2).sum(axis=(1, 2)), times)

    def test_loss(self, t: Any, x: Any, y: Float[Array, "m k"]) -> Any:
        """The loss at other points, reduced over these."""
        who = "LossFlow.test_loss"
        x = self.training.as_inputs(who, x)
        y = on_host(as_targets(who, y, number_of_points(x)))
        if y.shape[1] != self.targets.shape[1]:
            raise ValueError(
                f"{who} needs {self.targets.shape[1]} outputs as in training, got y of shape {y.shape}."
            )
        as_loss(who, self.loss_function, y)
        means = on_host(self.trajectory(np.asarray(t, np.float64).reshape(-1), x).mean)
        weight = loss_weight(who, self.training.reduction, *y.shape)
        values = [weight * loss_and_gradient(self.loss_function, f, y)[0] for f in means]
        return as_asked(np.array(values), np.asarray(t))

    def time_to_loss(self, target: float | int) -> float:
        """The time at which the training loss first falls to `target`.

        Raises:
            ValueError: for a target that is negative or NaN, that is not reached within 2^60 of the shortest time
                scale or before the loss stops falling, or with friction, under which the loss may rise again.
        """
        who = "LossFlow.time_to_loss"
        target = as_nonnegative(who, "target", target)
        if self.friction is not None:
            raise ValueError(
                f"{who} needs a loss that only falls, got a flow with friction, whose loss oscillates. Look for "
                "the time in .loss(times)."
            )
        value = self.loss(0.0)
        if value <= target:
            return 0.0
        early, late = 0.0, self.schedule.time_at(self._first_distance())
        late = float(late)
        for _ in range(DOUBLINGS):
            previous, value = value, self.loss(late)
            if value <= target:
                break
            # Ten time scales in, a loss that does not change over a doubling of the time has reached its floor.
            if (
                early > 0
                and previous - value <= 1e-13 * abs(previous)
                and late > 1e3 * self._first_distance()
            ):
                break
            early, late = late, 2.0 * late
        if value > target:
            raise ValueError(
                f"{who} needs a target above the loss's floor, got {target:.6g}, but the loss is {value:.6g} at "
                f"t = {late:.3g} and falls no further. Choose a larger target."
            )
        return float(brentq(lambda t: self.loss(t) - target, early, late, xtol=1e-13 * late, rtol=1e-12))

    def _first_distance(self) -> float:
        largest = self.training.weight * float(self.eigenvalues[0]) + self.ridge
        if not largest > 0:
            raise ValueError(
                "LossFlow needs a kernel that is not zero on the data, got no positive eigenvalue."
            )
        return 1.0 / largest

    def _weights(self, who: str, t: Any) -> tuple[np.ndarray, np.ndarray]:
        """The weights c (t, r, k) at the times asked about."""
        times = as_times(who, t)
        if not np.isfinite(times).all():
            raise ValueError(
                f"{who} needs finite times for a loss other than the squared loss, got infinity: its minimum may lie "
                "at infinity. Take a time from .time_to_loss(target)."
            )
        states = self._states(times)
        shape = (len(states), self.features.shape[1], self.targets.shape[1])
        return states[:, : shape[1] * shape[2]].reshape(shape), times

    def _states(self, times: np.ndarray) -> np.ndarray:
        flat = times.reshape(-1)
        return self.path.at(self.schedule.distance(flat) if self.friction is None else flat)

    def _outputs(self, weights: np.ndarray) -> np.ndarray:
        return self.training.start[None, :, :] + np.matmul(self.features[None, :, :], weights)

    def _in_span(self, weights: np.ndarray) -> np.ndarray:
        """The coefficients (t, n, k) of the tangent kernel's sections `Θ(., x_i)`."""
        spectrum = self.training.spectrum
        retained = spectrum.retained
        scaled = weights / np.sqrt(spectrum.eigenvalues[retained])[None, :, None]
        return np.matmul(spectrum.eigenvectors[:, retained][None, :, :], scaled)


@dataclass(frozen=True, eq=False)
class LossTrained:
    """The function that training on a general loss has reached: `f_0(x) + Θ(x, X) a`.

    It is one function, not a distribution over functions, hence no covariance.
    """

    training: SpectralTraining
    coefficients: Float[np.ndarray, "n k"]

    def mean(self, x: Any) -> Float[Array, "m k"]:
        """The outputs at `x`, in its array library and dtype."""
        return outputs_at("LossTrained.mean", self.training, self.coefficients, x)


@dataclass(frozen=True)
class Descent:
    """The velocity of gradient flow, in the clock `∫ η dt`; equal for equal losses, which share a compiled program."""

    loss: Loss

    def __call__(self, clock: Any, state: jax.Array, data: Any) -> jax.Array:
        """The velocity of the weights c, flattened."""
        weights = state.reshape(data["features"].shape[1], data["targets"].shape[1])
        return _force(self.loss, weights, data).reshape(-1)


@dataclass(frozen=True)
class HeavyBall:
    """The velocity of heavy-ball motion `c̈ + γ ċ = -η ∇_c L`, in time."""

    loss: Loss

    def __call__(self, clock: Any, state: jax.Array, data: Any) -> jax.Array:
        """The velocities of the weights and of their velocity, flattened."""
        weights, motion = state.reshape(2, data["features"].shape[1], data["targets"].shape[1])
        change = data["rate"] * _force(self.loss, weights, data) - data["friction"] * motion
        return jnp.stack([motion, change]).reshape(-1)


def _force(loss: Loss, weights: jax.Array, data: Any) -> jax.Array:
    """Minus the gradient of the regularised loss in the weights c."""
    slope = jax.grad(total, argnums=1)(loss, data["start"] + data["features"] @ weights, data["targets"])
    return -(data["weight"] * (data["features"].T @ slope) + data["ridge"] * weights)
