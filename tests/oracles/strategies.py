"""Covariances and inputs to try everything on: by angle band, with duplicates, zero and collinear rows."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from tests.oracles.arithmetic import exact, mp

BANDS = {
    "duplicate": (0.0, 0.0),
    "collinear": (0.0, 0.0),
    "1e-9..1e-3": (1e-9, 1e-3),
    "1e-3..1e-2": (1e-3, 1e-2),
    "generic": (1e-2, np.pi - 1e-2),
    "pi-(1e-3..1e-2)": (1e-3, 1e-2),
    "pi-(1e-9..1e-3)": (1e-9, 1e-3),
    "opposite": (0.0, 0.0),
}
"""Bands of the angle between two inputs; those named pi- are angles to the opposite direction.

"duplicate" is the same input twice, "collinear" angle 0 with another norm, "opposite" angle pi.
"""


@dataclass(frozen=True)
class Covariance:
    """A Gaussian pair: variances of the dtype, and an exact covariance that the library gets rounded.

    Attributes:
        cov: exact, an mpf; a perturbation of it by one rounding moves a dual by one rounding of its scale.
        var1: variance of u.
        var2: variance of v.
        defect: `1 - cov / sqrt(var1 var2)`, exact, an mpf.
        surplus: `1 + cov / sqrt(var1 var2)`, exact, an mpf.
        to_line: the angle to the line through the other input, `min(θ, π - θ)`.
    """

    cov: object
    var1: object
    var2: object
    defect: object
    surplus: object
    to_line: float


def covariance(
    band: str, position: float, log_var1: float, log_var2: float | None = None, dtype=np.float64
) -> Covariance:
    """The pair at a relative `position` in [0, 1] of the band, with variances `10^log_var`, None for equal ones."""
    var1 = dtype(10.0**log_var1)
    var2 = var1 if band == "duplicate" or log_var2 is None else dtype(10.0**log_var2)
    low, high = BANDS[band]
    logarithmic = low * (high / low) ** position if low else 0.0
    turn = low + position * (high - low) if band == "generic" else logarithmic
    theta = exact(turn)
    reversed_ = band.startswith("pi") or band == "opposite"
    # 1 - cos θ = 2 sin² (θ/2) keeps every digit of a small angle.
    defect = 2 * mp.sin(theta / 2) ** 2
    if reversed_:
        defect = 2 - defect
    cov = exact(var1) if band == "duplicate" else (1 - defect) * mp.sqrt(exact(var1) * exact(var2))
    return Covariance(cov, var1, var2, defect, 2 - defect, float(min(turn, np.pi - turn)))


def covariances(bands=tuple(BANDS), dtype=np.float64, smallest=1e-6, largest=1e3):
    """Hypothesis strategy over `covariance`, variances log-uniform between `smallest` and `largest`."""
    logarithm = st.floats(float(np.log10(smallest)), float(np.log10(largest)))
    return st.builds(
        covariance, st.sampled_from(bands), st.floats(0, 1), logarithm, logarithm, st.just(dtype)
    )


def sample_covariances(band, count, seed, dtype=np.float64, smallest=1e-6, largest=1e3):
    """The same distribution from a seed, for benchmarks."""
    random = np.random.default_rng(seed)
    low, high = np.log10(smallest), np.log10(largest)
    others = (random.uniform(low, high) if i % 3 else None for i in range(count))
    return [covariance(band, random.uniform(), random.uniform(low, high), other, dtype) for other in others]


ROW_KINDS = ("free", "duplicate", "zero", "collinear", "opposite", "near")


def banded_inputs(band, count, features, seed, dtype=np.float64):
    """Pairs of rows (x1_i, x2_i) whose angle lies in the band up to rounding, norms within a factor of 3."""
    random = np.random.default_rng(seed)
    x1, x2 = np.empty((2, count, features))
    low, high = BANDS[band]
    for i in range(count):
        first, second = random.normal(size=(2, features))
        first *= np.sqrt(features) / np.linalg.norm(first) * random.uniform(0.6, 1.8)
        second -= (second @ first) / (first @ first) * first
        second *= np.linalg.norm(first) / np.linalg.norm(second)
        position = random.uniform()
        logarithmic = low * (high / low) ** position if low else 0.0
        turn = low + position * (high - low) if band == "generic" else logarithmic
        rotated = np.cos(turn) * first + np.sin(turn) * second
        side = -1.0 if band.startswith("pi") or band == "opposite" else 1.0
        # A power of two keeps collinear inputs collinear in every dtype.
        norm = {"duplicate": 1.0, "collinear": 2.0, "opposite": 1.0}.get(band, random.uniform(0.6, 1.8))
        x1[i], x2[i] = first, side * norm * rotated
    return x1.astype(dtype), x2.astype(dtype)


def hard_inputs(count, features, seed, dtype=np.float64, kinds=ROW_KINDS, scale=1.0):
    """Rows that are random, repeated, zero, multiples of each other and near-duplicates, in turn."""
    random = np.random.default_rng(seed)
    x = np.empty((count, features))
    for i in range(count):
        kind = kinds[i % len(kinds)]
        before = x[random.integers(i)] if i else np.zeros(features)
        free = random.normal(size=features) * scale
        x[i] = {
            "free": free,
            "duplicate": before,
            "zero": 0.0 * free,
            "collinear": before * random.uniform(0.1, 3.0),
            "opposite": -before,
            "near": before + free * 10.0 ** random.uniform(-9, -3),
        }[kind]
    return x.astype(dtype)


@st.composite
def inputs(draw, dtype=np.float64, max_rows=5, features=(1, 2, 3, 4), kinds=ROW_KINDS):
    """Hypothesis strategy for sets of points, shape (n, d), entries of magnitude up to 32."""
    features = draw(st.sampled_from(features))
    entries = st.floats(-32, 32, width=16)
    rows = [np.array(draw(st.lists(entries, min_size=features, max_size=features)))]
    for _ in range(draw(st.integers(1, max_rows - 1))):
        kind = draw(st.sampled_from(kinds))
        before = rows[draw(st.integers(0, len(rows) - 1))]
        free = np.array(draw(st.lists(entries, min_size=features, max_size=features)))
        factor = draw(st.floats(0.0625, 4, width=16))
        exponent = draw(st.integers(-9, -3))
        rows.append(
            {
                "free": free,
                "duplicate": before,
                "zero": 0.0 * free,
                "collinear": factor * before,
                "opposite": -before,
                "near": before + free * 10.0**exponent,
            }[kind]
        )
    return np.stack(rows).astype(dtype)
