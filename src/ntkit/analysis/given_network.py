"""A network that the user named: what is left to choose are its readout's scale, the noise, and NNGP or NTK."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh
from scipy.optimize import minimize_scalar

from ntkit.analysis.threads import suited_to
from ntkit.inference.search_space import KernelName
from ntkit.model.network_kernels import NetworkKernels
from ntkit.nn import Dense, Serial

SMALLEST_RATIO, LARGEST_RATIO = 1e-8, 1e2
"""Range of the noise, relative to the mean variance of the function."""

TOLERANCE = 0.01
"""The logarithm of the noise is found to this accuracy, finer than such an estimate can be."""


@dataclass(frozen=True, eq=False)
class GivenNetwork:
    """A named network with the readout and the noise under which the targets are most probable.

    Attributes:
        name: as the user gave it.
        network: the network, its readout scaled.
        kernel: the kernel with the larger log marginal likelihood.
        noise: variance of the observation noise.
        values: the log marginal likelihood of each kernel tried, in nats, summed over points and outputs.
        points: training points.
        seconds: wall time used.
    """

    name: str
    network: Serial
    kernel: KernelName
    noise: float
    values: tuple[tuple[KernelName, float], ...]
    points: int
    seconds: float


def choose_readout(
    name: str,
    network: Serial,
    kernels: NetworkKernels,
    y: Float[np.ndarray, "n k"],
    names: Sequence[KernelName],
) -> tuple[GivenNetwork, NetworkKernels]:
    """Scale the last layer's weights, and choose noise and kernel, by the marginal likelihood.

    Args:
        name: the network's name.
        network: the network; ends in a `Dense` layer without biases, as those of `ntkit.zoo` do.
        kernels: its stored kernels.
        y: encoded targets.
        names: the kernels to choose among.

    Returns:
        The choice, and the kernels of the scaled network.
    """
    began = time.perf_counter()
    found: dict[KernelName, tuple[float, float, float]] = {
        kernel: scale_and_noise(np.asarray(kernels.named(kernel)(kernels.train)), y) for kernel in names
    }
    best = max(names, key=lambda kernel: found[kernel][2])
    scale, noise, _ = found[best]
    readout = network.layers[-1]
    assert isinstance(readout, Dense)
    w_std = float(readout.w_std) * scale**0.5
    # The factor as the saved network has it, to the last digit.
    kernels = kernels.scaled((w_std / float(readout.w_std)) ** 2)
    chosen = GivenNetwork(
        name=name,
        network=Serial(*network.layers[:-1], replace(readout, w_std=w_std)),
        kernel=best,
        noise=noise,
        values=tuple((kernel, value) for kernel, (_, _, value) in found.items()),
        points=len(y),
        seconds=time.perf_counter() - began,
    )
    return chosen, kernels


def scale_and_noise(
    gram: Float[np.ndarray, "n n"], y: Float[np.ndarray, "n k"]
) -> tuple[float, float, float]:
    """The factor s and the noise r of `s K + r I` with the greatest log marginal likelihood, and its value.

    With `r = s q` the best s is known, `s(q) = (1 / n k) sum_i |u_i^T y|^2 / (λ_i + q)` in the eigenbasis of K, so that
    a single number is searched for (Rasmussen and Williams 2006, equation 2.30).
    """
    with suited_to(len(gram)):
        eigenvalues, eigenvectors = eigh(gram)
        squares = np.sum((eigenvectors.T @ y) ** 2, axis=1)
    eigenvalues = np.clip(eigenvalues, 0.0, None)
    points, outputs = y.shape

    def best_scale(ratio: float) -> float:
        return float(np.sum(squares / (eigenvalues + ratio))) / (points * outputs)

    def loss(logarithm: float) -> float:
        ratio = float(np.exp(logarithm))
        return points * np.log(best_scale(ratio)) + float(np.log(eigenvalues + ratio).sum())

    unit = float(eigenvalues.mean())
    search = minimize_scalar(
        loss,
        bounds=(np.log(SMALLEST_RATIO * unit), np.log(LARGEST_RATIO * unit)),
        method="bounded",
        options={"xatol": TOLERANCE},
    )
    ratio = float(np.exp(search.x))
    value = -0.5 * outputs * (float(search.fun) + points * (1.0 + np.log(2.0 * np.pi)))
    return best_scale(ratio), best_scale(ratio) * ratio, float(value)
