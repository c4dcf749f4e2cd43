"""Infinitely wide networks as scikit-learn estimators."""

from ntkit.estimators.classifier import NTKClassifier
from ntkit.estimators.image_scaler import ImageScaler
from ntkit.estimators.nngp_regressor import NNGPRegressor
from ntkit.estimators.ntk_regressor import NTKRegressor

__all__ = ["ImageScaler", "NNGPRegressor", "NTKClassifier", "NTKRegressor"]
