"""ntkit: infinitely wide neural networks, the neural tangent kernel, and what both predict without training."""

from ntkit import nn
from ntkit.dynamics import LinearizedModel, gradient_descent, gradient_flow
from ntkit.empirical import EmpiricalNTK, NTKOperator, linearize, taylor_expand
from ntkit.estimators import NNGPRegressor, NTKClassifier, NTKRegressor
from ntkit.inference import GaussianProcess, linearized_laplace
from ntkit.kernels import NNGP, NTK, RBF
from ntkit.theory import KernelTracker, track

__version__ = "0.1.0"

__all__ = [
    "NNGP",
    "NTK",
    "RBF",
    "EmpiricalNTK",
    "GaussianProcess",
    "KernelTracker",
    "LinearizedModel",
    "NNGPRegressor",
    "NTKClassifier",
    "NTKOperator",
    "NTKRegressor",
    "gradient_descent",
    "gradient_flow",
    "linearize",
    "linearized_laplace",
    "nn",
    "taylor_expand",
    "track",
]
