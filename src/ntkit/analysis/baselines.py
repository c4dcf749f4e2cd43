"""What a user would try first: scikit-learn's usual models, tuned a little, on the same encoded table."""

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Kernel, Matern, WhiteKernel
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.svm import SVC, SVR
from threadpoolctl import threadpool_limits

from ntkit.tables.split import limit_rows

MOST_GRADIENT_ENTRIES = 12_000_000
"""Gaussian processes of scikit-learn hold rows^2 x length scales numbers at once; more rows are subsampled."""

MOST_ROWS_REGRESSION = 1000
MOST_ROWS_TIMES_CLASSES = 3000

MOST_EVALUATIONS = {"regression": 60, "binary": 30, "multiclass": 6}
"""Evaluations of the marginal likelihood per search: bounded, and the same on every machine. Classification runs one
search per class, each evaluation of which is itself a Newton iteration."""
MOST_LENGTH_SCALES = 40
"""With more inputs than this an ARD process is neither affordable nor sensible; it is left out."""

SVM_GRID = {"C": [0.3, 3.0, 30.0], "gamma_factor": [0.3, 1.0, 3.0]}
FOLDS = 5


@dataclass(frozen=True)
class BaselineResult:
    """A baseline's predictions on the test rows.

    Attributes:
        name: The method, with the number of rows where it could not use all.
        mean: Predicted targets, encoded scale, shape (m,); None for classification.
        std: Standard deviation of a new observation, shape (m,); None for classification. Models without one of their
            own get the root mean squared cross-validated (or out-of-bag) residual.
        probabilities: Class probabilities, shape (m, k); None for regression.
        seconds: Time to fit and predict.
    """

    name: str
    mean: Float[np.ndarray, " m"] | None
    std: Float[np.ndarray, " m"] | None
    probabilities: Float[np.ndarray, "m k"] | None
    seconds: float


def regression_baselines(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, " n"], x_test: Float[np.ndarray, "m d"], seed: int
) -> Iterator[BaselineResult]:
    """Fit mean, ridge, random forest, RBF SVM, RBF and ARD Matérn Gaussian processes, one after the other."""
    processes = _process_kernels(x.shape[1])
    methods: list[tuple[str, Callable[[], tuple[str, np.ndarray, np.ndarray | float]]]] = [
        ("mean of the training targets", lambda: ("", np.full(len(x_test), y.mean()), float(y.std()))),
        ("ridge regression", lambda: _ridge(x, y, x_test)),
        ("random forest", lambda: _forest(x, y, x_test, seed)),
        ("RBF support vector machine", lambda: _svr(x, y, x_test, seed)),
        *(
            (f"{name} Gaussian process", lambda kernel=kernel: _process(kernel, x, y, x_test, seed))
            for name, kernel in processes
        ),
    ]
    for name, method in methods:
        start = time.perf_counter()
        with warnings.catch_warnings(), threadpool_limits(limits=1, user_api="blas"):
            warnings.simplefilter(
                "ignore"
            )  # length scales at their bounds and the like: the baseline's own business
            note, mean, std = method()
        spread = np.broadcast_to(np.asarray(std, dtype=np.float64), mean.shape).copy()
        yield BaselineResult(name + note, mean, spread, None, time.perf_counter() - start)


