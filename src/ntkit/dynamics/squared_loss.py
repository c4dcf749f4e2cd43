"""The squared loss and its reductions: by what the sum over points and outputs is divided."""

from typing import Literal

Reduction = Literal["sum", "mean", "mean_points"]


def loss_weight(who: str, reduction: str, points: int, outputs: int) -> float:
    """The factor c in `L = c · ½ Σ_μ ‖f(x_μ) − y_μ‖²`, by which a learning rate is multiplied too.

    "sum": 1. "mean": 1 / (points x outputs), half of PyTorch's `MSELoss`, and what neural-tangents
    uses. "mean_points": 1 / points.

    Raises:
        ValueError: for any other reduction.
    """
    weights = {"sum": 1.0, "mean": 1.0 / (points * outputs), "mean_points": 1.0 / points}
    if reduction not in weights:
        raise ValueError(f'{who} needs reduction "sum", "mean" or "mean_points", got {reduction!r}.')
    return weights[reduction]
