"""Learning curves: the expected error of kernel regression against the number of samples, from the spectrum."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

from ntkit.kernels.base import Kernel
from ntkit.numerics.dtypes import Array, as_targets, check_finite
from ntkit.numerics.host import on_host
from ntkit.numerics.points import number_of_points
from ntkit.theory.spectrum import eigensystem


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """Expected errors of kernel ridge regression on n random samples; s numbers of samples, m distinct modes.

    The predictor is `K(x, X) (K + ridge I)^{-1} y`, with the ridge of the *summed* squared loss. Test errors are mean
    squared errors against clean targets; the noise of a test label is not in them.

    Attributes:
        samples: the numbers of training points, shape (s,).
        ridge: of `K + ridge I`.
        noise: variance of the noise on the training targets.
        threshold: κ, shape (s,): modes of eigenvalue far above it are learnt, far below not.
        learnability: `λ / (λ + κ)` of every mode, in [0, 1], shape (s, m).
        overfitting: `E_0 = n / (n − Σ learnability²)`, shape (s,): by how much noise and unlearnt modes are
            amplified; infinite at the interpolation threshold of a finite-dimensional model without ridge.
        mode_errors: each mode's part of the test error, shape (s, m).
        test_error: `Σ mode_errors + (E_0 − 1) noise`, on fresh points of the distribution, shape (s,).
        train_error: mean squared residual on the (noisy) training targets, shape (s,).
        pool: the number of points when the distribution is that of a finite pool, else None.
    """

    samples: Float[np.ndarray, " s"]
    ridge: float
    noise: float
    threshold: Float[np.ndarray, " s"]
    learnability: Float[np.ndarray, "s m"]
    overfitting: Float[np.ndarray, " s"]
    mode_errors: Float[np.ndarray, "s m"]
    test_error: Float[np.ndarray, " s"]
    train_error: Float[np.ndarray, " s"]
    pool: int | None = None

    @property
    def held_out_error(self) -> Float[np.ndarray, " s"]:
        """The test error on points that were not drawn: `(P test − n train) / (P − n)` for a pool of P points.

        `test_error` is a mean over all of a pool, training points included. Without a pool both are the same.
        """
        if self.pool is None:
            return self.test_error
        return (self.pool * self.test_error - self.samples * self.train_error) / (self.pool - self.samples)


def learning_curve(
    eigenvalues: Float[Array, " m"],
    squared_coefficients: Float[Array, " same"],
    samples: Any,
    ridge: float | int = 0.0,
    noise: float | int = 0.0,
    multiplicity: Float[Array, " also_same"] | None = None,
) -> LearningCurve:
    """The expected learning curve of kernel (ridge) regression from a Mercer spectrum and a target.

    κ solves `Σ_i λ_i / (λ_i + κ) + ridge / κ = n`, the left side counting every mode; with learnabilities
    `L_i = λ_i / (λ_i + κ)` and `E_0 = n / (n − Σ L_i²)`,
    `test error = E_0 (Σ (1 − L_i)² v_i² + noise) − noise` and
    `training error = (ridge / (n κ))² E_0 (Σ (1 − L_i)² v_i² + noise)`.
    Learnabilities share out the samples: `Σ L_i + ridge / κ = n`. Exact as n and the number of modes grow, under the
    assumption that eigenfunctions at random points act like independent Gaussian variables; measure
    (`measured_learning_curve`) where that is in doubt.

    Args:
        eigenvalues: λ_i in Mercer's normalisation (`eig(K) / n` on data), at least 0, in any order, shape (m,).
        squared_coefficients: v_i², the target's mean square on each mode; on all of a degenerate mode together. A mode
            of eigenvalue 0 can hold what no kernel expansion explains; it acts as noise.
        samples: numbers of training points n, at least 1; one or several.
        ridge: of the summed loss, `K + ridge I`. What a truncated spectrum leaves out belongs here too.
        noise: variance of independent noise on the training targets.
        multiplicity: how often each eigenvalue counts; by default once.

    Raises:
        ValueError: for spectra, coefficients, samples, ridge or noise that are negative or do not fit together.

    Source:
        Bordelon, Canatar & Pehlevan (2020), Spectrum dependent learning curves, equations 4 and 5; Canatar, Bordelon &
        Pehlevan (2021), Spectral bias and task-model alignment, equation 4 (their κ is n times this one);
        Simon, Dickens, Karkada & DeWeese (2023), The eigenlearning framework, equations 4 to 10.

    >>> curve = learning_curve(np.ones(4), np.full(4, 0.25), samples=[2, 8], noise=0.1)
    >>> curve.learnability.sum(axis=1).round(9).tolist(), curve.test_error.round(9).tolist()
    ([2.0, 4.0], [0.6, 0.1])
    """
    who = "learning_curve"
    values, powers = (on_host(given) for given in (eigenvalues, squared_coefficients))
    counts = np.ones(len(values)) if multiplicity is None else on_host(multiplicity)
    _check_modes(who, values, powers, counts)
    sizes = as_samples(who, samples)
    ridge, noise = (_at_least_zero(who, name, given) for name, given in (("ridge", ridge), ("noise", noise)))

    thresholds, learnt, overfitting, freedom = [], [], [], []
    for size in sizes:
        kappa, share = _threshold(values, counts, float(size), ridge)
        # L = 1 for every mode that the kernel has where neither ridge nor lack of samples limits it.
        learnability = values / (values + kappa) if kappa > 0 else (values > 0).astype(np.float64)
        # n - Σ L² = Σ L (1 - L) + ridge/κ: a sum of positive terms.
        spare = float((counts * learnability * (1.0 - learnability)).sum()) + share
        thresholds.append(kappa)
        learnt.append(learnability)
        overfitting.append(size / spare if spare > 0 else np.inf)
        freedom.append(share / size)
    learnability, amplified = np.array(learnt), np.array(overfitting)
    missed = np.square(1.0 - learnability) * powers[None, :]
    mode_errors = _amplify(amplified[:, None], missed)
    total = _amplify(amplified, missed.sum(axis=1) + noise)
    return LearningCurve(
        samples=sizes,
        ridge=ridge,
        noise=noise,
        threshold=np.array(thresholds),
        learnability=learnability,
        overfitting=amplified,
        mode_errors=mode_errors,
        # Not `total - noise`, which loses the digits of an error far below the noise.
        test_error=mode_errors.sum(axis=1) + _amplify(amplified - 1.0, np.full(len(sizes), noise)),
        train_error=_amplify(np.square(freedom), total),
    )


def learning_curve_on(
    kernel: Kernel, x: Any, y: Float[Array, "p k"], samples: Any, ridge: float | int = 0.0
) -> LearningCurve:
    """The learning curve that a pool of labelled points predicts for training on random subsets of it.

    The pool stands for the distribution: its eigensystem for Mercer's, `mean_i φ_a(x_i) y_i` for the target's
    coefficients, averaged over outputs (errors are means over points and outputs). Noise on the pool's targets is
    among their coefficients already. `held_out_error` is what a subset's complement measures. The eigenvalues of p
    points stand for those of the distribution as long as n is well below p.

    Args:
        kernel: any kernel.
        x: the pool of p points, as the kernel takes them: an array, or a pytree of arrays.
        y: its targets, shape (p, k).
        samples: sizes of the subsets, from 1 to p − 1.
        ridge: of the summed loss, `K + ridge I`.

    >>> from ntkit import RBF
    >>> x = np.linspace(-2.0, 2.0, 40)[:, None]
    >>> learning_curve_on(RBF(), x, np.sin(2.0 * x), [4, 8], ridge=0.1).held_out_error.round(3).tolist()
    [0.312, 0.084]
    """
    x = kernel.as_inputs("learning_curve_on", x)
    points = number_of_points(x)
    y = on_host(as_targets("learning_curve_on", y, points))
    sizes = as_samples("learning_curve_on", samples, points - 1)
    system = eigensystem(kernel, x)
    powers = np.square(system.coefficients(y)).mean(axis=1)
    values = np.where(system.eigenvalues > system.cutoff, system.eigenvalues, 0.0)
    curve = learning_curve(values, powers, sizes, ridge)
    return replace(curve, pool=points)


def as_samples(who: str, samples: Any, largest: int | None = None) -> Float[np.ndarray, " s"]:
    """Numbers of training points, one or several, as float64 of shape (s,).

    Raises:
        ValueError: for numbers that are not whole, below 1 or above `largest`.
    """
    sizes = np.atleast_1d(np.asarray(samples, dtype=np.float64))
    if sizes.ndim != 1 or sizes.size == 0:
        raise ValueError(f"{who} needs samples as a number or a list of them, got shape {sizes.shape}.")
    wrong = sizes[~((sizes >= 1) & (sizes == np.floor(sizes)) & np.isfinite(sizes))]
    if wrong.size:
        raise ValueError(f"{who} needs whole numbers of samples of at least 1, got {wrong[0]}.")
    if largest is not None and sizes.max() > largest:
        raise ValueError(
            f"{who} needs at most {largest} samples, to leave a point for testing, got {sizes.max():.0f}."
        )
    return sizes


def _threshold(values: np.ndarray, counts: np.ndarray, size: float, ridge: float) -> tuple[float, float]:
    """κ, and `ridge / κ`, the number of samples that no mode uses; κ = 0 when samples exceed modes without ridge."""
    positive = values > 0
    values, counts = values[positive], counts[positive]
    modes = float(counts.sum())
    if ridge == 0.0 and size >= modes:
        return 0.0, size - modes

    def excess(log_kappa: float) -> float:
        kappa = np.exp(log_kappa)
        return float((counts * (values / (values + kappa))).sum()) + ridge / kappa - size

    # Each term is below what it is without λ in the denominator, hence the upper end. Lower ends: the ridge alone;
    # or, when the K strongest modes outnumber the samples, those modes as if all were as weak as the K-th.
    upper = (float((counts * values).sum()) + ridge) / size
    lower = ridge / size
    order = np.argsort(-values)
    strongest = np.cumsum(counts[order])
    enough = strongest > size
    if enough.any():
        lower = max(lower, float((values[order] * (strongest / size - 1.0))[enough].max()))
    low, high = np.log(lower) - 1e-9, np.log(upper) + 1e-9
    kappa = float(np.exp(brentq(excess, low, high, xtol=1e-14, rtol=4 * np.finfo(float).eps)))
    return kappa, ridge / kappa


def _amplify(factor: Any, error: np.ndarray) -> np.ndarray:
    """The product, 0 where either is 0 even if the other is infinite."""
    factor, error = np.broadcast_arrays(factor, error)
    return np.multiply(factor, error, where=(error > 0) & (factor > 0), out=np.zeros(error.shape))


def _at_least_zero(who: str, name: str, value: float | int) -> float:
    if not (np.isfinite(value) and value >= 0):
        raise ValueError(f"{who} needs a finite {name} of at least 0, got {value}.")
    return float(value)


def _check_modes(who: str, values: np.ndarray, powers: np.ndarray, counts: np.ndarray) -> None:
    if not len(values) == len(powers) == len(counts) or len(values) == 0:
        raise ValueError(
            f"{who} needs one squared coefficient and one multiplicity per eigenvalue, got {len(values)} eigenvalues, "
            f"{len(powers)} coefficients and {len(counts)} multiplicities."
        )
    for name, numbers in (
        ("eigenvalues", values),
        ("squared_coefficients", powers),
        ("multiplicity", counts),
    ):
        check_finite(who, numbers, name)
        if (numbers < 0).any():
            raise ValueError(f"{who} needs {name} of at least 0, got {numbers[numbers < 0][0]}.")
    if not (values > 0).any():
        raise ValueError(f"{who} needs a positive eigenvalue, got only zeros.")
