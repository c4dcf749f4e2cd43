"""The phase diagram over the scales of weights and biases, and what great depth does to the tangent kernel."""

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from ntkit.engines.plan import tracked
from ntkit.errors import AccuracyWarning
from ntkit.nn.activations.base import Activation
from ntkit.theory.mean_field import MeanField
from ntkit.theory.phase import Phase, checked_scales, critical_edge, phase, phase_of

SMALL_DEFECTS = np.array([1e-4, 1e-3])
"""Where the bend of the correlation map at c = 1 is measured."""


@dataclass(frozen=True, eq=False)
class PhaseDiagram:
    """Phases over a grid; rows are values of `b_std`, columns of `w_std`.

    Attributes:
        w_stds: columns, shape (w,).
        b_stds: rows, shape (b,); fewer than asked for only when interrupted.
        labels: "ordered", "critical", "chaotic" or "divergent", shape (b, w).
        variances: q*, 0 where collapsed and infinite where divergent, shape (b, w).
        slopes: χ_1, infinite where divergent, shape (b, w).
        correlation_depths: ξ_c, infinite where critical and 0 where divergent, shape (b, w).
        critical: the edge of chaos, pairs (w_std, b_std) for those rows that have one, shape (points, 2).
        interrupted: whether Ctrl-C ended the work before the last row.
    """

    w_stds: Float[np.ndarray, " w"]
    b_stds: Float[np.ndarray, " b"]
    labels: Shaped[np.ndarray, "b w"]
    variances: Float[np.ndarray, "b w"]
    slopes: Float[np.ndarray, "b w"]
    correlation_depths: Float[np.ndarray, "b w"]
    critical: Float[np.ndarray, "points 2"]
    interrupted: bool


def phase_diagram(
    activation: Activation,
    w_stds: Float[np.ndarray, " w"],
    b_stds: Float[np.ndarray, " b"],
    initial_variance: float | int = 1.0,
) -> PhaseDiagram:
    """`phase` at every point of a grid, and the edge of chaos of every row.

    Milliseconds a point, shown on a terminal; Ctrl-C keeps the finished rows.

    Args:
        activation: any activation with a tangent kernel.
        w_stds: values of σ_w, at least 0.
        b_stds: values of σ_b, at least 0.
        initial_variance: of the first pre-activations.

    >>> from ntkit import nn
    >>> phase_diagram(nn.Erf(), np.array([0.5, 1.5]), np.array([0.0, 0.3])).labels.tolist()
    [['ordered', 'chaotic'], ['ordered', 'chaotic']]
    """
    for name, grid in (("w_stds", w_stds), ("b_stds", b_stds)):
        if len(grid) == 0:
            raise ValueError(f"phase_diagram needs at least one value in {name}, got none.")
    grid = [
        [checked_scales("phase_diagram", float(w), float(b), initial_variance) for w in w_stds]
        for b in b_stds
    ]
    field = MeanField.of(activation)
    rows: list[list[Phase]] = []
    edges: list[float | None] = []
    interrupted = False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AccuracyWarning)
        try:
            for line in tracked(grid, len(grid), "drawing the phase diagram"):
                row = [phase_of(field, *point) for point in line]
                edges.append(critical_edge(field, line[0][1], line[0][2]))
                rows.append(row)
        except KeyboardInterrupt:
            if not rows:
                raise
            interrupted = True
    if caught:
        warnings.warn(
            f"phase_diagram: correlation depths of {len(caught)} points are less accurate than asked for. The last: "
            f"{caught[-1].message}",
            AccuracyWarning,
            stacklevel=2,
        )

    def table(value) -> np.ndarray:
        return np.array([[value(found) for found in row] for row in rows])

    return PhaseDiagram(
        w_stds=np.asarray(w_stds, np.float64),
        b_stds=np.asarray(b_stds, np.float64)[: len(rows)],
        labels=table(lambda found: found.label),
        variances=table(lambda found: found.variance),
        slopes=table(lambda found: np.inf if found.slope is None else found.slope),
        correlation_depths=table(lambda found: found.correlation_depth or 0.0),
        critical=np.array(
            [(edge, row[0].b_std) for edge, row in zip(edges, rows, strict=False) if edge is not None],
            dtype=np.float64,
        ).reshape(-1, 2),
        interrupted=interrupted,
    )


def limiting_condition_number(
    activation: Activation,
    w_std: float | int,
    b_std: float | int,
    points: int,
    initial_variance: float | int = 1.0,
) -> float:
    """The condition number to which the tangent kernel of ever deeper networks tends, on distinct inputs of one norm.

    Infinite in the ordered phase, 1 in the chaotic one. At the edge, where `1 − c` shrinks as a power of the depth,
    off-diagonal entries tend to a fraction r of the diagonal and the limit is `(1 + (m − 1) r) / (1 − r)` for m
    points: r = 1/3 where the correlation map is smooth, `(m + 2) / 2`; r = 1/4 where the activation has a kink,
    `(m + 3) / 3`.

    Raises:
        ValueError: for fewer than 2 points, or where the variance has no positive limit.

    Source:
        Xiao, Pennington & Schoenholz (2020), Disentangling trainability and generalization in deep neural networks,
        table 1.

    >>> from ntkit import nn
    >>> limiting_condition_number(nn.Relu(), 2**0.5, 0.0, points=9)
    4.0
    """
    if points < 2:
        raise ValueError(f"limiting_condition_number needs at least 2 points, got {points}.")
    found = phase(activation, w_std, b_std, initial_variance)
    if found.outcome not in ("converged", "kept"):
        raise ValueError(
            f"limiting_condition_number needs a variance with a positive limit, got one that {found.outcome} at "
            f"w_std = {w_std:g}, b_std = {b_std:g}."
        )
    if found.label != "critical":
        return float("inf") if found.label == "ordered" else 1.0
    correlations = MeanField.of(activation).correlations(found.w_std, found.b_std, found.variance)
    lost = SMALL_DEFECTS - correlations(SMALL_DEFECTS)
    if not (lost > 0).all():  # a straight line: linear layers keep every angle, so nothing decays
        raise ValueError(
            "limiting_condition_number needs an activation that bends, got one whose layers keep all correlations."
        )
    # 1 - c -> (1 - c) - a (1 - c)^p leaves slopes 1 - s / l with s = p / (p - 1), and r = 1 / (1 + s).
    bend = float(np.log(lost[1] / lost[0]) / np.log(SMALL_DEFECTS[1] / SMALL_DEFECTS[0]))
    smooth = bend > 1.75
    return (points + 2) / 2.0 if smooth else (points + 3) / 3.0
