"""The same network at finite width, really trained by gradient descent, to be put beside the infinite one."""

import time
from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Float

from ntkit.dynamics import GradientFlow
from ntkit.dynamics.finite import max_learning_rate, train
from ntkit.nn.base import Layer

RATE_SHARE = 0.2
"""Learning rate as a share of the largest stable one: small, so that descent follows the flow."""

PROBE_STEPS = 20
RECORDS = 60


@dataclass(frozen=True)
class FiniteNetworks:
    """Finite networks trained by full-batch gradient descent on `1/(2 n) sum |f - y|^2`.

    Attributes:
        width: Units of every hidden layer.
        learning_rate: Learning rate; training time is steps x learning rate.
        steps: Gradient steps taken.
        times: Recorded training times, shape (r,).
        train_loss: Training loss of each network, shape (r, networks).
        test_loss: Test loss of each network, shape (r, networks).
        deviation: Root mean square, over test rows, outputs and networks, of (network - ensemble mean) / ensemble
            standard deviation at the last time: near 1 when finite networks scatter as the infinite ensemble does.
        mean_deviation: The same difference relative to the spread of the targets (root mean square 1 when as
            large as the targets' standard deviation).
    """

    width: int
    learning_rate: float
    steps: int
    times: Float[np.ndarray, " r"]
    train_loss: Float[np.ndarray, "r networks"]
    test_loss: Float[np.ndarray, "r networks"]
    deviation: float
    mean_deviation: float


def train_finite_networks(
    network: Layer,
    flow: GradientFlow,
    x: Float[np.ndarray, "n *d"],
    y: Float[np.ndarray, "n k"],
    x_test: Float[np.ndarray, "m *d"],
    y_test: Float[np.ndarray, "m k"],
    test_points: Float[np.ndarray, "m *p"],
    *,
    width: int,
    networks: int,
    steps: int,
    seconds: float,
    seed: int,
) -> FiniteNetworks:
    """Train independently initialised networks, in float32, for as many steps as the time allows.

    The test rows are `x_test` for the networks and `test_points` for the flow, whose kernels may know them by numbers.

    Raises:
        DivergenceError: if a network diverges in spite of the small learning rate.
    """
    x32, y32, x_test32, y_test32 = (array.astype(np.float32) for array in (x, y, x_test, y_test))
    keys = jax.random.split(jax.random.key(seed), networks)
    drawn = [network.init(key, x32.shape) for key in keys]
    rate = RATE_SHARE * min(max_learning_rate(network.apply, params, x32, "mean_points") for params in drawn)
    allowed = _affordable_steps(network, drawn[0], x32, y32, rate, steps, seconds / networks)
    record = sorted({0, *np.geomspace(1, allowed, RECORDS).round().astype(int).tolist()})
    histories = [
        train(
            network.apply,
            params,
            x32,
            y32,
            learning_rate=rate,
            steps=allowed,
            reduction="mean_points",
            record=record,
            test=(x_test32, y_test32),
            watch=x_test32,
        )
        for params in drawn
    ]
    if any(history.interrupted for history in histories):
        raise KeyboardInterrupt
    times = histories[0].steps * rate
    state = flow.at(float(times[-1]))
    last = np.stack([np.asarray(history.outputs)[-1] for history in histories])
    difference = last - np.asarray(state.mean(test_points))[None, :, :]
    spread = np.maximum(np.asarray(state.std(test_points)), 1e-12)
    return FiniteNetworks(
        width=width,
        learning_rate=rate,
        steps=allowed,
        times=times,
        train_loss=np.stack([np.asarray(history.loss, dtype=np.float64) for history in histories], axis=1),
        test_loss=np.stack(
            [np.asarray(history.test_loss, dtype=np.float64) for history in histories], axis=1
        ),
        deviation=float(np.sqrt(np.mean((difference / spread[None, :, None]) ** 2))),
        mean_deviation=float(np.sqrt(np.mean(difference**2) / max(float(np.mean(y_test**2)), 1e-300))),
    )


def _affordable_steps(network: Layer, params, x, y, rate: float, steps: int, seconds: float) -> int:
    """The steps that fit into the time, found by timing a few (after a first call that compiles)."""
    probe = min(PROBE_STEPS, steps)
    measured = []
    for _ in range(2):
        began = time.perf_counter()
        train(
            network.apply,
            params,
            x,
            y,
            learning_rate=rate,
            steps=probe,
            reduction="mean_points",
            record=[probe],
        )
        measured.append(time.perf_counter() - began)
    return int(np.clip(probe * seconds / max(measured[-1], 1e-6), probe, steps))
