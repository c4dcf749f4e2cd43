"""Where a network lies between order and chaos: what more layers like its own would do to signals and gradients."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ntkit.errors import KernelUndefinedError
from ntkit.kernels import NNGP
from ntkit.nn import Dense, Flatten, Scale, Serial
from ntkit.nn.activations.base import Activation
from ntkit.nn.base import Layer
from ntkit.theory.phase import Phase, phase


@dataclass(frozen=True)
class DepthLimit:
    """The phase of a network's repeated layer.

    Attributes:
        depth: hidden layers of the network.
        phase: what many layers like its last hidden one do; None where that has no answer.
        reason: why there is no phase, in words; empty where there is one.
    """

    depth: int
    phase: Phase | None
    reason: str = ""


def depth_limit(network: Layer, x: Float[np.ndarray, "n *d"]) -> DepthLimit:
    """The phase of the layers of a network, at the variance that its first layer gives the data on average.

    The first layer may have scales of its own: it only sets the variance that deeper layers start from.

    >>> from ntkit import nn
    >>> layer = (nn.Dense(64, 1.2), nn.Erf())
    >>> depth_limit(nn.Serial(*layer, *layer, nn.Dense(1)), np.eye(3)).phase.label
    'chaotic'
    """
    layers = network.layers if isinstance(network, Serial) else (network,)
    dense = [position for position, layer in enumerate(layers) if isinstance(layer, Dense)]
    hidden = [position for position in dense if position != len(layers) - 1]
    depth = len(hidden)
    plain = all(isinstance(layer, Dense | Activation | Scale | Flatten) for layer in layers)
    if not plain:
        return DepthLimit(depth, None, "it is not a plain sequence of dense layers and activations")
    if depth == 0:
        return DepthLimit(0, None, "the network has no hidden layer")
    found = [(layers[position], layers[position + 1]) for position in hidden]
    repeated = found[1:] or found
    activations, scales = {repr(second) for _, second in found}, {_scales(first) for first, _ in repeated}
    if len(activations) > 1 or len(scales) > 1:
        return DepthLimit(depth, None, "its hidden layers differ, so no single layer is repeated")
    (w_std, b_std), activation = scales.pop(), found[0][1]
    regular = [*range(hidden[0], hidden[0] + 2 * depth, 2)] == hidden
    if not (isinstance(activation, Activation) and regular):
        return DepthLimit(depth, None, "it is not a plain sequence of dense layers and activations")
    variance = float(np.mean(np.asarray(NNGP(Serial(*layers[: hidden[0] + 1])).diag(x))))
    if not variance > 0.0:
        return DepthLimit(depth, None, "its first layer makes all signals zero")
    try:
        return DepthLimit(depth, phase(activation, w_std, b_std, variance))
    except KernelUndefinedError:
        return DepthLimit(depth, None, f"{activation!r} jumps, so gradients have no scale")


def _scales(layer: Layer) -> tuple[float, float]:
    """A dense layer's standard deviations of weights and biases."""
    assert isinstance(layer, Dense)
    return float(layer.w_std), float(layer.b_std)
