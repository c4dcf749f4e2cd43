"""Training on the squared loss in the tangent kernel's eigenbasis, as seen on the training points.

Gradient flow and gradient descent differ by their `SpectralFilter` only; everything else is shared.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ntkit.dynamics.filters import SpectralFilter
from ntkit.dynamics.squared_loss import loss_weight
from ntkit.kernels import evaluate
from ntkit.kernels.base import Kernel
from ntkit.numerics.dtypes import Array, as_targets, is_concrete
from ntkit.numerics.host import like, on_host
from ntkit.numerics.points import number_of_points, template
from ntkit.solvers import Spectrum, decompose
from ntkit.solvers.checks import check_gram


@dataclass(frozen=True, eq=False)
class SpectralTraining:
    """A training problem whose tangent kernel has been decomposed, `Θ(X, X) = V diag(λ) V^T`.

    Attributes:
        ntk: the tangent kernel Θ.
        prior: the kernel Σ of the initial outputs over an ensemble, or None.
        f0: the initial outputs of one given network, or None.
        x: the training points X, as the kernels take them: an array, or a pytree of arrays.
        reduction: how the loss sums over the targets.
        spectrum: eigenvalues and eigenvectors of Θ(X, X), in float64; null directions have eigenvalue 0.
        start: the expected initial outputs `f_0(X)`.
        error: `V^T (Y - f_0(X))`, the expected error to be learnt, by direction.
        spread: `V^T Σ(X, X) V`, the ensemble's initial covariance, by direction; None without `prior`.
        computed: an empty array of the library and dtype of Θ(X, X), which answers at tokens and pytrees follow.
    """

    ntk: Kernel
    prior: Kernel | None
    f0: Callable[[Any], Any] | None
    x: Any
    reduction: str
    spectrum: Spectrum
    start: Float[np.ndarray, "n k"]
    error: Float[np.ndarray, "n k"]
    spread: Float[np.ndarray, "n n"] | None
    computed: Float[Array, " 0"]

    def as_inputs(self, who: str, x: Any) -> Any:
        """Check points for the kernels."""
        return _as_inputs(who, x, self.ntk, self.prior)

    def template(self, x: Any) -> Array:
        """The array whose library and dtype an answer at `x` has."""
        return template(x, self.computed)

    @property
    def points(self) -> int:
        """The number of training points n."""
        return len(self.error)

    @property
    def eigenvalues(self) -> Float[np.ndarray, " n"]:
        """The eigenvalues in ascending order; exactly 0 in null directions."""
        return np.where(self.spectrum.retained, self.spectrum.eigenvalues, 0.0)

    @property
    def weight(self) -> float:
        """The loss's reduction as the factor c in `L = c ½ Σ ‖f - y‖²`; the learning rate is multiplied by it too."""
        return loss_weight("The training loss", self.reduction, *self.error.shape)

    @property
    def projections(self) -> Float[np.ndarray, "n k"]:
        """The initial error `Y - f_0(X)` along every direction, fastest first."""
        return self.error[::-1]

    def max_learning_rate(self, ridge: float = 0.0, momentum: float = 0.0) -> float:
        """`2 (1 + β) / (c (λ_max + ρ))`; infinite when nothing can be learnt. The ridge is in units of eigenvalues."""
        largest = float(self.eigenvalues[-1]) + ridge
        return 2.0 * (1.0 + momentum) / (self.weight * largest) if largest > 0 else np.inf

    def outputs(self, moments: SpectralFilter) -> Float[np.ndarray, "t n k"]:
        """The expected outputs at the training points, `f_0(X) + V (1 - r) V^T (Y - f_0(X))`."""
        gained = moments.learnt(self.spectrum) * self.eigenvalues[None, :]
        change = gained[:, :, None] * self.error[None, :, :]
        return self.start[None, :, :] + np.matmul(self.spectrum.eigenvectors[None, :, :], change)

    def losses(self, moments: SpectralFilter) -> Float[np.ndarray, " t"]:
        """The training loss `c ½ Σ_i r_i² E[e_i²]`, averaged over the ensemble when there is one."""
        return self.weight * 0.5 * (moments.remaining(self.spectrum) ** 2 @ self._squared_errors())

    def loss_rates(self, moments: SpectralFilter, speed: Float[np.ndarray, "t n"]) -> Float[np.ndarray, " t"]:
        """`dL/dt = -c Σ_i r_i λ_i ẇ_i E[e_i²]`; `speed` is the growth `ẇ` of the retained directions' weights."""
        retained = self.spectrum.retained
        weighted = (self.eigenvalues * self._squared_errors())[retained]
        return 0.0 - self.weight * ((moments.remaining(self.spectrum)[:, retained] * speed) @ weighted)

    def penalties(self, moments: SpectralFilter) -> Float[np.ndarray, " t"]:
        """`½ ‖θ_t - θ_0‖² = ½ Σ_i λ_i w_i² E[e_i²]`, summed over the outputs: how far the weights have moved."""
        return 0.5 * (moments.learnt(self.spectrum) ** 2 @ (self.eigenvalues * self._squared_errors()))

    def _squared_errors(self) -> Float[np.ndarray, " n"]:
        """The expected squared initial error of each direction, summed over the outputs."""
        squares = (self.error**2).sum(axis=1)
        if self.spread is not None:
            squares = squares + self.error.shape[1] * np.diag(self.spread).clip(0.0)
        return squares


def spectral_training(
    who: str,
    ntk: Kernel,
    x: Any,
    y: Any,
    prior: Kernel | None,
    f0: Callable[[Any], Any] | None,
    reduction: str,
) -> SpectralTraining:
    """Check the arguments, evaluate the kernels on the training points in one pass, and decompose Θ."""
    x = _as_inputs(who, x, ntk, prior)
    y = as_targets(who, y, number_of_points(x))
    loss_weight(who, reduction, *y.shape)
    if prior is not None and f0 is not None:
        raise ValueError(
            f"{who} needs a prior (an ensemble of networks) or f0 (one given network), got both. Leave one out."
        )
    if not is_concrete((ntk, prior, x, y)):
        raise ValueError(
            f"{who} needs arrays that hold numbers, got values traced by JAX. Call it outside of jit, grad and vmap."
        )
    kernels = (ntk,) if prior is None else (ntk, prior)
    grams = evaluate(kernels, x)
    for kernel, gram in zip(kernels, grams, strict=True):
        check_gram(who, gram, 0.0, repr(kernel))
    spectrum = decompose(grams[0], name=repr(ntk), who=who)
    vectors = spectrum.eigenvectors
    start = np.zeros(y.shape) if f0 is None else on_host(initial_outputs(who, f0, x, y.shape[1]))
    spread = None if prior is None else vectors.T @ (on_host(grams[1]) @ vectors)
    error = vectors.T @ (on_host(y) - start)
    computed = like(np.zeros(0), grams[0])
    return SpectralTraining(ntk, prior, f0, x, reduction, spectrum, start, error, spread, computed)


def _as_inputs(who: str, x: Any, ntk: Kernel, prior: Kernel | None) -> Any:
    x = ntk.as_inputs(who, x)
    return x if prior is None else prior.as_inputs(who, x)


def initial_outputs(who: str, f0: Callable[[Any], Any], x: Any, outputs: int) -> Any:
    """`f0(x)`, checked to be of shape (m, outputs)."""
    values = f0(x)
    shape = getattr(values, "shape", type(values).__name__)
    if shape != (number_of_points(x), outputs):
        raise ValueError(f"{who} needs f0(x) of shape ({number_of_points(x)}, {outputs}), got {shape}.")
    return values
