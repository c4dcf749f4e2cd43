"""Squared norms that rounding made negative, told from those of a kernel that is none."""

import numpy as np

from ntkit.errors import NotPositiveDefiniteError
from ntkit.kernels.base import Kernel


def checked_square(
    kernel: Kernel, square: float, coefficients: np.ndarray, variances: np.ndarray, epsilon: float
) -> float:
    """`max(square, 0)` for a `square = Σ_ij α_i·α_j K_ij` that is negative by rounding only.

    Its rounding is at most `n ε (Σ_i |α_i| √K_ii)²`, summed over the outputs.

    Args:
        kernel: for the message.
        square: the quadratic form as computed.
        coefficients: α, shape (n, k).
        variances: `K_ii`, shape (n,).
        epsilon: ε, the rounding of the kernel's values.

    Raises:
        NotPositiveDefiniteError: for a form more negative than that.
    """
    if square >= 0:
        return square
    sizes = np.sqrt(np.maximum(variances, 0.0)) @ np.abs(coefficients)
    rounding = max(len(coefficients), 64) * epsilon * float(sizes @ sizes)
    if square < -rounding:
        raise NotPositiveDefiniteError(
            f"A norm needs a positive semi-definite kernel, got ‖f‖² = {square:.3g} from {kernel!r} on "
            f"{len(coefficients)} centres, below what rounding explains (-{rounding:.1g}). Check that the kernel "
            "is symmetric and positive semi-definite, or use float64 points."
        )
    return 0.0
