"""Learning curves measured: kernel regression on random subsets of a pool, tested on the rest."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from ntkit.engines.plan import tracked
from ntkit.errors import NotPositiveDefiniteError
from ntkit.kernels.base import Kernel
from ntkit.numerics.dtypes import Array, as_targets
from ntkit.numerics.host import on_host
from ntkit.numerics.points import number_of_points
from ntkit.solvers import Cholesky, Eigh
from ntkit.theory.learning_curve import as_samples


@dataclass(frozen=True, eq=False)
class MeasuredLearningCurve:
    """Errors of kernel regression on random subsets; s sizes, r repetitions.

    Attributes:
        samples: the sizes, shape (s,).
        test_errors: mean squared error over the points outside the subset and over outputs, shape (r, s).
        train_errors: the same over the subset, shape (r, s).
        interrupted: whether Ctrl-C ended the repetitions early.
    """

    samples: Float[np.ndarray, " s"]
    test_errors: Float[np.ndarray, "r s"]
    train_errors: Float[np.ndarray, "r s"]
    interrupted: bool

    @property
    def mean(self) -> Float[np.ndarray, " s"]:
        """The mean test error."""
        return self.test_errors.mean(axis=0)

    @property
    def standard_error(self) -> Float[np.ndarray, " s"]:
        """The standard error of `mean` over the choice of subsets of this pool, not over pools."""
        return self.test_errors.std(axis=0, ddof=1) / len(self.test_errors) ** 0.5


def measured_learning_curve(
    kernel: Kernel,
    x: Any,
    y: Float[Array, "p k"],
    samples: Any,
    *,
    ridge: float | int = 0.0,
    repeats: int = 10,
    seed: int = 0,
) -> MeasuredLearningCurve:
    """Fit `K (K + ridge I)^{-1} y` on random subsets of a pool and test on the points left out.

    The kernel is evaluated once, on the pool. Without a ridge a singular matrix is answered by the solution of least
    norm. Progress is shown on a terminal; Ctrl-C keeps the repetitions that are finished.

    Args:
        kernel: any kernel.
        x: the pool of p points, as the kernel takes them: an array, or a pytree of arrays.
        y: its targets, shape (p, k).
        samples: sizes of the subsets, from 1 to p − 1.
        ridge: of the summed loss, at least 0.
        repeats: subsets of each size, at least 2.
        seed: of the subsets.

    Raises:
        KeyboardInterrupt: when interrupted before two repetitions were finished.

    >>> from ntkit import RBF
    >>> x = np.linspace(-2.0, 2.0, 40)[:, None]
    >>> measured = measured_learning_curve(RBF(), x, np.sin(2.0 * x), [8, 16], ridge=1e-3)
    >>> bool(measured.mean[1] < measured.mean[0])
    True
    """
    who = "measured_learning_curve"
    x = kernel.as_inputs(who, x)
    points = number_of_points(x)
    y = on_host(as_targets(who, y, points))
    sizes = as_samples(who, samples, points - 1)
    if not (np.isfinite(ridge) and ridge >= 0):
        raise ValueError(f"{who} needs a finite ridge of at least 0, got {ridge}.")
    if repeats < 2:
        raise ValueError(f"{who} needs at least 2 repeats, for a standard error, got {repeats}.")
    gram = np.asarray(kernel(x))
    generator = np.random.default_rng(seed)
    test_errors: list[list[float]] = []
    train_errors: list[list[float]] = []
    interrupted = False
    try:
        for _ in tracked(range(repeats), repeats, "measuring the learning curve"):
            order = generator.permutation(points)
            errors = [_errors(gram, y, order, int(size), float(ridge)) for size in sizes]
            test_errors.append([test for test, _ in errors])
            train_errors.append([train for _, train in errors])
    except KeyboardInterrupt:
        if len(test_errors) < 2:
            raise
        interrupted = True
    finished = len(test_errors)
    return MeasuredLearningCurve(sizes, np.array(test_errors), np.array(train_errors[:finished]), interrupted)


def _errors(
    gram: np.ndarray, y: np.ndarray, order: np.ndarray, size: int, ridge: float
) -> tuple[float, float]:
    """Test and training error of regression on the first `size` points of an order."""
    inside, outside = order[:size], order[size:]
    known = gram[np.ix_(inside, inside)]
    try:
        weights = Cholesky().factor(known, ridge).solve(y[inside])
    except NotPositiveDefiniteError:
        weights = Eigh().factor(known, ridge).solve(y[inside])
    test = on_host(gram[np.ix_(outside, inside)]) @ weights - y[outside]
    train = on_host(known) @ weights - y[inside]
    return float(np.square(test).mean()), float(np.square(train).mean())
