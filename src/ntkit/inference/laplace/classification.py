"""Classification: the posterior of the scores of a softmax, and the class probabilities that follow."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from ntkit.inference.laplace.evidence import best_precision, check_bounded, effective, occam_factor
from ntkit.inference.laplace.output_blocks import OutputBlocks
from ntkit.inference.laplace.posterior import LaplacePosterior, normal
from ntkit.inference.laplace.reduction import Reduction, SoftmaxReduction, SpectralReduction
from ntkit.inference.laplace.softmax import (
    curvature_root,
    likelihood_probabilities,
    log_likelihood,
    probit_probabilities,
)
from ntkit.numerics.dtypes import Array
from ntkit.numerics.host import on_host
from ntkit.solvers import Spectrum, decompose

DRAWS_AT_A_TIME = 2**22
"""Scores drawn at once for a Monte Carlo estimate: 32 MiB."""


@dataclass(frozen=True, eq=False)
class Curvature(ABC):
    """The curvature of the likelihood in function space, as a function of the prior precision."""

    @property
    @abstractmethod
    def diagonal(self) -> Float[np.ndarray, " p"]:
        """Curvatures, not negative, all of them zero only if the data say nothing about the weights."""

    @abstractmethod
    def determined(self, precision: float) -> float:
        """The effective number of parameters."""

    @abstractmethod
    def occam(self, square_norm: float, precision: float) -> float:
        """The evidence less the log-likelihood of the trained model."""

    @abstractmethod
    def reduction(self, precision: float) -> Reduction:
        """What the data explain of the prior covariance."""


@dataclass(frozen=True, eq=False)
class CoupledCurvature(Curvature):
    """One eigendecomposition of `B^T Θ B`, for all prior precisions."""

    blocks: OutputBlocks
    x: Any
    root: Float[np.ndarray, "n w r"]
    spectrum: Spectrum

    @property
    def diagonal(self) -> Float[np.ndarray, " p"]:
        """The eigenvalues, exactly zero where they are rounding."""
        return np.where(self.spectrum.retained, self.spectrum.eigenvalues, 0.0)

    def determined(self, precision: float) -> float:
        return effective(self.diagonal, precision)

    def occam(self, square_norm: float, precision: float) -> float:
        return occam_factor(self.diagonal, square_norm, precision)

    def reduction(self, precision: float) -> SpectralReduction:
        return SpectralReduction(self.blocks, self.x, self.root, self.spectrum, precision)


@dataclass(frozen=True, eq=False)
class IndependentCurvature(Curvature):
    """k factorisations of n points for every prior precision."""

    blocks: OutputBlocks
    x: Any
    gram: Float[np.ndarray, "n n"]
    probabilities: Float[np.ndarray, "n k"]

    @property
    def diagonal(self) -> Float[np.ndarray, " p"]:
        own = self.probabilities * (1.0 - self.probabilities)
        return (own * np.diag(self.gram)[:, None]).reshape(-1)

    def determined(self, precision: float) -> float:
        return self.reduction(precision).determined

    def occam(self, square_norm: float, precision: float) -> float:
        return -0.5 * precision * square_norm - 0.5 * self.reduction(precision).log_determinant

    def reduction(self, precision: float) -> SoftmaxReduction:
        return SoftmaxReduction(self.blocks, self.x, self.gram, self.probabilities, precision)


@dataclass(frozen=True, eq=False)
class LaplaceClassification(LaplacePosterior):
    """The linearised-Laplace posterior of a classifier, made by `LinearizedLaplace.classification`.

    As a distribution it is that of the scores (logits): `mean`, `covariance`, `sample`. `class_probabilities` averages
    the softmax over it, so that points unlike the training data are less certain.

    Attributes:
        labels: the classes of the training points.
        curvature: that of the likelihood, for any prior precision.
        prior_precision: δ.
    """

    labels: Int[np.ndarray, " n"]
    curvature: Curvature

    @property
    def effective_parameters(self) -> float:
        return self.curvature.determined(self.prior_precision)

    def log_marginal_likelihood(self) -> float:
        """The Laplace approximation of `log p(labels)` at this prior precision, in nats.

        `Σ log p(label | f(x)) - δ/2 |θ* - m|² - 1/2 log det(1 + B^T K_XX B)`, with `B B^T` the curvature.

        Raises:
            ValueError: when `square_norm` was not given.
        """
        norm = self._need_norm("LaplaceClassification.log_marginal_likelihood")
        fit = log_likelihood(on_host(self.trained), self.labels)
        return fit + self.curvature.occam(norm, self.prior_precision)

    def with_hyperparameters(self, *, prior_precision: float | int) -> "LaplaceClassification":
        """The same posterior at another prior precision."""
        precision = float(prior_precision)
        if not (np.isfinite(precision) and precision > 0):
            raise ValueError(
                f"LaplaceClassification needs a positive, finite prior_precision, got {prior_precision}."
            )
        return replace(self, prior_precision=precision, reduction=self.curvature.reduction(precision))

    def class_probabilities(self, x: Any) -> Float[Array, "m c"]:
        """The expected softmax of the scores by the probit approximation, shape (m, classes).

        Every difference of two scores is shrunk by `√(1 + π/8 times its variance)` (MacKay 1992; for more than two
        classes Lu, Ie & Sha 2020, the pairwise form). A single output gives two columns.
        """
        return self._answer(probit_probabilities(on_host(self.mean(x)), self._output_covariance(x)), x)

    def sampled_class_probabilities(self, key: jax.Array, x: Any, count: int = 1000) -> Float[Array, "m c"]:
        """The expected softmax of the scores by `count` draws: unbiased, standard error at most `1 / (2 √count)`.

        All points share the draws, so neighbouring points have neighbouring estimates.
        """
        if count < 1:
            raise ValueError(f"LaplaceClassification needs a count of at least 1, got {count}.")
        mean, covariance = on_host(self.mean(x)), self._output_covariance(x)
        eigenvalues, eigenvectors = np.linalg.eigh(covariance)
        root = eigenvectors * np.sqrt(eigenvalues.clip(0.0))[:, None, :]
        draws = normal(key, (count, mean.shape[1])).T
        points = max(1, DRAWS_AT_A_TIME // draws.size)
        parts = []
        for start in range(0, len(mean), points):
            scores = mean[start : start + points, :, None] + root[start : start + points] @ draws
            parts.append(likelihood_probabilities(scores.transpose(0, 2, 1)).mean(axis=1))
        return self._answer(np.concatenate(parts), x)


def classify(
    blocks: OutputBlocks,
    model: Any,
    x: Any,
    trained: Array,
    labels: Int[np.ndarray, " n"],
    square_norm: float | int | None,
    precision: float | None,
    memory_limit: int,
) -> LaplaceClassification:
    """Set up the curvature, choose the prior precision if it is not given, and build the posterior."""
    curvature = _curvature(blocks, x, on_host(trained))
    if precision is None:
        norm = 0.0 if square_norm is None else float(square_norm)
        most = len(labels) * max(1, blocks.outputs - 1)
        check_bounded("LinearizedLaplace.classification", curvature.diagonal, norm)
        precision = best_precision(curvature.determined, norm, most)
    reduction = curvature.reduction(precision)
    return LaplaceClassification(
        model, trained, reduction, square_norm, precision, memory_limit, labels, curvature
    )


def _curvature(blocks: OutputBlocks, x: Any, scores: Float[np.ndarray, "n k"]) -> Curvature:
    gram = blocks.gram(x)
    exact = on_host(gram)
    if blocks.width < blocks.outputs:
        return IndependentCurvature(blocks, x, exact, likelihood_probabilities(scores))
    root = curvature_root(scores)
    count, width, rank = root.shape
    size = count * rank
    half = root.transpose(0, 2, 1) @ exact.reshape(count, width, count * width)
    half = half.reshape(size, count, width).transpose(1, 0, 2) @ root
    sandwich = half.transpose(1, 0, 2).reshape(size, size)
    cutoff = rounding(root, np.diag(exact).reshape(count, width), gram.dtype)
    who = "LinearizedLaplace.classification"
    spectrum = decompose((sandwich + sandwich.T) / 2, name=repr(blocks.kernel), cutoff=cutoff, who=who)
    return CoupledCurvature(blocks, x, root, spectrum)


def rounding(root: Float[np.ndarray, "n w r"], diagonal: Float[np.ndarray, "n w"], dtype: Any) -> float:
    """How far rounding can move an eigenvalue of `B^T Θ B`.

    Entries of Θ are off by one rounding of `√(Θ_aa Θ_bb)`, so those of the product by `eps u u^T`, `u = |B|^T √diag Θ`:
    the Frobenius norm is `eps |u|²`, and the eigensolver's own error `n eps64` of at most that.
    """
    sizes = np.einsum("nwr,nw->nr", np.abs(root), np.sqrt(diagonal.clip(0.0)))
    entries = 0.0 if dtype == np.float64 else float(np.finfo(dtype).eps)
    return (sizes.size * float(np.finfo(np.float64).eps) + entries) * float(np.sum(sizes**2))
