"""Order and chaos: what depth does to the variance and the correlation of signals in wide random networks."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

from ntkit.nn.activations.base import Activation
from ntkit.theory.mean_field import MeanField, Outcome

Label = Literal["ordered", "critical", "chaotic", "divergent"]

CRITICAL = 1e-8
"""`χ_1` within this of 1 counts as critical."""

TRAINABLE = 6.0
"""Networks train up to about this many correlation depths (Schoenholz et al. 2017, figure 5)."""

WEIGHTS = np.geomspace(0.05, 20.0, 61)
"""Where the edge of chaos is looked for, before a root is found between two neighbours."""


@dataclass(frozen=True)
class Phase:
    """What many layers of one width-infinite network do to its signals.

    Attributes:
        w_std: standard deviation of the weights, σ_w.
        b_std: standard deviation of the biases, σ_b.
        outcome: what becomes of the variance: "converged", "collapsed" (to 0), "diverged" or "kept" (every
            variance is a fixed point).
        variance: q*, where the variance of pre-activations goes; 0 when collapsed, infinite when diverged.
        slope: `χ_1 = σ_w² E[φ'(√q* z)²]`, the factor by which one layer multiplies small distances between inputs
            and, backwards, gradients; None when the variance diverged.
        correlation: c*, where the correlation of two different inputs goes; None when variances collapse, in which
            limit layers act linearly and keep it, or diverge.
        correlation_slope: the slope of the correlation map at c*; `χ_1` where c* = 1 or there is no c*.
        variance_slope: the slope of the variance map at q*; None when the variance diverged.
    """

    w_std: float
    b_std: float
    outcome: Outcome
    variance: float
    slope: float | None
    correlation: float | None
    correlation_slope: float | None
    variance_slope: float | None

    @property
    def label(self) -> Label:
        """Ordered (`χ_1 < 1`: inputs become alike), chaotic (`χ_1 > 1`: like inputs part), critical or divergent."""
        if self.slope is None:
            return "divergent"
        if abs(self.slope - 1.0) <= CRITICAL:
            return "critical"
        return "ordered" if self.slope < 1.0 else "chaotic"

    @property
    def variance_depth(self) -> float | None:
        """ξ_q: layers in which the variance comes nearer its fixed point by a factor e; infinite if it never does."""
        return None if self.variance_slope is None else _depth(abs(self.variance_slope))

    @property
    def correlation_depth(self) -> float | None:
        """ξ_c: layers in which the correlation comes nearer its fixed point by a factor e; infinite when critical."""
        return None if self.correlation_slope is None else _depth(self.correlation_slope)

    @property
    def gradient_depth(self) -> float | None:
        """ξ_∇ = 1 / |log χ_1|: layers over which gradients vanish (ordered) or explode (chaotic) by a factor e."""
        if self.slope is None:
            return None
        return _depth(min(self.slope, 1.0 / self.slope) if self.slope > 0 else 0.0)

    @property
    def trainable_depth(self) -> float | None:
        """About how deep a plain network can be and still train: 6 ξ_c (Schoenholz et al. 2017)."""
        return None if self.correlation_depth is None else TRAINABLE * self.correlation_depth

    @property
    def ntk_at_depth(self) -> str:
        """What great depth makes of the tangent kernel (Xiao et al. 2020, table 1), in words."""
        return {
            "ordered": "tends to a constant matrix; its condition number grows like exp(depth / ξ_c) / depth, and "
            "training becomes impossible",
            "critical": "grows linearly; its condition number tends to a constant that grows with the number of "
            "points; trainable, and generalises",
            "chaotic": "its diagonal grows exponentially; its condition number tends to 1: it trains fast and "
            "generalises no better than a constant",
            "divergent": "signals grow without bound; scale the weights down",
        }[self.label]


def phase(
    activation: Activation,
    w_std: float | int,
    b_std: float | int = 0.0,
    initial_variance: float | int = 1.0,
) -> Phase:
    """The depth limit of networks of layers `Dense(w_std, b_std), activation`: ordered, critical or chaotic.

    The variance map is `q -> σ_w² E[φ(√q z)²] + σ_b²`; at its fixed point q* the correlation map is
    `c -> (σ_w² E[φ(u) φ(v)] + σ_b²) / q*` with `u, v` of variance q* and correlation c, whose slope at 1 is χ_1.

    Args:
        activation: any activation of `ntkit.nn` with a tangent kernel.
        w_std: σ_w, at least 0.
        b_std: σ_b, at least 0.
        initial_variance: of the first pre-activations. It only matters where there are several fixed points.

    Raises:
        KernelUndefinedError: for a discontinuous activation, whose χ_1 is infinite.

    Source:
        Poole et al. (2016), Exponential expressivity in deep neural networks through transient chaos; Schoenholz et
        al. (2017), Deep information propagation, equations 3 to 9.

    >>> from ntkit import nn
    >>> chaotic = phase(nn.Erf(), w_std=2.0, b_std=0.3)
    >>> chaotic.label, round(chaotic.variance, 4), round(chaotic.slope, 4), round(chaotic.correlation, 4)
    ('chaotic', 2.631, 1.5003, 0.1866)
    """
    w_std, b_std, initial = checked_scales("phase", w_std, b_std, initial_variance)
    return phase_of(MeanField.of(activation), w_std, b_std, initial)


def phase_of(field: MeanField, w_std: float, b_std: float, initial: float) -> Phase:
    """`phase` for an activation whose moments are tabulated already and arguments that are checked."""
    outcome, variance = field.fixed_variance(w_std, b_std, initial)
    if outcome == "diverged":
        return Phase(w_std, b_std, outcome, variance, None, None, None, None)
    of_moment, of_dual = field.slopes(variance)
    variance_slope, slope = w_std**2 * of_moment, w_std**2 * of_dual
    if outcome == "collapsed":
        return Phase(w_std, b_std, outcome, variance, slope, None, slope, variance_slope)
    correlation, correlation_slope = 1.0, slope
    if slope > 1.0 + CRITICAL:
        correlations = field.correlations(w_std, b_std, variance)
        defect = correlations.fixed_defect()
        correlation = 1.0 - defect
        if defect > 0.0:
            correlation_slope = float(correlations.slopes(np.array([defect]))[0])
    return Phase(w_std, b_std, outcome, variance, slope, correlation, correlation_slope, variance_slope)


def critical_w_std(
    activation: Activation, b_std: float | int = 0.0, initial_variance: float | int = 1.0
) -> float:
    """The edge of chaos: the smallest `w_std` at which `χ_1 = 1`, for given biases.

    Raises:
        ValueError: when there is none, e.g. for ReLU with biases: its variance diverges from `w_std = √2` on, where χ_1
            is just 1, so its critical line is the single point (√2, 0), at which every variance is kept.

    Source:
        Poole et al. (2016), section 2; Schoenholz et al. (2017), section 3.

    >>> from ntkit import nn
    >>> round(critical_w_std(nn.Relu()), 12), round(critical_w_std(nn.Erf(), b_std=0.3), 4)
    (1.414213562373, 1.2337)
    """
    _, b_std, initial = checked_scales("critical_w_std", 1.0, b_std, initial_variance)
    return _critical(MeanField.of(activation), b_std, initial)


def critical_line(
    activation: Activation, b_stds: Iterable[float], initial_variance: float | int = 1.0
) -> Float[np.ndarray, "points 2"]:
    """The edge of chaos as pairs `(w_std, b_std)`; values of `b_std` for which there is none are left out."""
    field = MeanField.of(activation)
    scales = [checked_scales("critical_line", 1.0, b_std, initial_variance) for b_std in b_stds]
    edges = [(critical_edge(field, b_std, initial), b_std) for _, b_std, initial in scales]
    found = [(edge, b_std) for edge, b_std in edges if edge is not None]
    return np.array(found, dtype=np.float64).reshape(-1, 2)


def critical_edge(field: MeanField, b_std: float, initial: float) -> float | None:
    """`critical_w_std` for tabulated moments, None where there is no edge."""
    try:
        return _critical(field, b_std, initial)
    except ValueError:
        return None


def _critical(field: MeanField, b_std: float, initial: float) -> float:
    def log_slope(w_std: float) -> float | None:
        """`log χ_1`, None where the variance has no limit."""
        outcome, variance = field.fixed_variance(w_std, b_std, initial)
        if outcome == "diverged":
            return None
        return float(np.log(np.maximum(w_std**2 * field.slopes(variance)[1], 1e-300)))

    def between(w_std: float) -> float:
        value = log_slope(w_std)
        if value is None:
            raise ValueError(
                f"critical_w_std needs a variance with a limit, got none at w_std = {w_std:.6g}, b_std = {b_std:g}."
            )
        return value

    name = type(field.activation).__name__
    origin = field.slopes(0.0)[1]
    if b_std == 0.0 and field.moment_at_zero == 0.0 and origin > 0.0:
        # Without biases the edge can be where signals cease to die out. There χ_1 - 1 is of second order in the
        # distance to it from above, too flat for a root to be found well, and known: 1 / |φ'(0)|.
        edge = float(origin**-0.5)
        below, above = log_slope(0.999 * edge), log_slope(1.001 * edge)
        if below is not None and below < 0.0 and (above is None or above > 0.0):
            return edge
    before: tuple[float, float] | None = None
    for w_std in map(float, WEIGHTS):
        current = log_slope(w_std)
        if current is None:
            if before is not None:
                raise ValueError(
                    f"critical_w_std needs a finite variance where χ_1 = 1, got {name} whose variance has no limit "
                    f"from about w_std = {w_std:.4g} on, at b_std = {b_std:g}, before χ_1 reaches 1. Use a smaller "
                    "b_std, another initial_variance, or a bounded activation."
                )
        elif current == 0.0:
            return w_std
        elif before is not None and before[1] < 0.0 < current:
            return float(brentq(between, before[0], w_std, xtol=1e-14, rtol=1e-14))
        before = None if current is None else (w_std, current)
    raise ValueError(
        f"critical_w_std needs an activation whose χ_1 passes 1 for w_std between {WEIGHTS[0]:g} and "
        f"{WEIGHTS[-1]:g}, got {name} at b_std = {b_std:g}, which stays on one side."
    )


def _depth(slope: float) -> float:
    """`−1 / log slope`, infinite from slope 1 on and 0 at slope 0."""
    if slope >= 1.0 - CRITICAL:
        return np.inf
    return 0.0 if slope <= 0.0 else float(-1.0 / np.log(slope))


def checked_scales(
    who: str, w_std: float | int, b_std: float | int, initial: float | int
) -> tuple[float, float, float]:
    """The scales as floats, or a `ValueError` naming the one that is wrong."""
    for name, value in (("w_std", w_std), ("b_std", b_std)):
        if not (np.isfinite(value) and value >= 0):
            raise ValueError(f"{who} needs a finite {name} of at least 0, got {value}.")
    if not (np.isfinite(initial) and initial > 0):
        raise ValueError(f"{who} needs a positive, finite initial_variance, got {initial}.")
    return float(w_std), float(b_std), float(initial)
