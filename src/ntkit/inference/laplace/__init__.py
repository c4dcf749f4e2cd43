"""The linearised-Laplace predictive: how sure a trained model is, from its tangent kernel."""

from ntkit.inference.laplace.classification import LaplaceClassification
from ntkit.inference.laplace.prior import LinearizedLaplace, linearized_laplace
from ntkit.inference.laplace.regression import LaplaceRegression

__all__ = ["LaplaceClassification", "LaplaceRegression", "LinearizedLaplace", "linearized_laplace"]
