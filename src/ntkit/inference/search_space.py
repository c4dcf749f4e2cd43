"""The networks that hyper-parameter selection searches: which numbers vary, where they start, how far they go."""

import inspect
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkit import nn
from ntkit.kernels.base import Kernel
from ntkit.kernels.infinite import NNGP, NTK
from ntkit.nn.activations.base import Activation
from ntkit.nn.base import Layer
from ntkit.numerics.dtypes import Array, at_once, precision

KernelName = Literal["nngp", "ntk"]


def activation_named(activation: str | Activation) -> Activation:
    """The activation of a name: a class of `ntkit.nn` in any case, with its default arguments.

    Raises:
        ValueError: listing the names there are.

    Example:
        >>> activation_named("relu")
        Relu()
    """
    if isinstance(activation, Activation):
        return activation
    classes = {
        name.lower(): value
        for name, value in vars(nn).items()
        if isinstance(value, type) and issubclass(value, Activation) and not inspect.isabstract(value)
    }
    named = {name: cls for name, cls in classes.items() if not _required_arguments(cls)}
    if activation.lower() not in named:
        raise ValueError(
            f"An activation needs to be an activation layer or one of {', '.join(sorted(named))}, got {activation!r}."
        )
    return named[activation.lower()]()


def _required_arguments(cls: type) -> list[str]:
    parameters = inspect.signature(cls).parameters.values()
    return [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]


