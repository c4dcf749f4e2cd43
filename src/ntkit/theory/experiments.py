"""Experiments with finite random networks: how their outputs become Gaussian as the width grows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Float

from ntkit.engines.plan import tracked
from ntkit.kernels import NNGP
from ntkit.nn.base import Layer
from ntkit.numerics.dtypes import Array, as_points, precision
from ntkit.theory.power_law import PowerLaw, fit_power_law

Build = Callable[[int], Layer]
"""Builds the network of a given width, e.g. `lambda width: Serial(Dense(width), Relu(), Dense(1))`."""

BATCH_BYTES = 1 << 26
"""Memory for the parameters of networks that are drawn at a time."""

TOLD_APART = 3.0
"""Only statistics of at least this many standard errors enter a fit of their decay."""


@dataclass(frozen=True, eq=False)
class OutputDistribution:
    """One output at one input over random networks of several widths.

    Attributes:
        widths: shape (w,); fewer than asked for only when interrupted.
        outputs: divided by the infinite-width standard deviation, shape (w, networks).
        std: the infinite-width standard deviation, the root of the NNGP kernel.
        interrupted: whether Ctrl-C ended the experiment early.
    """

    widths: Float[np.ndarray, " w"]
    outputs: Float[np.ndarray, "w networks"]
    std: float
    interrupted: bool

    @property
    def variance(self) -> Float[np.ndarray, " w"]:
        """The mean square of the scaled outputs, about 1."""
        return np.square(self.outputs).mean(axis=1)

    @property
    def variance_standard_error(self) -> Float[np.ndarray, " w"]:
        """The standard error of `variance`."""
        return np.square(self.outputs).std(axis=1, ddof=1) / self.outputs.shape[1] ** 0.5

    @property
    def excess_kurtosis(self) -> Float[np.ndarray, " w"]:
        """`E[f⁴] / E[f²]² − 3`, which is 0 for a Gaussian and of order 1/width for a network."""
        return (self.outputs**4).mean(axis=1) / self.variance**2 - 3.0

    @property
    def kurtosis_standard_error(self) -> Float[np.ndarray, " w"]:
        """The standard error of `excess_kurtosis`, by the delta method."""
        second, fourth = self.variance[:, None], (self.outputs**4).mean(axis=1)[:, None]
        influence = self.outputs**4 / second**2 - 2.0 * fourth * self.outputs**2 / second**3
        return influence.std(axis=1, ddof=1) / self.outputs.shape[1] ** 0.5

    @property
    def distance(self) -> Float[np.ndarray, " w"]:
        """Kolmogorov's distance to the limit, `max |F(t) − Φ(t)|`."""
        return np.array([scipy.stats.kstest(row, "norm").statistic for row in self.outputs])

    @property
    def smallest_distance(self) -> float:
        """What `distance` stays below with probability 0.95 for a sample of the limit itself (Massart 1990)."""
        return float(np.sqrt(np.log(2.0 / 0.05) / (2.0 * self.outputs.shape[1])))

    def kurtosis_decay(self) -> PowerLaw:
        """The excess kurtosis as a power of the width, expected -1, through the widths that tell it from 0.

        Raises:
            ValueError: when fewer than 2 widths do; draw more networks, or narrower ones.
        """
        told = self.excess_kurtosis > TOLD_APART * self.kurtosis_standard_error
        return fit_power_law(
            self.widths[told],
            self.excess_kurtosis[told],
            self.kurtosis_standard_error[told],
            who="OutputDistribution.kurtosis_decay",
        )


