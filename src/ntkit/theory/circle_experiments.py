"""Finite networks on the unit circle beside their infinite-width limit: the figures of Jacot et al. (2018)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Float

from ntkit.dynamics import gradient_descent, train, train_ensemble
from ntkit.empirical.function import Function, Params
from ntkit.engines.plan import tracked
from ntkit.kernels import NNGP, NTK
from ntkit.nn import Dense, Relu, Serial
from ntkit.nn.base import Layer
from ntkit.theory.experiments import Build, check_experiment

B_STD = 0.1
"""The scale of the biases in the paper."""

HIDDEN_LAYERS = 3
"""Of a network of depth 4 as the paper counts, the readout included."""

CIRCLE = 121
"""Angles from −π to π, both included."""


def relu_network(width: int) -> Layer:
    """The network of the paper: depth 4, ReLU without the factor √2, biases of scale 0.1, one output."""
    hidden = [layer for _ in range(HIDDEN_LAYERS) for layer in (Dense(width, b_std=B_STD), Relu())]
    return Serial(*hidden, Dense(1, b_std=B_STD))


@dataclass(frozen=True, eq=False)
class KernelOnCircle:
    """The tangent kernel between (1, 0) and the points of the unit circle, before and after training.

    Attributes:
        angles: γ of the points (cos γ, sin γ), shape (m,).
        widths: shape (w,); fewer than asked for only when interrupted.
        before: kernels of random networks, shape (w, networks, m).
        after: those of the same networks after training, shape (w, networks, m).
        limit: the kernel at infinite width, before and after training, shape (m,).
        steps: of gradient descent between.
        interrupted: whether Ctrl-C ended the experiment early.
    """

    angles: Float[np.ndarray, " m"]
    widths: Float[np.ndarray, " w"]
    before: Float[np.ndarray, "w networks m"]
    after: Float[np.ndarray, "w networks m"]
    limit: Float[np.ndarray, " m"]
    steps: int
    interrupted: bool

    @property
    def spread(self) -> Float[np.ndarray, " w"]:
        """Deviation over random networks, root mean square over the circle, relative to that of the limit."""
        return _rms(self.before - self.before.mean(axis=1)[:, None, :]) / _rms(self.limit[None, None, :])

    @property
    def motion(self) -> Float[np.ndarray, " w"]:
        """How far training moves the kernel, root mean square over networks and circle, relative to the limit."""
        return _rms(self.after - self.before) / _rms(self.limit[None, None, :])

    @property
    def inflation(self) -> Float[np.ndarray, " w"]:
        """The mean kernel after training over that before: above 1 where training inflates it."""
        return self.after.mean(axis=(1, 2)) / self.before.mean(axis=(1, 2))


@dataclass(frozen=True, eq=False)
class FunctionsOnCircle:
    """Trained networks on the unit circle, and the Gaussian law of their infinite-width limit.

    Attributes:
        angles: γ of the points (cos γ, sin γ), shape (m,).
        widths: shape (w,); fewer than asked for only when interrupted.
        outputs: of each trained network, shape (w, networks, m).
        mean: of the infinitely wide ensemble after as many steps, shape (m,).
        std: its standard deviation, shape (m,).
        train_angles: of the training points, shape (n,).
        targets: there, shape (n,).
        steps: of gradient descent.
        interrupted: whether Ctrl-C ended the experiment early.
    """

    angles: Float[np.ndarray, " m"]
    widths: Float[np.ndarray, " w"]
    outputs: Float[np.ndarray, "w networks m"]
    mean: Float[np.ndarray, " m"]
    std: Float[np.ndarray, " m"]
    train_angles: Float[np.ndarray, " n"]
    targets: Float[np.ndarray, " n"]
    steps: int
    interrupted: bool

    def quantile(self, share: float) -> Float[np.ndarray, " m"]:
        """The quantile of the limiting law at each angle, e.g. 0.1 or 0.9."""
        return self.mean + float(scipy.stats.norm.ppf(share)) * self.std

    @property
    def inside(self) -> Float[np.ndarray, " w"]:
        """The share of networks and angles between the limiting 10 % and 90 % quantiles: 0.8 in the limit."""
        within = (self.outputs > self.quantile(0.1)[None, None, :]) & (
            self.outputs < self.quantile(0.9)[None, None, :]
        )
        return within.mean(axis=(1, 2))


def kernel_on_circle(
    build: Build = relu_network,
    widths: Sequence[int] = (500, 2000),
    *,
    networks: int = 10,
    steps: int = 200,
    learning_rate: float | int = 1.0,
    samples: int = 100,
    key: jax.Array,
) -> KernelOnCircle:
    """The tangent kernel of finite networks on the unit circle, at initialisation and after training.

    `Θ_t(x_0, x)` for `x_0 = (1, 0)` and `x = (cos γ, sin γ)`. The networks learn `f*(x) = x_1 x_2` on normal random
    inputs, by gradient descent on `(1/2n) Σ (f − f*)²`. Wide networks agree on the kernel and hardly move it; narrow
    ones scatter, and training inflates it. The paper has widths 500 and 10,000, and leaves `samples` unsaid.

    In float32; memory is a few times the parameters of one network (0.8 GB at width 10,000).

    Args:
        build: the network of each width with one output, in the NTK parametrisation; by default the paper's.
        widths: as many as are wanted.
        networks: random networks of each width, at least 2.
        steps: of gradient descent.
        learning_rate: of the loss averaged over the samples, so that time is steps x learning_rate.
        samples: training inputs, the same for every network.
        key: for inputs and networks.

    Raises:
        ValueError: for arguments out of range.
        DivergenceError: for a learning rate that is too large.

    Source:
        Jacot, Gabriel & Hongler (2018), Neural tangent kernel, section 6.1, figure 1.

    >>> found = kernel_on_circle(widths=(8,), networks=2, steps=5, key=jax.random.key(0))
    >>> found.before.shape, found.limit.max().round(4)
    ((1, 2, 121), np.float64(0.2825))
    """
    who = "kernel_on_circle"
    check_experiment(who, widths, networks, 2)
    if samples < 1:
        raise ValueError(f"{who} needs at least 1 sample, got {samples}.")
    key_inputs, key_networks = jax.random.split(key)
    x = jax.random.normal(key_inputs, (samples, 2), np.float32)
    y = (x[:, 0] * x[:, 1])[:, None]
    angles, circle = _circle()
    x0 = jnp.asarray([[1.0, 0.0]], np.float32)
    done: list[np.ndarray] = []
    interrupted = False
    try:
        for width, drawn in _drawn(widths, networks, key_networks):
            network, rows = build(width), []
            for each in tracked(drawn, networks, f"training networks of width {width}"):
                start = network.init(each, x.shape)
                before = _kernel_row(network.apply, start, x0, circle)
                history = train(
                    network.apply,
                    start,
                    x,
                    y,
                    learning_rate=learning_rate,
                    steps=steps,
                    reduction="mean_points",
                    record=[steps],
                )
                if history.interrupted:
                    raise KeyboardInterrupt
                rows.append([before, _kernel_row(network.apply, history.params, x0, circle)])
            done.append(np.array(rows, dtype=np.float64))
    except KeyboardInterrupt:
        if not done:
            raise
        interrupted = True
    limit = NTK(build(int(widths[0])))(np.array([[1.0, 0.0]]), on_circle(angles))[0]
    found = np.stack(done)
    return KernelOnCircle(
        angles=angles,
        widths=np.array(widths[: len(done)], dtype=np.float64),
        before=found[:, :, 0],
        after=found[:, :, 1],
        limit=np.asarray(limit, np.float64),
        steps=steps,
        interrupted=interrupted,
    )


def functions_on_circle(
    build: Build = relu_network,
    widths: Sequence[int] = (50, 1000),
    *,
    train_angles: Sequence[float] = (-2.4, -0.9, 0.4, 1.9),
    targets: Sequence[float] = (0.3, -0.2, 0.4, -0.3),
    networks: int = 10,
    steps: int = 1000,
    learning_rate: float | int = 1.0,
    key: jax.Array,
) -> FunctionsOnCircle:
    """Networks trained on a few points of the unit circle, against the Gaussian law of infinitely wide ones.

    Gradient descent on `(1/2n) Σ (f − y)²`. In the limit the outputs after training are Gaussian (Lee et al. 2019,
    section 2.3): `gradient_descent(NTK(net), x, y, prior=NNGP(net), ...).after(steps)`. The paper shows the limit of
    infinitely many steps, from which 1000 are not far, and leaves the points and targets unsaid.

    Args:
        build: the network of each width with one output, in the NTK parametrisation; by default the paper's.
        widths: as many as are wanted.
        train_angles: of the training points.
        targets: as many.
        networks: random networks of each width, at least 2.
        steps: of gradient descent.
        learning_rate: of the loss averaged over the points.
        key: split into one key per network.

    Raises:
        ValueError: for arguments out of range.
        DivergenceError: for a learning rate that is too large.

    Source:
        Jacot, Gabriel & Hongler (2018), Neural tangent kernel, section 6.2, figure 2.

    >>> found = functions_on_circle(widths=(8,), networks=2, steps=5, key=jax.random.key(0))
    >>> found.outputs.shape, bool((found.quantile(0.9) > found.mean).all())
    ((1, 2, 121), True)
    """
    who = "functions_on_circle"
    check_experiment(who, widths, networks, 2)
    if len(train_angles) == 0 or len(train_angles) != len(targets):
        raise ValueError(
            f"{who} needs one target for each of at least one angle, got {len(train_angles)} angles and "
            f"{len(targets)} targets."
        )
    at, values = np.array(train_angles, dtype=np.float64), np.array(targets, dtype=np.float64)
    x, y = on_circle(at), values[:, None]
    angles, circle = _circle()
    done: list[np.ndarray] = []
    interrupted = False
    try:
        for number, width in enumerate(widths):
            network = build(int(width))
            ensemble = train_ensemble(
                network.apply,
                lambda each, network=network: network.init(each, x.shape),
                jax.random.fold_in(key, number),
                networks,
                x.astype(np.float32),
                y.astype(np.float32),
                watch=circle,
                learning_rate=learning_rate,
                steps=steps,
                reduction="mean_points",
                record=[steps],
            )
            if ensemble.interrupted:
                raise KeyboardInterrupt
            done.append(np.asarray(ensemble.outputs[-1, :, :, 0], dtype=np.float64))
    except KeyboardInterrupt:
        if not done:
            raise
        interrupted = True
    network = build(int(widths[0]))
    law = gradient_descent(
        NTK(network), x, y, prior=NNGP(network), learning_rate=learning_rate, reduction="mean_points"
    ).after(steps)
    points = on_circle(angles)
    return FunctionsOnCircle(
        angles=angles,
        widths=np.array(widths[: len(done)], dtype=np.float64),
        outputs=np.stack(done),
        mean=np.asarray(law.mean(points)[:, 0], np.float64),
        std=np.asarray(law.std(points), np.float64),
        train_angles=at,
        targets=values,
        steps=steps,
        interrupted=interrupted,
    )


def on_circle(angles: Float[np.ndarray, " m"]) -> Float[np.ndarray, "m 2"]:
    """The points (cos γ, sin γ)."""
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _circle() -> tuple[np.ndarray, jax.Array]:
    angles = np.linspace(-np.pi, np.pi, CIRCLE)
    return angles, jnp.asarray(on_circle(angles), np.float32)


def _drawn(widths: Sequence[int], networks: int, key: jax.Array) -> Iterator[tuple[int, jax.Array]]:
    """Each width with a key for each of its networks."""
    for number, width in enumerate(widths):
        yield int(width), jax.random.split(jax.random.fold_in(key, number), networks)


@partial(jax.jit, static_argnums=0)
def _kernel_row(f: Function, params: Params, x0: jax.Array, x: jax.Array) -> jax.Array:
    """`Θ(x_0, x) = J(x) J(x_0)ᵀ` for one output: a derivative along the gradient at x_0, without a Jacobian."""
    outputs, pull_back = jax.vjp(lambda parameters: f(parameters, x0), params)
    (gradient,) = pull_back(jnp.ones_like(outputs))
    _, change = jax.jvp(lambda parameters: f(parameters, x), (params,), (gradient,))
    return change[:, 0]


def _rms(values: Any) -> Any:
    """Root mean square over networks and angles, for each width."""
    return np.sqrt(np.square(values).mean(axis=(1, 2)))