@dataclass(frozen=True)
class Candidate:
    """What cannot be varied continuously: depth, activation, kernel, and whether each feature has a scale.

    Attributes:
        depth: number of hidden layers, at least 0.
        activation: the activation after every hidden layer.
        kernel: "nngp" or "ntk".
        ard: whether a `Scale` with one factor per feature stands in front.
    """

    depth: int
    activation: Activation
    kernel: KernelName
    ard: bool = False

    def __post_init__(self) -> None:
        if self.depth < 0:
            raise ValueError(f"A candidate network needs a depth of at least 0, got {self.depth}.")
        if self.kernel not in ("nngp", "ntk"):
            raise ValueError(f'A candidate needs kernel "nngp" or "ntk", got {self.kernel!r}.')

    def __str__(self) -> str:
        scales = " with feature scales" if self.ard else ""
        layers = f"{self.depth} {type(self.activation).__name__} layer{'' if self.depth == 1 else 's'}"
        return f"{self.kernel.upper()} of {layers}{scales}"

    @cached_property
    def second_moment(self) -> float:
        """`E[phi(z)^2]` for a standard normal z, to set sensible scales (not accurate for kinks)."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(80)
        return max(float(weights @ self._values(nodes) ** 2 / weights.sum()), 1e-12)

    @cached_property
    def homogeneous(self) -> bool:
        """Whether `phi(c x) = c phi(x)` for c > 0: then the scale of hidden layers is not identifiable."""
        points = np.array([-3.0, -1.0, -0.3, 0.4, 1.0, 2.0])
        return bool(np.allclose(self._values(2.0 * points), 2.0 * self._values(points), rtol=1e-12, atol=0.0))

    def _values(self, points: np.ndarray) -> np.ndarray:
        # The numbers are needed while the network they belong to is being traced.
        with precision(np.float64), at_once():
            return np.asarray(self.activation(jnp.asarray(points)))


@dataclass(frozen=True)
class Parameter:
    """One positive hyper-parameter, searched in its logarithm, with its log-normal prior.

    Attributes:
        name: what it is.
        centre: median of the prior.
        spread: standard deviation of the logarithm under the prior.
        lower: smallest value tried.
        upper: largest value tried.
    """

    name: str
    centre: float
    spread: float
    lower: float
    upper: float


@dataclass(frozen=True)
class NetworkFamily:
    """The kernels of one candidate as a function of a vector of positive numbers.

    The first hidden layer has its own `w_std` and `b_std` (they set the length scale), the deeper
    hidden layers share one pair, and the readout has its own (they set the output's scale). Positively
    homogeneous activations (ReLU and relatives) have redundant scales: multiplying a layer's `w_std`
    and `b_std` only multiplies what follows, so every hidden `w_std` is fixed at the critical
    `1/sqrt(E[phi(z)^2])`, where the variance neither grows nor shrinks with depth, and the biases
    and the readout cover every kernel of such a network with common biases. Equal families share
    compiled programs, so nothing of the data is part of one but its dimensions.

    Attributes:
        candidate: depth, activation, kernel and feature scales.
        features: input dimension.
        outputs: number of outputs of the network.
        width: width of the hidden layers, which infinite networks do not feel.
    """

    candidate: Candidate
    features: int
    outputs: int
    width: int

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The parameters in the order of the vector; the noise variance comes right after the network's."""
        free = () if self.candidate.homogeneous else ("w_std",)
        places = ("input", "hidden")[: self.candidate.depth]
        layers = [f"{place} {std}" for place in places for std in (*free, "b_std")]
        scales = [f"scale {i}" for i in range(self.features if self.candidate.ard else 0)]
        return (*layers, "readout w_std", "readout b_std", "noise", *scales)

    def network(self, values: Float[Array, " p"]) -> nn.Serial:
        """The network with the given parameters."""
        value: dict[str, Any] = {name: values[i] for i, name in enumerate(self.names)}
        critical = self.candidate.second_moment**-0.5
        layers: list[Layer] = []
        if self.candidate.ard:
            layers.append(nn.Scale(values[len(self.names) - self.features :]))
        for hidden in range(self.candidate.depth):
            place = "hidden" if hidden else "input"
            w_std = value.get(f"{place} w_std", critical)
            layers += [nn.Dense(self.width, w_std, value[f"{place} b_std"]), self.candidate.activation]
        return nn.Serial(*layers, nn.Dense(self.outputs, value["readout w_std"], value["readout b_std"]))

    def __call__(self, values: Float[Array, " p"]) -> Kernel:
        """The kernel with the given parameters."""
        network = self.network(values)
        return NNGP(network) if self.candidate.kernel == "nngp" else NTK(network)


@dataclass(frozen=True)
class SearchSpace:
    """Weak priors and bounds for the parameters of a family, in units of the data's root mean squares.

    Rescaling inputs or targets therefore rescales the search with them. Search coordinates are the
    parameters' logarithms, standardised: under the prior they are independent standard normals. The
    prior decides where the data do not, e.g. between the many `w_std` at which a network is nearly linear.

    Attributes:
        family: the kernels searched.
        input_scale: root mean square of the inputs.
        target_scale: root mean square of the targets.
    """

    family: NetworkFamily
    input_scale: float
    target_scale: float

    @property
    def candidate(self) -> Candidate:
        """Depth, activation, kernel and feature scales."""
        return self.family.candidate

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters' names, in order."""
        return self.family.names

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The hyper-parameters in the order of the vector."""
        depth, fixed = self.candidate.depth, self.candidate.homogeneous
        critical = self.candidate.second_moment**-0.5
        target, unit = self.target_scale, self.input_scale
        # Pre-activations have the inputs' scale when homogeneous; otherwise they start at scale 1.
        inner = unit * critical if fixed else 1.0
        features = unit if fixed or depth == 0 else 1.0 / critical
        # The tangent kernel sums about one term of the covariance's size over the depth + 1 layers.
        layers = depth + 1.0 if self.candidate.kernel == "ntk" else 1.0
        known = {
            "input w_std": (1.0 / unit, 0.7, 1e-2, 30.0),
            "input b_std": (0.3 * inner, 1.0, 1e-3, 30.0),
            "hidden w_std": (critical, 0.5, 0.1, 10.0),
            "hidden b_std": (0.3 * inner, 1.0, 1e-3, 30.0),
            "readout w_std": (target / features / math.sqrt(layers), 0.7, 1e-3, 1e2),
            "readout b_std": (0.1 * target, 1.0, 1e-2, 30.0),
            "noise": (0.1 * target**2, 1.5, 1e-5, 40.0),
        }
        rows = [(name, *known.get(name, (1.0, 1.0, 1e-3, 30.0))) for name in self.names]
        return tuple(Parameter(name, c, spread, c * low, c * high) for name, c, spread, low, high in rows)

    @cached_property
    def bounds(self) -> list[tuple[float, float]]:
        """Bounds in search coordinates."""
        lower = self.coordinates(np.array([p.lower for p in self.parameters]))
        upper = self.coordinates(np.array([p.upper for p in self.parameters]))
        return list(zip(lower.tolist(), upper.tolist(), strict=True))

    def start(self, rng: np.random.Generator, number: int) -> Float[np.ndarray, " p"]:
        """Search coordinates to start from: the centre first, then draws; feature scales always start at 1."""
        draw = rng.normal(size=len(self.parameters)) if number else np.zeros(len(self.parameters))
        scaled = [name.startswith("scale") for name in self.names]
        lower, upper = np.array(self.bounds).T
        return np.clip(np.where(scaled, 0.0, draw), lower, upper)

    def log_prior(self, coordinates: Float[np.ndarray, " p"]) -> float:
        """Log density of the prior, up to a constant: `-1/2 |coordinates|^2`."""
        return -0.5 * float(coordinates @ coordinates)

    def values(self, coordinates: Float[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
        """Positive parameters from search coordinates."""
        return np.exp(self._centre + self.spread * coordinates)

    def coordinates(self, values: Float[np.ndarray, " p"]) -> Float[np.ndarray, " p"]:
        """The inverse of `values`."""
        return (np.log(values) - self._centre) / self.spread

    def carried(self, other: "SearchSpace", coordinates: Float[np.ndarray, " q"]) -> Float[np.ndarray, " p"]:
        """The point of this space with the parameters of a point of `other`, feature scales at 1 if it has none."""
        known = dict(zip(other.names, other.values(coordinates), strict=True))
        values = np.array([known.get(p.name, p.centre) for p in self.parameters])
        return np.clip(self.coordinates(values), *np.array(self.bounds).T)

    @cached_property
    def _centre(self) -> np.ndarray:
        return np.log([p.centre for p in self.parameters])

    @cached_property
    def spread(self) -> Float[np.ndarray, " p"]:
        """`d log(parameter) / d coordinate`."""
        return np.array([p.spread for p in self.parameters])
