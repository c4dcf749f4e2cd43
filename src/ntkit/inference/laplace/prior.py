"""A trained model and its tangent kernel: a prior over functions near it, to be conditioned on the training data."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Float

from ntkit.empirical import EmpiricalNTK
from ntkit.empirical.function import Function, Params
from ntkit.empirical.taylor import expansion
from ntkit.inference.laplace.classification import LaplaceClassification, classify
from ntkit.inference.laplace.memory import GIBIBYTE, check_memory
from ntkit.inference.laplace.output_blocks import (
    Coupled,
    Independent,
    OutputBlocks,
)
from ntkit.inference.laplace.regression import LaplaceRegression, regress
from ntkit.inference.laplace.softmax import as_labels
from ntkit.kernels.base import Kernel
from ntkit.numerics.dtypes import Array, as_targets, check_finite, is_concrete
from ntkit.numerics.host import on_host
from ntkit.numerics.points import number_of_points


@dataclass(frozen=True, eq=False)
class LinearizedLaplace:
    """The linearised-Laplace approximation of a trained model: sure where its tangent kernel has seen data.

    The model is linearised at its trained weights θ*, `f(x; θ) ≈ f(x; θ*) + J(x) (θ - θ*)`, with a prior
    `θ ~ N(m, 1/δ)`. The posterior of its outputs has the trained model's outputs as mean and, with `K = J J^T / δ` the
    scaled tangent kernel over points and outputs and Λ the likelihood's curvature at the training outputs (`1/σ²` for
    regression, `diag(p) - p p^T` of each point for classification), the covariance

        K_** - K_*X (K_XX + Λ^{-1})^{-1} K_X*.

    Hyper-parameters that are not given maximise the Laplace approximation of the marginal likelihood. Both are exact
    Bayesian inference for a regression that is linear in its weights, at the mode. The mean is the trained model
    whatever δ is, so training should have ended at a mode: with the loss `½ Σ |f - y|²`, weight decay of strength
    `σ²δ` toward m. A model that fits its targets exactly by over-training has residuals that say nothing about σ².

    The linear algebra is in float64 on the host; answers have the array library and dtype of the points asked about.

    Args:
        kernel: the tangent kernel at θ*, a `Kernel` with `full(x1, x2)` of shape (n, m, k, k), such as `EmpiricalNTK`.
        model: the trained function, points to outputs (n, k); scores (logits) for classification.
        square_norm: `|θ* - m|²`; only needed to fit the prior precision and for the marginal likelihood.
        outputs: "coupled" takes the full k x k blocks, systems of n k unknowns; "independent" their average over
            outputs for every output alone, systems of n unknowns, k of them for a classification.
        memory_limit: bytes that matrices over the training data may take.

    Raises:
        ValueError: for a negative square_norm, unknown outputs.

    Source:
        MacKay (1992), "A practical Bayesian framework for backpropagation networks"; Khan et al. (2019), "Approximate
        inference turns deep networks into Gaussian processes"; Immer et al. (2021), "Improving predictions of Bayesian
        neural nets via local linearization"; Daxberger et al. (2021), "Laplace redux".

    >>> import numpy as np
    >>> x, y = np.array([[1.0], [2.0]]), np.array([[2.5], [4.0]])
    >>> laplace = linearized_laplace(lambda w, x: x @ w, np.array([[2.0]]))
    >>> posterior = laplace.regression(x, y, noise=1.0, prior_precision=5.0)
    >>> posterior.mean(np.array([[10.0]])), posterior.variance(np.array([[10.0]])).round(6)   # 100 / (1 + 4 + 5)
    (array([[20.]]), array([10.]))
    """

    kernel: Kernel
    model: Any
    square_norm: float | int | None = None
    outputs: Literal["coupled", "independent"] = "coupled"
    memory_limit: int = 4 * GIBIBYTE

    def __post_init__(self) -> None:
        if self.square_norm is not None and not (np.isfinite(self.square_norm) and self.square_norm >= 0):
            raise ValueError(
                f"LinearizedLaplace needs square_norm as a finite number of at least 0, got {self.square_norm}."
            )
        if self.outputs not in ("coupled", "independent"):
            raise ValueError(
                f'LinearizedLaplace needs outputs "coupled" or "independent", got {self.outputs!r}.'
            )

    def regression(
        self,
        x: Any,
        y: Float[Array, "n k"],
        *,
        noise: float | int | None = None,
        prior_precision: float | int | None = None,
    ) -> LaplaceRegression:
        """The posterior of a model trained on targets `y = f(x) + e`, `e ~ N(0, noise)`.

        One eigendecomposition of the tangent kernel on the data; every candidate of the two hyper-parameters after it
        costs O(n k).

        Args:
            x: training inputs.
            y: training targets, shape (n, k).
            noise: the *variance* of the observation noise; by default it maximises the marginal likelihood.
            prior_precision: δ; by default it maximises the marginal likelihood.

        Raises:
            ValueError: for arguments that do not fit each other, matrices beyond `memory_limit`, or hyper-parameters
                that the marginal likelihood does not determine.
            NotPositiveDefiniteError: when the kernel has a materially negative eigenvalue.
        """
        who = "LinearizedLaplace.regression"
        noise, precision = _positive(who, "noise", noise), _positive(who, "prior_precision", prior_precision)
        trained = self._trained(who, x)
        y = as_targets(who, y, len(trained))
        if not is_concrete(y):
            raise ValueError(_TRACED.format(who=who))
        if y.shape != trained.shape:
            raise ValueError(
                f"{who} needs as many targets as outputs, got {y.shape[1]} and {trained.shape[1]}."
            )
        blocks = self._blocks(trained.shape[1])
        self._check_memory(who, trained.shape, 6 * (len(trained) * blocks.width) ** 2)
        self._check_norm(who, precision)
        residual = float(np.sum((on_host(y) - on_host(trained)) ** 2))
        return regress(
            blocks, self.model, x, trained, residual, self.square_norm, noise, precision, self.memory_limit
        )

    def classification(
        self, x: Any, labels: Any, *, prior_precision: float | int | None = None
    ) -> LaplaceClassification:
        """The posterior of the scores of a classifier trained by cross-entropy, `p(label | x) = softmax(f(x))`.

        The curvature is the generalised Gauss-Newton matrix. A model of one output is a logistic classifier of the
        labels 0 and 1.

        Args:
            x: training inputs.
            labels: the class of each point, whole numbers from 0, shape (n,).
            prior_precision: δ; by default it maximises the marginal likelihood.

        Raises:
            ValueError: for arguments that do not fit each other, matrices beyond `memory_limit`, or a prior precision
                that the marginal likelihood does not determine.
            NotPositiveDefiniteError: when the kernel has a materially negative eigenvalue.
        """
        who = "LinearizedLaplace.classification"
        precision = _positive(who, "prior_precision", prior_precision)
        trained = self._trained(who, x)
        if not is_concrete(labels):
            raise ValueError(_TRACED.format(who=who))
        checked = as_labels(who, labels, on_host(trained))
        count, outputs = trained.shape
        blocks = self._blocks(outputs)
        numbers = (2 * outputs + 6) * count**2 if blocks.width < outputs else 6 * (count * outputs) ** 2
        self._check_memory(who, trained.shape, numbers)
        self._check_norm(who, precision)
        return classify(
            blocks, self.model, x, trained, checked, self.square_norm, precision, self.memory_limit
        )

    def _blocks(self, outputs: int) -> OutputBlocks:
        return (Coupled if self.outputs == "coupled" else Independent)(self.kernel, outputs)

    def _trained(self, who: str, x: Any) -> Array:
        """The outputs of the model on the training points, checked."""
        if not is_concrete(x):
            raise ValueError(_TRACED.format(who=who))
        outputs = self.model(x)
        outputs = outputs if isinstance(outputs, jax.Array) else np.asarray(outputs)
        if outputs.ndim != 2 or len(outputs) != number_of_points(x) or outputs.dtype.kind != "f":
            raise ValueError(
                f"{who} needs a model that returns floating outputs of shape (points, outputs), got {outputs.dtype} of "
                f"shape {outputs.shape} for {number_of_points(x)} points."
            )
        check_finite(who, outputs, "model(x)")
        return outputs

    def _check_memory(self, who: str, shape: tuple[int, ...], numbers: int) -> None:
        points, outputs = shape
        remedy = "fewer training points"
        if self.outputs == "coupled" and outputs > 1:
            smaller = 8 * (2 * outputs + 6) * points**2 / GIBIBYTE
            remedy = f'outputs="independent" (at most {smaller:.2g} GiB), {remedy}'
        check_memory(who, numbers, self.memory_limit, points, outputs, remedy)

    def _check_norm(self, who: str, precision: float | None) -> None:
        if precision is None and self.square_norm is None:
            raise ValueError(
                f"{who} needs square_norm, the squared distance of the weights from the prior mean, to fit the prior "
                "precision. Pass LinearizedLaplace(square_norm=...), or prior_precision=."
            )


def linearized_laplace(
    f: Function,
    params: Params,
    *,
    prior_mean: Params | None = None,
    outputs: Literal["coupled", "independent"] = "coupled",
    memory_limit: int = 4 * GIBIBYTE,
) -> LinearizedLaplace:
    """The `LinearizedLaplace` approximation of a trained JAX function, with its `EmpiricalNTK`.

    A function of a part of the weights gives the approximation over that part:
    `linearized_laplace(lambda head, x: f({**params, **head}, x), head)` is that of the last layer.

    Args:
        f: `f(params, x)`, inputs (n, ...) to outputs (n, k); scores (logits) for classification.
        params: the trained weights θ*, a pytree of floating-point arrays.
        prior_mean: m, a pytree like `params`; zero by default, the initial weights for training near them.
        outputs: "coupled" or "independent", see `LinearizedLaplace`.
        memory_limit: bytes that matrices over the training data may take.

    Raises:
        ValueError: for weights that are not finite, or a prior mean that is not like them.

    >>> import numpy as np
    >>> x, labels = np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array([0, 0, 1, 1])
    >>> posterior = linearized_laplace(lambda w, x: x @ w, np.array([[1.5]])).classification(x, labels)
    >>> posterior.class_probabilities(np.array([[1.0], [100.0]])).round(3)
    array([[0.22 , 0.78 ],
           [0.087, 0.913]])
    """
    square_norm = _square_distance(params, prior_mean)
    model = partial(expansion("linearized_laplace", f, params, 0), params)
    return LinearizedLaplace(EmpiricalNTK(f, params), model, square_norm, outputs, memory_limit)


def _square_distance(params: Params, prior_mean: Params | None) -> float:
    leaves, structure = jax.tree_util.tree_flatten(params)
    arrays = [on_host(leaf) for leaf in leaves]
    for array in arrays:
        check_finite("linearized_laplace", array, "params")
    if prior_mean is None:
        return float(sum(np.sum(array**2) for array in arrays))
    others, other_structure = jax.tree_util.tree_flatten(prior_mean)
    centres = [on_host(leaf) for leaf in others]
    if structure != other_structure or [a.shape for a in arrays] != [c.shape for c in centres]:
        raise ValueError(
            "linearized_laplace needs prior_mean of the structure and shapes of params, got others."
        )
    for centre in centres:
        check_finite("linearized_laplace", centre, "prior_mean")
    return float(sum(np.sum((array - centre) ** 2) for array, centre in zip(arrays, centres, strict=True)))


_TRACED = (
    "{who} needs arrays that hold numbers, got values traced by JAX. Call it outside of jit, grad and vmap."
)


def _positive(who: str, name: str, value: float | int | None) -> float | None:
    if value is not None and not (np.isfinite(value) and value > 0):
        raise ValueError(f"{who} needs {name} as a positive, finite number, got {value}.")
    return None if value is None else float(value)
