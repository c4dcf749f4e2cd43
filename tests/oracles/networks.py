"""NNGP and NTK of dense networks of any depth from raw inputs, in 100-digit arithmetic.

The recursion, for a layer with input covariance Σ and input tangent kernel Θ (Σ = x·x'/d, Θ = 0 at
the start):

    dense, NTK parametrisation       Σ' = w² Σ + b²,  Θ' = Σ' + w² Θ              (Jacot et al. 2018)
    dense, standard parametrisation  Σ' = w² Σ + b²,  Θ' = n Σ + [b ≠ 0] + w² Θ   (Sohl-Dickstein et al. 2020)
    activation                       Σ' = E[φφ],      Θ' = Θ E[φ'φ']

with n the number of the layer's inputs: the features, then the declared width of the dense layer before.
"""

from dataclasses import dataclass
from fractions import Fraction

from tests.oracles.arithmetic import exact, mp
from tests.oracles.duals import Oracle


@dataclass(frozen=True)
class Dense:
    """A fully connected layer."""

    width: int
    w_std: float = 1.0
    b_std: float = 0.0
    parametrization: str = "ntk"


@dataclass(frozen=True)
class Scale:
    """Multiplies feature i of the input by `scales[i]`."""

    scales: tuple[float, ...]


@dataclass(frozen=True)
class Pair:
    """Both kernels of a pair of inputs, and of each input with itself."""

    nngp: object
    ntk: object
    nngp1: object
    nngp2: object
    ntk1: object
    ntk2: object

    @property
    def nngp_scale(self):
        """`sqrt(Σ(x,x) Σ(x',x'))`, what an error of the NNGP is relative to."""
        return mp.sqrt(self.nngp1 * self.nngp2)

    @property
    def ntk_scale(self):
        """`sqrt(Θ(x,x) Θ(x',x'))`."""
        return mp.sqrt(self.ntk1 * self.ntk2)


def inner_product(x1, x2, scales):
    """`Σ_i s_i² x_i x'_i / d`, rational arithmetic until the end."""
    total = sum(
        (
            Fraction(float(s)) ** 2 * Fraction(float(a)) * Fraction(float(b))
            for s, a, b in zip(scales, x1, x2, strict=True)
        ),
        Fraction(0),
    )
    return exact(total / len(x1))


def pair(layers, x1, x2) -> Pair:
    """Both kernels of the network at the inputs `x1`, `x2` (sequences of floats, taken as exact)."""
    scales = [1.0] * len(x1)
    if layers and isinstance(layers[0], Scale):
        scales, layers = layers[0].scales, layers[1:]
    covariances = [inner_product(a, b, scales) for a, b in ((x1, x2), (x1, x1), (x2, x2))]
    same = covariances[0] == covariances[1] == covariances[2]
    tangents = [mp.zero] * 3
    fan_in = len(x1)
    for layer in layers:
        if isinstance(layer, Dense):
            w2, b2 = exact(layer.w_std) ** 2, exact(layer.b_std) ** 2
            after = [w2 * value + b2 for value in covariances]
            if layer.parametrization == "ntk":
                own = after
            else:
                own = [fan_in * value + (1 if layer.b_std else 0) for value in covariances]
            tangents = [first + w2 * second for first, second in zip(own, tangents, strict=True)]
            covariances, fan_in = after, layer.width
        else:
            covariances, tangents = _activate(layer, covariances, tangents, same)
    return Pair(covariances[0], tangents[0], *covariances[1:], *tangents[1:])


def _activate(oracle: Oracle, covariances, tangents, same):
    k, q1, q2 = covariances
    arguments = [(q1, q1, q1)] if same else [(k, q1, q2), (q1, q1, q1), (q2, q2, q2)]
    after = [oracle.dual(*argument) for argument in arguments]
    if oracle.derivative is None:
        slopes = [mp.nan] * len(arguments)
    else:
        slopes = [oracle.dual_derivative(*argument) for argument in arguments]
    if same:
        after, slopes = after * 3, slopes * 3
    return after, [tangent * slope for tangent, slope in zip(tangents, slopes, strict=True)]


def gram(layers, x):
    """Both Gram matrices, as nested lists of mpf."""
    pairs = [[pair(layers, a, b) for b in x] for a in x]
    return [[p.nngp for p in row] for row in pairs], [[p.ntk for p in row] for row in pairs]
