"""Feature maps: finitely many features whose inner products approximate a kernel."""

from abc import abstractmethod
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ntkit.kernels.base import Kernel
from ntkit.numerics.dtypes import Array, as_point_pair, as_points, is_concrete
from ntkit.numerics.host import like


class FeatureMap(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, Kernel):
    """Features `φ(x)` of a point, shape (m,), with `φ(x)·φ(x') ≈ K(x, x')` for a given kernel K.

    It is a transformer of scikit-learn (`fit`, `transform`, `get_feature_names_out`; float64 NumPy) and, once
    fitted, itself a `Kernel`, `φ(x)·φ(x')`, of rank at most m: a linear model on the features is kernel regression
    with it in O(n m²) instead of O(n³).
    """

    @property
    def _n_features_out(self) -> int:
        """How many features there are, by scikit-learn's name for it."""
        return self.n_features_out_

    n_features_out_: int

    @abstractmethod
    def _prepare(self, X: np.ndarray) -> int:
        """Choose the map for these data and return its number of features."""

    @abstractmethod
    def _features(self, X: np.ndarray) -> np.ndarray:
        """`φ(x_i)`, shape (n, m)."""

    def fit(self, X: Any, y: Any = None) -> "FeatureMap":
        """Choose the features on X, shape (n, d); `y` is not used."""
        X = validate_data(self, X, dtype=np.float64)
        self.n_features_out_ = self._prepare(X)
        return self

    def transform(self, X: Any) -> Float[np.ndarray, "n m"]:
        """The features of X, shape (n, m), float64."""
        check_is_fitted(self)
        return self._features(validate_data(self, X, dtype=np.float64, reset=False))

    def __call__(
        self, x1: Float[Array, "n1 d"], x2: Float[Array, "n2 d"] | None = None
    ) -> Float[Array, "n1 n2"]:
        who = type(self).__name__
        x1, x2 = as_point_pair(who, x1, x2)
        left = self._of(who, x1)
        return like(left @ (left if x2 is None else self._of(who, x2)).T, x1)

    def diag(self, x: Float[Array, "n d"]) -> Float[Array, " n"]:
        who = type(self).__name__
        return like((self._of(who, as_points(who, x)) ** 2).sum(axis=1), x)

    def _of(self, who: str, x: Any) -> np.ndarray:
        if not is_concrete(x):
            raise ValueError(
                f"{who} needs concrete arrays, got values traced by JAX. Call it outside jit and grad."
            )
        return self.transform(np.asarray(x))

    # A fitted map is itself only: kernels compare by their numbers, which an estimator keeps elsewhere.
    __eq__ = object.__eq__
    __hash__ = object.__hash__