def output_distribution(
    build: Build,
    x: Float[Array, "n d"],
    widths: Sequence[int] = (4, 8, 16, 32, 64),
    *,
    networks: int = 20_000,
    key: jax.Array,
) -> OutputDistribution:
    """The distribution of a network's first output at initialisation, against width: the central limit theorem.

    At infinite width it is `N(0, Σ(x, x))`. At finite width it is a Gaussian of random variance, whose excess kurtosis
    falls like 1/width; for one hidden layer of ReLU without biases it is exactly 15 / width.

    Args:
        build: the network of each width.
        x: one input, n = 1.
        widths: increasing or not; each compiles one program.
        networks: random networks of each width, at least 100.
        key: split into one key per network.

    Raises:
        ValueError: for more than one input, too few networks, or a network whose outputs vanish.

    Source:
        Neal (1996), Bayesian learning for neural networks, chapter 2; Hanin (2023), Random neural networks in the
        infinite width limit as Gaussian processes.

    >>> from ntkit import nn
    >>> result = output_distribution(
    ...     lambda width: nn.Serial(nn.Dense(width), nn.Relu(), nn.Dense(1)),
    ...     np.ones((1, 2), np.float32), (2, 32), networks=1000, key=jax.random.key(0))
    >>> bool(result.excess_kurtosis[0] > 3 > result.excess_kurtosis[1])
    True
    """
    who = "output_distribution"
    x = as_points(who, x)
    if len(x) != 1:
        raise ValueError(f"{who} needs one input, shape (1, d), got {len(x)}. Use x[:1].")
    check_experiment(who, widths, networks, 100)
    variance = float(NNGP(build(int(widths[0]))).diag(x)[0])
    if variance <= 0.0:
        raise ValueError(f"{who} needs a network whose outputs vary, got a limiting variance of {variance}.")
    collected: list[np.ndarray] = []
    interrupted = False
    with precision(x.dtype):
        try:
            for number, width in enumerate(tracked(widths, len(widths), "drawing random networks")):
                network, point = build(int(width)), jnp.asarray(x)

                def output(params: Any, network=network, point=point) -> jax.Array:
                    return network.apply(params, point)[0, 0]

                keys = jax.random.split(jax.random.fold_in(key, number), networks)
                collected.append(over_networks(network, point.shape, output, keys))
        except KeyboardInterrupt:
            if not collected:
                raise
            interrupted = True
    return OutputDistribution(
        widths=np.array(widths[: len(collected)], dtype=np.float64),
        outputs=np.stack(collected) / variance**0.5,
        std=variance**0.5,
        interrupted=interrupted,
    )


def check_experiment(who: str, widths: Sequence[int], networks: int, fewest: int) -> None:
    """Raise for widths below 1, none at all, or too few networks for a standard error."""
    if len(widths) == 0 or min(widths) < 1:
        raise ValueError(f"{who} needs widths of at least 1, got {tuple(widths)}.")
    if networks < fewest:
        raise ValueError(f"{who} needs at least {fewest} networks of each width, got {networks}.")


def over_networks(
    network: Layer,
    input_shape: tuple[int, ...],
    measure: Callable[[Any], jax.Array],
    keys: jax.Array,
    copies: int = 1,
) -> Float[np.ndarray, "networks *shape"]:
    """`measure(params)` of the network drawn from every key, in float64 NumPy: one program for all.

    As many networks at a time as memory allows: `measure` holds `copies` times their parameters. They are drawn one
    after the other, which takes XLA a third of the time to compile, and measured together.
    """

    def draw(key: jax.Array) -> Any:
        return network.init(key, input_shape)

    shapes = jax.tree_util.tree_leaves(jax.eval_shape(draw, keys[0]))
    numbers = max(1, sum(int(np.prod(leaf.shape)) for leaf in shapes))
    batch = int(max(1, min(len(keys), BATCH_BYTES // (8 * copies * numbers))))
    batched = jax.jit(lambda part: jax.vmap(measure)(jax.lax.map(draw, part)))
    found = []
    for start in range(0, len(keys), batch):
        part = keys[start : start + batch]
        # The last part is filled up, so that it runs the same program.
        filled = jnp.concatenate([part, keys[: batch - len(part)]]) if len(part) < batch else part
        found.append(np.array(batched(filled), dtype=np.float64)[: len(part)])
    return np.concatenate(found)
