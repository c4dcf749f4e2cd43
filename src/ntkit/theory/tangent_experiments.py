"""Experiments with finite networks: how the tangent kernel fluctuates at initialisation and moves in training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkit.empirical import EmpiricalNTK
from ntkit.engines.plan import tracked
from ntkit.kernels import NTK
from ntkit.nn.base import Layer
from ntkit.numerics.dtypes import Array, as_points, as_targets, precision
from ntkit.numerics.host import on_host
from ntkit.theory.experiments import Build, check_experiment, over_networks
from ntkit.theory.power_law import PowerLaw, fit_power_law

Measure = Callable[[Layer, jax.Array], Callable[[Any], jax.Array]]
"""From a network and points to what is measured at its parameters, a pure function of them."""


@dataclass(frozen=True, eq=False)
class KernelDeviation:
    """Relative distances between Gram matrices of tangent kernels, over random networks of several widths.

    Attributes:
        widths: shape (w,); fewer than asked for only when interrupted.
        deviations: Frobenius norm of the difference divided by that of the reference, shape (w, networks).
        interrupted: whether Ctrl-C ended the experiment early.
    """

    widths: Float[np.ndarray, " w"]
    deviations: Float[np.ndarray, "w networks"]
    interrupted: bool

    @property
    def mean(self) -> Float[np.ndarray, " w"]:
        """The mean over networks."""
        return self.deviations.mean(axis=1)

    @property
    def standard_error(self) -> Float[np.ndarray, " w"]:
        """The standard error of `mean`."""
        return self.deviations.std(axis=1, ddof=1) / self.deviations.shape[1] ** 0.5

    def decay(self) -> PowerLaw:
        """`mean` as a power of the width, weighted by the standard errors.

        Raises:
            ValueError: for fewer than 2 widths.
        """
        return fit_power_law(self.widths, self.mean, self.standard_error, who="KernelDeviation.decay")


def kernel_fluctuation(
    build: Build,
    x: Float[Array, "n d"],
    widths: Sequence[int] = (32, 64, 128, 256),
    *,
    networks: int = 50,
    key: jax.Array,
) -> KernelDeviation:
    """How far the tangent kernel of a random network is from its infinite-width limit: `‖Θ_θ − Θ‖_F / ‖Θ‖_F`.

    It falls like `width^(-1/2)`.

    Args:
        build: the network of each width, in the NTK parametrisation.
        x: points, shape (n, d); a few are enough.
        widths: each compiles one program.
        networks: random networks of each width, at least 2.
        key: split into one key per network.

    Source:
        Jacot, Gabriel & Hongler (2018), Neural tangent kernel, theorem 1; Huang & Yau (2020), Dynamics of deep neural
        networks and neural tangent hierarchy, theorem 2.1.

    >>> from ntkit import nn
    >>> result = kernel_fluctuation(
    ...     lambda width: nn.Serial(nn.Dense(width), nn.Relu(), nn.Dense(1)),
    ...     np.eye(2, dtype=np.float32), (16, 256), networks=20, key=jax.random.key(0))
    >>> -0.8 < result.decay().exponent < -0.2
    True
    """
    x = as_points("kernel_fluctuation", x)

    def measure(network: Layer, points: jax.Array) -> Callable[[Any], jax.Array]:
        limit = jnp.asarray(NTK(network)(np.asarray(x)))

        def deviation(params: Any) -> jax.Array:
            return _relative(EmpiricalNTK(network.apply, params)(points), limit)

        return deviation

    return _deviations("kernel_fluctuation", build, x, measure, widths, networks, key)


def kernel_motion(
    build: Build,
    x: Float[Array, "n d"],
    y: Float[Array, "n k"],
    widths: Sequence[int] = (32, 64, 128, 256),
    *,
    steps: int = 100,
    learning_rate: float | int | None = None,
    networks: int = 20,
    key: jax.Array,
) -> KernelDeviation:
    """How far training moves the tangent kernel: `‖Θ_after − Θ_before‖_F / ‖Θ_before‖_F`.

    Full-batch gradient descent on the summed loss `½ Σ ‖f(x) − y‖²`. The motion is bounded by a multiple of
    `width^(-1/2)`, which is why wide networks train as if linear; for smooth networks it falls faster, like 1/width.

    Args:
        build: the network of each width, in the NTK parametrisation.
        x: training inputs, shape (n, d).
        y: targets, shape (n, k), k as many as the network has outputs.
        widths: each compiles one program.
        steps: of gradient descent.
        learning_rate: by default 1 / (largest eigenvalue of the infinite-width tangent kernel).
        networks: random networks of each width, at least 2.
        key: split into one key per network.

    Raises:
        ValueError: also when a training diverges.

    Source:
        Lee et al. (2019), Wide neural networks of any depth evolve as linear models, figure S6; Huang & Yau (2020).
    """
    who = "kernel_motion"
    x = as_points(who, x)
    y = as_targets(who, y, len(x))
    if steps < 1:
        raise ValueError(f"{who} needs at least 1 step, got {steps}.")
    rate = stable_rate(who, build, x, widths, learning_rate, share=1.0)

    def measure(network: Layer, points: jax.Array) -> Callable[[Any], jax.Array]:
        targets = jnp.asarray(np.asarray(y), points.dtype)

        def loss(params) -> jax.Array:
            return jnp.sum(jnp.square(network.apply(params, points) - targets)) / 2.0

        def step(_, params):
            return jax.tree_util.tree_map(lambda p, g: p - rate * g, params, jax.grad(loss)(params))

        def motion(params: Any) -> jax.Array:
            before, after = (
                EmpiricalNTK(network.apply, current)(points)
                for current in (params, jax.lax.fori_loop(0, steps, step, params))
            )
            return _relative(after, before)

        return motion

    return _deviations(who, build, x, measure, widths, networks, key)


def _relative(gram: Array, reference: Array) -> jax.Array:
    return jnp.linalg.norm(gram - reference) / jnp.linalg.norm(reference)


def _deviations(
    who: str,
    build: Build,
    x: Array,
    measure: Measure,
    widths: Sequence[int],
    networks: int,
    key: jax.Array,
) -> KernelDeviation:
    """Run one experiment on tangent kernels; a Jacobian holds the parameters once for every point and output."""
    return KernelDeviation(*at_widths(who, build, x, measure, widths, networks, key, copies=2 * len(x)))


def at_widths(
    who: str,
    build: Build,
    x: Array,
    measure: Measure,
    widths: Sequence[int],
    networks: int,
    key: jax.Array,
    copies: int,
) -> tuple[Float[np.ndarray, " w"], Float[np.ndarray, "w networks *shape"], bool]:
    """Measure random networks of each width: the widths done, what was found, and whether Ctrl-C came between.

    `measure` holds `copies` times the parameters of a network.
    """
    check_experiment(who, widths, networks, 2)
    collected: list[np.ndarray] = []
    interrupted = False
    with precision(x.dtype):
        try:
            for number, width in enumerate(tracked(widths, len(widths), "measuring random networks")):
                network, points = build(int(width)), jnp.asarray(x)
                keys = jax.random.split(jax.random.fold_in(key, number), networks)
                found = over_networks(network, points.shape, measure(network, points), keys, copies)
                if not np.isfinite(found).all():
                    raise ValueError(
                        f"{who} needs networks that stay finite, got {found[~np.isfinite(found)][0]} at width {width}. "
                        "A training that diverges needs a smaller learning_rate."
                    )
                collected.append(found)
        except KeyboardInterrupt:
            if not collected:
                raise
            interrupted = True
    return np.array(widths[: len(collected)], dtype=np.float64), np.stack(collected), interrupted


def stable_rate(
    who: str, build: Build, x: Array, widths: Sequence[int], learning_rate: float | int | None, share: float
) -> float:
    """The learning rate asked for, checked; by default a share of 1 / (largest eigenvalue of the limiting kernel)."""
    if learning_rate is None:
        check_experiment(who, widths, 2, 2)
        gram = on_host(NTK(build(int(widths[0])))(x))
        learning_rate = share / float(np.linalg.eigvalsh(gram)[-1])
    if not (np.isfinite(learning_rate) and learning_rate > 0):
        raise ValueError(f"{who} needs a positive, finite learning_rate, got {learning_rate}.")
    return float(learning_rate)
