"""Infinitely wide networks as scikit-learn estimators."""

from ntkit.estimators.classifier import NTKClassifier
from ntkit.estimators.nngp_regressor import NNGPRegressor
from ntkit.estimators.ntk_regressor import NTKRegressor

__all__ = ["NNGPRegressor", "NTKClassifier", "NTKRegressor"]
