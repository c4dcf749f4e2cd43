"""What training makes of the function at new points: the predictive distribution at one moment."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ntkit.dynamics.spectral import SpectralTraining, initial_outputs
from ntkit.inference.blocks import in_blocks
from ntkit.inference.predictive import Predictive
from ntkit.inference.variances import nonnegative
from ntkit.kernels import evaluate
from ntkit.numerics.dtypes import Array
from ntkit.numerics.host import like, working
from ntkit.numerics.points import number_of_points


@dataclass(frozen=True, eq=False)
class Projection:
    """Points seen from the eigenbasis of training: `Θ(x, X) V`, `Σ(x, X) V`, and the `V^T Σ(X, X) V` of training."""

    tangent: Any
    initial: Any
    spread: Any

    def reduction(self, weights: Any) -> tuple[Any, Any]:
        """`B` and `D` such that training lowers the initial covariance by `B D^T + D B^T`.

        With `A = B V^T`, `B = Θ(x, X) V diag(weights)`: `B (Σ(X, x') V - ½ spread B^T)` and its mirror image sum to
        `A Σ(X, x') + Σ(x, X) A^T - A Σ(X, X) A^T`, and to a matrix that is symmetric to the last bit.
        """
        weighted = self.tangent * weights[None, :]
        return weighted, self.initial - 0.5 * (weighted @ self.spread)


@dataclass(frozen=True, eq=False)
class Trained(Predictive):
    """The distribution over functions at one moment of training.

    With `A = Θ(x, X) V diag(w) V^T` and `w(λ) = (1 - r(λ)) / λ`: mean `f_0(x) + A (Y - f_0(X))`; over an ensemble of
    initialisations `f_0 ~ GP(0, Σ)` (`prior` given) the covariance is
    `Σ(x, x') - A Σ(X, x') - Σ(x, X) A'^T + A Σ(X, X) A'^T`. This is the distribution of trained networks, not a
    Bayesian posterior. Answers have the array library and dtype of the points asked about where these are a floating
    array, else (tokens, pytrees) of the tangent kernel's Gram matrix.

    Source:
        Lee et al. (2019), Wide neural networks of any depth evolve as linear models, equations 14 to 16.
    """

    training: SpectralTraining
    weights: Float[np.ndarray, " n"]

    def mean(self, x: Any) -> Float[Array, "m k"]:
        training = self.training
        coefficients = training.spectrum.eigenvectors @ (self.weights[:, None] * training.error)
        return outputs_at("Trained.mean", training, coefficients, x)

    def variance(self, x: Any) -> Float[Array, " m"]:
        training = _with_prior("Trained.variance", self.training)

        def block(points: Any) -> Any:
            prior, weights = working(training.prior.diag(points), self.weights)
            raised, lowered = project(training, points).reduction(weights)
            variance = prior - 2.0 * (raised * lowered).sum(axis=1)
            answer = training.template(points)
            return like(nonnegative(variance, prior, answer.dtype, "Trained.variance"), answer)

        return in_blocks(block, training.as_inputs("Trained.variance", x), training.points)

    def covariance(self, x: Any) -> Float[Array, "m m"]:
        training = _with_prior("Trained.covariance", self.training)
        x = training.as_inputs("Trained.covariance", x)
        prior, weights = working(training.prior(x), self.weights)
        raised, lowered = project(training, x).reduction(weights)
        change = raised @ lowered.T
        return like(prior - (change + change.T), training.template(x))


def outputs_at(who: str, training: SpectralTraining, coefficients: Float[np.ndarray, "n k"], x: Any) -> Any:
    """`f_0(x) + Θ(x, X) a`, in blocks of points, in the array library and dtype due at them."""

    def block(points: Any) -> Any:
        cross, start, amounts = working(
            training.ntk(points, training.x), start_at(training, points), coefficients
        )
        return like(start + cross @ amounts, training.template(points))

    return in_blocks(block, training.as_inputs(who, x), training.points)


def start_at(training: SpectralTraining, points: Any) -> Any:
    """The expected initial outputs at the points."""
    outputs = training.error.shape[1]
    if training.f0 is None:
        return np.zeros((number_of_points(points), outputs))
    return initial_outputs("f0", training.f0, points, outputs)


def project(training: SpectralTraining, points: Any) -> Projection:
    """Evaluate the kernels between points and training points, in one pass, and rotate them."""
    vectors = training.spectrum.eigenvectors
    if training.prior is None:
        tangent, vectors = working(training.ntk(points, training.x), vectors)
        return Projection(tangent @ vectors, None, None)
    tangent, initial = evaluate((training.ntk, training.prior), points, training.x)
    tangent, initial, vectors, spread = working(tangent, initial, vectors, training.spread)
    return Projection(tangent @ vectors, initial @ vectors, spread)


def _with_prior(who: str, training: SpectralTraining) -> Any:
    """The training problem, if there is an ensemble whose spread can be asked for."""
    if training.prior is None:
        cause = (
            "a mean without an ensemble"
            if training.f0 is None
            else "one given network f0, which has no spread"
        )
        raise ValueError(
            f"{who} needs an ensemble of initialisations, got {cause}. Pass prior=NNGP(network)."
        )
    return training
