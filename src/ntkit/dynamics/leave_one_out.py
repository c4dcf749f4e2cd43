"""Leave-one-out prediction at any training time, without retraining: ridge's shortcut, summed over complex ridges.

For ridge regression the prediction at a point left out follows from the full Gram matrix,
`G_i(w) = y_i - [(Θ + w)^{-1} y]_i / [(Θ + w)^{-1}]_{ii}`, for complex w too. Gradient flow up to the distance s
is the inverse Laplace transform of `G_i(w) / w` at s, because `∫ e^{sw} / (w (w + λ)) dw / 2πi = (1 - e^{-sλ}) / λ`; so
what the flow trained without point i predicts there is a short sum of `G_i` over a contour.
"""

import numpy as np
from jaxtyping import Float

from ntkit.dynamics.spectral import SpectralTraining
from ntkit.errors import NotPositiveDefiniteError

NODES = 18
"""Nodes on the upper half of the contour; the sum converges as `exp(-2π NODES / 3)`, 4e-17."""

LARGEST_BLOCK = 2**24
"""Entries of a block of nodes against points: 256 MiB as complex numbers."""


def leave_one_out_means(
    training: SpectralTraining, distances: Float[np.ndarray, " t"], ridge: float = 0.0
) -> Float[np.ndarray, "t n k"]:
    """At every training point, what gradient flow trained on all the others predicts after each distance `∫ η dt`.

    Costs `O(n²)` per distance, after the eigendecomposition of the full Gram matrix.

    Args:
        training: the problem with all points.
        distances: learning rate (times the loss's reduction) times time, at least 0, possibly infinite.
        ridge: ρ, in units of eigenvalues.

    Raises:
        NotPositiveDefiniteError: for an infinite distance and a singular Gram matrix without ridge.

    Source:
        Weideman & Trefethen (2007), Parabolic and hyperbolic contours for computing the Bromwich integral, section 2.
    """
    infinite = np.isinf(distances)
    if infinite.any() and training.spectrum.rank < training.points and ridge == 0:
        raise NotPositiveDefiniteError(
            f"Leave-one-out prediction at t = inf needs a positive definite kernel, got rank {training.spectrum.rank} "
            f"on {training.points} points. Leave out the infinite time, or use a ridge."
        )
    means = np.empty((len(distances), *training.error.shape))
    means[distances == 0] = 0.0
    if infinite.any():
        means[infinite] = np.real(_without_each(training, np.zeros(1, complex), ridge))
    for moment in np.flatnonzero((distances > 0) & ~infinite):
        contour, weights = _parabola(float(distances[moment]))
        means[moment] = np.real(np.tensordot(weights, _without_each(training, contour, ridge), axes=1))
    return training.start[None, :, :] + means


def _parabola(distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes w and weights of `2 Re ∫ e^{sw} F(w) / w dw / 2πi` over the upper half of the contour."""
    spacing, scale = 3.0 / NODES, np.pi * NODES / (12.0 * distance)
    parameter = (np.arange(NODES) + 0.5) * spacing
    root = 1.0 + 1j * parameter
    contour = scale * root**2
    slope = 2j * scale * root
    return contour, np.exp(distance * contour) * slope / contour * spacing / (1j * np.pi)


def _without_each(training: SpectralTraining, shifts: np.ndarray, ridge: float) -> np.ndarray:
    """`G_i(w)` for all points and outputs, shape (w, n, k): ridge regression with the complex ridge w."""
    vectors, eigenvalues = training.spectrum.eigenvectors, training.spectrum.eigenvalues + ridge
    squares = vectors**2
    error = vectors @ training.error
    outputs = np.empty((len(shifts), *error.shape), complex)
    rows = max(1, LARGEST_BLOCK // (len(error) * error.shape[1]))
    for first in range(0, len(shifts), rows):
        inverse = 1.0 / (eigenvalues[None, :] + shifts[first : first + rows, None])
        # Real matrices against the real and imaginary parts: half the work of a complex product.
        diagonal = inverse.real @ squares.T + 1j * (inverse.imag @ squares.T)
        scaled = inverse[:, :, None] * training.error[None, :, :]
        solved = np.matmul(vectors[None, :, :], scaled.real) + 1j * np.matmul(
            vectors[None, :, :], scaled.imag
        )
        outputs[first : first + rows] = error[None, :, :] - solved / diagonal[:, :, None]
    return outputs