def classification_baselines(
    x: Float[np.ndarray, "n d"],
    codes: Int[np.ndarray, " n"],
    classes: int,
    x_test: Float[np.ndarray, "m d"],
    seed: int,
) -> Iterator[BaselineResult]:
    """Fit majority, logistic regression, random forest, RBF SVM and Gaussian process classifiers."""
    smallest = int(np.bincount(codes)[np.unique(codes)].min())
    folds = (
        StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
        if smallest >= FOLDS
        else KFold(FOLDS, shuffle=True, random_state=seed)
    )
    # Without 2 rows of each class in every fold a fold would miss classes, and cross-validation cannot compare.
    tuned = smallest >= 2 * FOLDS
    logistic = LogisticRegression(max_iter=2000)
    forest = RandomForestClassifier(300, random_state=seed)
    methods: list[tuple[str, BaseEstimator, int]] = [
        ("class frequencies", DummyClassifier(strategy="prior"), len(x)),
        (
            "logistic regression",
            GridSearchCV(logistic, {"C": [0.01, 0.1, 1.0, 10.0]}, scoring="neg_log_loss", cv=folds)
            if tuned
            else logistic,
            len(x),
        ),
        ("random forest", forest, len(x)),
    ]
    if tuned:
        methods.append(("RBF support vector machine", _svc(x, folds), len(x)))
    for name, kernel in _process_kernels(x.shape[1]):
        limit = min(_process_rows(kernel, x.shape[1]), MOST_ROWS_TIMES_CLASSES // classes)
        search = _bounded_search(MOST_EVALUATIONS["binary" if classes == 2 else "multiclass"])
        process = GaussianProcessClassifier(kernel, optimizer=search, random_state=seed)
        methods.append((f"{name} Gaussian process", process, limit))
    for name, estimator, limit in methods:
        start = time.perf_counter()
        rows = limit_rows(len(x), limit, seed)
        if len(np.unique(codes[rows])) < 2:
            continue
        # Hundreds of small factorisations are many times slower on several threads than on one.
        with warnings.catch_warnings(), threadpool_limits(limits=1, user_api="blas"):
            warnings.simplefilter("ignore")
            estimator.fit(x[rows], codes[rows])  # type: ignore[attr-defined]
            probabilities = np.zeros((len(x_test), classes))
            probabilities[:, estimator.classes_] = estimator.predict_proba(x_test)  # type: ignore[attr-defined]
        yield BaselineResult(
            name + _row_note(len(rows), len(x)), None, None, probabilities, time.perf_counter() - start
        )


def _ridge(x, y, x_test) -> tuple[str, np.ndarray, float]:
    model = RidgeCV(np.logspace(-3, 4, 29), store_cv_results=True).fit(x, y)
    best = int(np.argmin(model.cv_results_.mean(axis=0)))
    return "", model.predict(x_test), float(model.cv_results_[:, best].mean() ** 0.5)


def _forest(x, y, x_test, seed: int) -> tuple[str, np.ndarray, float]:
    model = RandomForestRegressor(300, min_samples_leaf=2, oob_score=True, random_state=seed).fit(x, y)
    return "", model.predict(x_test), float(np.mean((model.oob_prediction_ - y) ** 2) ** 0.5)


def _svr(x, y, x_test, seed: int) -> tuple[str, np.ndarray, float]:
    grid = {"C": SVM_GRID["C"], "gamma": _gammas(x)}
    folds = KFold(min(FOLDS, len(x)), shuffle=True, random_state=seed)
    model = GridSearchCV(SVR(epsilon=0.1), grid, scoring="neg_mean_squared_error", cv=folds).fit(x, y)
    return "", model.predict(x_test), float((-model.best_score_) ** 0.5)


def _svc(x, folds) -> CalibratedClassifierCV:
    """Support vectors give no probabilities; a sigmoid on cross-validated scores does (Platt 1999)."""
    grid = {"C": SVM_GRID["C"], "gamma": _gammas(x)}
    return CalibratedClassifierCV(GridSearchCV(SVC(), grid, cv=folds), cv=3, ensemble=False)


def _gammas(x) -> list[float]:
    scale = 1.0 / (x.shape[1] * max(float(x.var()), 1e-12))
    return [factor * scale for factor in SVM_GRID["gamma_factor"]]


def _process_kernels(features: int) -> list[tuple[str, Kernel]]:
    """An isotropic RBF kernel, and an ARD Matérn 5/2 where there are few enough inputs."""
    length = features**0.5
    bounds = (1e-2, 1e3)
    kernels: list[tuple[str, Kernel]] = [("RBF", ConstantKernel(1.0, (1e-3, 1e3)) * RBF(length, bounds))]
    if features <= MOST_LENGTH_SCALES:
        matern = Matern(np.full(features, length), bounds, nu=2.5)
        kernels.append(("ARD Matérn", ConstantKernel(1.0, (1e-3, 1e3)) * matern))
    return kernels


def _process_rows(kernel: Kernel, features: int) -> int:
    """How many rows a process can be given."""
    return int((MOST_GRADIENT_ENTRIES / kernel.n_dims) ** 0.5)


def _process(kernel: Kernel, x, y, x_test, seed: int) -> tuple[str, np.ndarray, np.ndarray]:
    limit = min(MOST_ROWS_REGRESSION, _process_rows(kernel, x.shape[1]))
    rows = limit_rows(len(x), limit, seed)
    noisy = kernel + WhiteKernel(0.1, (1e-6, 1e2))
    search = _bounded_search(MOST_EVALUATIONS["regression"])
    model = GaussianProcessRegressor(noisy, optimizer=search, random_state=seed).fit(x[rows], y[rows])
    mean, std = model.predict(x_test, return_std=True)  # the white kernel is part of std
    return _row_note(len(rows), len(x)), mean, std


def _bounded_search(evaluations: int):
    """A search over hyper-parameters, in the form that scikit-learn asks for, of bounded length."""

    def search(objective, initial, bounds):
        result = minimize(
            objective, initial, method="L-BFGS-B", jac=True, bounds=bounds, options={"maxfun": evaluations}
        )
        return result.x, result.fun

    return search


def _row_note(used: int, available: int) -> str:
    return "" if used == available else f" (on {used} of {available} rows)"
